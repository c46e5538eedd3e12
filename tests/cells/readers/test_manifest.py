import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import PackSettings, pack
from leukoscope.common.errors import InputError


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)


@pytest.fixture
def images(tmp_path):
    (tmp_path / "img").mkdir()
    for k in range(6):
        Image.fromarray(noise(k)).save(tmp_path / "img" / f"{k}.png")
    return tmp_path


def packed(source, **settings):
    out = source.parent / "out"
    report = pack(source, out, settings=PackSettings(**settings), jobs=2, overwrite=True)
    return CellSet.open(out), report


def write(folder, text, name="cells.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_columns_are_kept_in_the_order_of_the_table(images):
    table = write(
        images,
        "path,label,patient,slide,batch,area,code\n"
        "img/3.png,NEU,07,s1,b1,12.5,001\n"
        "img/1.png,NA,08,s1,b2,13,002\n"
        "img/2.png,,08,s2,b2,,003\n",
    )
    cellset, report = packed(table)
    assert report.packed == 3
    cells = cellset.cells
    assert cells.columns.tolist() == ["cell_id", "source", "label", "patient", "slide", "batch", "area", "code"]
    assert cells["label"].tolist()[:2] == ["NEU", "NA"]
    assert pd.isna(cells["label"][2])
    assert cells["patient"].tolist() == ["07", "08", "08"]
    assert cells["area"].tolist()[:2] == [12.5, 13.0]
    assert cells["code"].tolist() == ["001", "002", "003"]
    np.testing.assert_array_equal(cellset.images[0, 0], noise(3))


@pytest.mark.parametrize("suffix", ["parquet", "tsv"])
def test_parquet_and_tabs(images, suffix):
    frame = pd.DataFrame({"path": ["img/0.png", "img/1.png"], "label": [1, 2], "area": [1.5, 2.5]})
    table = images / f"cells.{suffix}"
    frame.to_parquet(table) if suffix == "parquet" else frame.to_csv(table, sep="\t", index=False)
    cellset, _ = packed(table)
    assert cellset.cells["label"].tolist() == ["1", "2"]
    assert cellset.cells["area"].tolist() == [1.5, 2.5]


def test_other_names_and_a_template_for_paths(images):
    table = write(images, "image ID,class label\n1,2\n3,1\n")
    cellset, _ = packed(table, columns=("label=class label",), path_template="img/{image ID:d}.png")
    assert cellset.cells["source"].tolist() == ["img/1.png", "img/3.png"]
    assert cellset.cells["label"].tolist() == ["2", "1"]


def test_files_that_are_missing_outside_or_listed_twice_are_set_aside(images):
    (images / "elsewhere").mkdir()
    table = write(
        images / "elsewhere",
        "path,label\n../img/0.png,a\nnone.png,b\n1.png,c\n1.png,c\n/etc/passwd,d\n",
    )
    Image.fromarray(noise(1)).save(images / "elsewhere" / "1.png")
    cellset, report = packed(table)
    reasons = (table.parent / "out" / "rejected.csv").read_text()
    assert (report.packed, report.rejected) == (1, 4)
    assert "../img/0.png,,lies outside the source; give --allow-outside" in reasons
    assert "none.png,,cannot be opened (No such file or directory)" in reasons
    assert "1.png,,listed twice" in reasons
    assert "of a kind that is not read" in reasons
    cellset, report = packed(table, allow_outside=True)
    assert cellset.cells["source"].tolist() == ["../img/0.png", "1.png"]


def test_paths_may_start_elsewhere_and_use_backslashes(images):
    (images / "tables").mkdir()
    table = write(images / "tables", "path\nimg\\0.png\nimg/1.png\n")
    cellset, _ = packed(table, root=images)
    assert cellset.cells["source"].tolist() == ["img/0.png", "img/1.png"]


def test_experts_agree(images):
    table = write(
        images,
        "path,expert_1,expert_2,expert_3\nimg/0.png,NEU,NEU,\nimg/1.png,NEU,LYM,NEU\nimg/2.png,LYM,,\nimg/3.png,MON,MON,MON\n",
    )
    cellset, report = packed(table, agree=2)
    assert (report.packed, report.rejected, report.disagreed) == (2, 0, 2)
    assert cellset.cells["label"].tolist() == ["NEU", "MON"]
    assert cellset.cells["n_experts"].tolist() == [2, 3]
    assert cellset.cells["expert_1"].tolist() == ["NEU", "MON"]
    cellset, _ = packed(table, agree=1, experts="expert_[12]")
    assert cellset.cells["label"].tolist() == ["NEU", "LYM", "MON"]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("file,label\na,b\n", {}, "no column path; it has file, label .*--column path=.*--path-template"),
        ("path,source\na,b\n", {}, "the column 'source' is made by packing; rename it with --column"),
        ("path,label\na,b\n", {"columns": ("label=class",)}, "no column 'class'; it has path, label"),
        ("path,label,x\na,b,c\n", {"columns": ("label=x",)}, "there is a column 'label' already"),
        ("id\n1\n", {"path_template": "{ID}.png"}, "no column 'ID'; it has id"),
        ("id\nx\n", {"path_template": "{id:03d}.png"}, "--path-template .*invalid literal"),
        ("path,label\na,b\n,b\n", {}, "1 rows without a path, the first is row 2; fill or drop them"),
        ("path;label\na;b\n", {}, "its columns are parted by semicolons; save it with commas"),
        ("", {}, "cannot be read as a table"),
    ],
)
def test_faults_of_a_table_are_told_in_one_line(tmp_path, text, settings, message):
    table = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        packed(table, **settings)
    assert "cells.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "cells.csv").write_bytes("path,label\nZelle-ä.png,b\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"cells\.csv: is no UTF-8 text; save the table as CSV in UTF-8"):
        packed(tmp_path / "cells.csv")


