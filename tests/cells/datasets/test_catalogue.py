import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.datasets.catalogue import catalogue, find
from leukoscope.cells.datasets.describe import describe
from leukoscope.cells.datasets.entry import Entry
from leukoscope.cells.datasets.pack import pack_dataset
from leukoscope.common.errors import InputError

WANTED = (
    "bmc", "aml-hehr", "aml-matek", "acevedo", "raabin", "nuclick", "warty-pig", "lisc", "chula", "sslseg", "bccd",
    "aslan", "bbbc021", "bbbc022", "bloodmnist", "jurkat-ifc", "zheng-wbc", "atom",
)  # fmt: skip


def test_the_sets_of_the_papers_are_in_the_catalogue():
    assert sorted(catalogue()) == sorted(WANTED)


@pytest.mark.parametrize("name", WANTED)
def test_an_entry_is_whole(name):
    entry = find(name)
    entry.settings({}, {}, "test")
    assert entry.page.startswith("http")
    assert entry.evidence
    # Where the classes are all stated, so is their sum: a digit gone wrong shows here.
    for stated in entry.stated:
        if stated.classes and stated.cells is not None:
            assert sum(stated.classes.values()) == stated.cells
    text = "\n".join(describe(entry))
    for part in (entry.title, entry.licence, *entry.citation, *entry.unsure, *entry.download.splitlines()):
        assert part in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acevdo", "datasets: no set 'acevdo' in the catalogue; did you mean 'acevedo'? Known: acevedo, aml-hehr"),
        ("pbc", "did you mean 'acevedo'?"),
        ("zzz", "in the catalogue; Known: "),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_the_one_that_was_meant(name, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        find(name)


def test_a_stated_class_needs_a_code():
    data = find("zheng-wbc").model_dump() | {"stated": [{"by": "a paper", "classes": {"neutrophyl": 3}}]}
    with pytest.raises(InputError, match="a paper states classes without a code: neutrophyl"):
        Entry.parse(data, where="entry")


def test_settings_of_ones_own_go_over_those_of_the_entry(copy, tmp_path):
    root = copy(["data/NPM1/ABC/image_0.tif"], shape=(36, 36, 3))
    pack_dataset(find("aml-hehr"), root, tmp_path / "as published")
    pack_dataset(find("aml-hehr"), root, tmp_path / "resized", given={"size": 18})
    assert CellSet.open(tmp_path / "as published").info.pixel_size_um == 0.1729
    # Resized pixels are of another size, which nobody has stated.
    assert CellSet.open(tmp_path / "resized").info.pixel_size_um is None
    assert CellSet.open(tmp_path / "resized").info.width == 18


def test_what_is_to_be_cited_stands_in_the_cellset(copy, tmp_path):
    pack_dataset(find("aml-hehr"), copy(["data/NPM1/ABC/image_0.tif"], shape=(36, 36, 3)), tmp_path / "out")
    origin = CellSet.open(tmp_path / "out").info.origin
    assert origin.dataset == "aml-hehr"
    assert any("10.1371/journal.pdig.0000187" in line for line in origin.citation)


@pytest.mark.parametrize(
    ("name", "folder", "given", "message"),
    [
        ("bccd", "nowhere", {}, "nowhere: no such file or folder; download bccd from https://github.com/Shenggan"),
        ("bccd", "download", {}, "holds no copy of bccd (JPEGImages, Annotations); 'leukoscope datasets bccd' says"),
        ("raabin", "download", {}, "holds no copy of raabin; 'leukoscope datasets raabin' says what one looks like"),
        ("raabin", "download/a.png", {}, "holds no copy of raabin"),
        ("zheng-wbc", "download", {"root": "x"}, "datasets: root follows from the layout of zheng-wbc; leave it out"),
        ("zheng-wbc", "download", {"siez": 3}, "datasets: unknown key 'siez'; did you mean 'size'?"),
    ],
)
def test_mistakes_are_told_in_one_line(copy, tmp_path, name, folder, given, message):
    texts = {"labels.csv": "image ID,class label\n1,1\n"}
    copy(["a.png", "001.bmp"], texts, shape=(16, 16, 3))
    with pytest.raises(InputError) as error:
        pack_dataset(find(name), tmp_path / folder, tmp_path / "out", given=given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