def test_templates_look_nothing_up_but_columns(tmp_path):
    table = write(tmp_path, "id\n1\n")
    with pytest.raises(InputError, match=r"no column 'id\.__class__'"):
        packed(table, path_template="{id.__class__}.png")


def test_real_table_of_another_maker(tmp_path, real_cells):
    settings = PackSettings(columns=("label=class label",), path_template="{image ID:03d}.bmp", size=120, fit="pad")
    report = pack(real_cells / "zheng-wbc" / "labels.csv", tmp_path / "out", settings=settings, jobs=2)
    cellset = CellSet.open(tmp_path / "out")
    assert (report.packed, report.rejected) == (300, 0)
    assert cellset.cells["label"].value_counts().to_dict() == {"1": 176, "2": 53, "3": 48, "4": 22, "5": 1}
    with Image.open(real_cells / "zheng-wbc" / "001.bmp") as image:
        np.testing.assert_array_equal(cellset.images[0], np.asarray(image).transpose(2, 0, 1))


def test_classes_and_other_values_get_names_and_those_without_one_stay(images):
    table = write(images, "path,label,batch\nimg/0.png,1,a\nimg/1.png,2,b\nimg/2.png,9,a\nimg/3.png,,\n")
    cellset, _ = packed(table, names={"label": {1: "neutrophil", 2: "lymphocyte"}, "batch": {"a": "first"}})
    assert cellset.cells["label"].tolist()[:3] == ["neutrophil", "lymphocyte", "9"]
    assert pd.isna(cellset.cells["label"][3])
    assert cellset.cells["batch"].tolist()[:3] == ["first", "b", "first"]
    assert cellset.info.packing["names"]["label"] == {"1": "neutrophil", "2": "lymphocyte"}


def test_each_channel_may_have_a_column_of_its_own(images):
    table = write(images, "folder,dna,actin,label\nimg,0.png,4.png,a\nimg,1.png,5.png,b\nimg,2.png,nowhere.png,c\n")
    cellset, report = packed(table, channels=("DNA={folder}/{dna}", "actin={folder}/{actin}"))
    assert cellset.info.channels == ("DNA", "actin")
    assert cellset.cells["source"].tolist() == ["img/0.png", "img/1.png"]
    np.testing.assert_array_equal(cellset.images[1], [noise(1), noise(5)])
    assert report.reasons == {"nowhere.png: cannot be opened (No such file or directory)": 1}


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (("DNA={dan}",), "--channels DNA={dan}: no column 'dan'; it has dna, label"),
        (("DNA={dna:x}",), "--channels DNA={dna:x}: "),
    ],
)
def test_a_channel_of_no_column_is_refused(images, channels, message):
    table = write(images, "dna,label\nimg/0.png,a\n")
    with pytest.raises(InputError, match=f"^{re.escape(f'{table}: {message}')}"):
        packed(table, channels=channels)


def test_a_table_without_rows_is_refused_by_name(images):
    with pytest.raises(InputError, match=r"\.csv: a table without rows; give one with a row for each image"):
        packed(write(images, "path,label\n"))


def test_a_folder_has_no_columns_to_take_channels_from(images):
    with pytest.raises(InputError, match=r"--channels DNA=\{dna\} names a column, and a folder has none; give a table"):
        packed(images / "img", channels=("DNA={dna}",))
