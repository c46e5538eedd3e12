import numpy as np
import pytest
import tifffile
from PIL import Image

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.pack import PackSettings, pack
from leukoscope.common.errors import InputError


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def packed(source, out, **settings):
    report = pack(source, out, settings=PackSettings(**settings), jobs=2)
    return CellSet.open(out), report


def rejected(out):
    return (out / "rejected.csv").read_text().splitlines()[1:]


def test_sub_folders_are_classes(tmp_path):
    for label in ("NEU", "LYM"):
        for k in range(3):
            save(tmp_path / "in" / label / f"{k}.png", noise(16, 16, seed=k))
    cellset, report = packed(tmp_path / "in", tmp_path / "out")
    assert report.packed == len(cellset) == 6
    assert cellset.cells["label"].tolist() == ["LYM"] * 3 + ["NEU"] * 3
    assert cellset.cells["source"].tolist() == [f"{label}/{k}.png" for label in ("LYM", "NEU") for k in range(3)]
    assert cellset.ids[0].endswith(":LYM/0.png#0")
    np.testing.assert_array_equal(cellset.images[1, 0], noise(16, 16, seed=1))


def test_a_flat_folder_has_no_labels_and_passes_other_files_by(tmp_path):
    save(tmp_path / "in" / "a.png", noise(16, 16))
    (tmp_path / "in" / "notes.txt").write_text("hello")
    (tmp_path / "in" / "._a.png").write_bytes(b"resource fork")
    cellset, report = packed(tmp_path / "in", tmp_path / "out")
    assert "label" not in cellset.cells
    assert (report.packed, report.rejected, report.ignored) == (1, 0, 1)


def test_columns_come_from_paths_where_asked(tmp_path):
    for name in ("P1_s1_a.png", "P1_s2_a.png", "P2_s1_a.png"):
        save(tmp_path / "in" / "NEU" / name, noise(16, 16))
    cellset, _ = packed(tmp_path / "in", tmp_path / "out", from_path=r"(?P<patient>P\d)_(?P<slide>s\d)_")
    assert cellset.cells["patient"].tolist() == ["P1", "P1", "P2"]
    assert cellset.cells["slide"].tolist() == ["s1", "s2", "s1"]
    assert cellset.cells["label"].tolist() == ["NEU"] * 3


def test_an_expression_that_fits_no_path_is_an_error(tmp_path):
    save(tmp_path / "in" / "a.png", noise(16, 16))
    with pytest.raises(InputError, match=r"--from-path .* is found in none of 1 paths, such as a\.png"):
        packed(tmp_path / "in", tmp_path / "out", from_path=r"(?P<patient>P\d)_")
    assert not (tmp_path / "out").exists()


def test_bad_files_are_set_aside_with_their_reasons(tmp_path):
    source = tmp_path / "in"
    save(source / "good.png", noise(16, 16))
    save(source / "constant.png", np.full((16, 16), 7, np.uint8))
    (source / "empty.png").touch()
    (source / "text.jpg").write_text("no image")
    (source / "cut.png").write_bytes((source / "good.png").read_bytes()[:120])
    (source / "gone.png").symlink_to(source / "nowhere.png")
    tifffile.imwrite(source / "float.tif", np.eye(16, dtype=np.float32))
    cellset, report = packed(source, tmp_path / "out")
    assert (len(cellset), report.rejected) == (1, 6)
    reasons = dict(line.split(",", 2)[::2] for line in rejected(tmp_path / "out"))
    assert reasons["constant.png"] == "constant image"
    assert reasons["empty.png"] == "empty file"
    assert reasons["text.jpg"].startswith('"not an image of a known format') or "not an image" in reasons["text.jpg"]
    assert "broken file" in reasons["cut.png"]
    assert "cannot be opened" in reasons["gone.png"]
    assert "float32 pixels" in reasons["float.tif"]
    assert sum(report.reasons.values()) == 6


def test_a_folder_without_images_says_so(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").touch()
    with pytest.raises(InputError, match=r"in: holds no images \(1 other files\)"):
        packed(tmp_path / "in", tmp_path / "out")


def test_where_nothing_can_be_packed_the_first_reason_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    with pytest.raises(InputError, match=r"no cell could be packed, 1 rejected; a\.png: empty file"):
        packed(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_out_of_the_source_are_refused_unless_allowed(tmp_path):
    source = tmp_path / "in"
    save(tmp_path / "secret" / "x.png", noise(16, 16, seed=1))
    save(source / "a.png", noise(16, 16))
    (source / "file.png").symlink_to(tmp_path / "secret" / "x.png")
    (source / "folder").symlink_to(tmp_path / "secret")
    (source / "inside.png").symlink_to(source / "a.png")
    (source / "loop").symlink_to(source)
    cellset, report = packed(source, tmp_path / "out")
    assert cellset.cells["source"].tolist() == ["a.png", "inside.png"]
    assert [line.split(",")[0] for line in rejected(tmp_path / "out")] == ["file.png", "folder"]
    assert all("outside the source; give --allow-outside" in line for line in rejected(tmp_path / "out"))
    cellset, report = packed(source, tmp_path / "all", allow_outside=True)
    assert cellset.cells["source"].tolist() == ["a.png", "file.png", "folder/x.png", "inside.png"]
    assert report.rejected == 0


def test_names_that_are_no_text_are_packed(tmp_path):
    source = tmp_path / "in"
    save(source / "a.png", noise(16, 16))
    (source / "a.png").rename(source / b"a\xff.png".decode("utf-8", "surrogateescape"))
    cellset, _ = packed(source, tmp_path / "out")
    assert cellset.cells["source"].tolist() == ["a\\xff.png"]


def test_multi_page_tiff(tmp_path):
    stack = noise(7, 20, 22, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "cells.tif", stack, photometric="minisblack")
    cellset, _ = packed(tmp_path / "cells.tif", tmp_path / "out")
    np.testing.assert_array_equal(cellset.images[:, 0], stack)
    assert cellset.images.dtype == np.uint16
    assert [identity.rpartition(":")[2] for identity in cellset.ids] == [f"cells.tif#{k}" for k in range(7)]


def test_a_long_stack_is_packed_in_pieces_with_the_same_result(tmp_path, monkeypatch):
    stack = noise(100, 20, 22, dtype=np.uint16)
    stack[41] = 9
    tifffile.imwrite(tmp_path / "cells.tif", stack, photometric="minisblack", compression="zlib")
    whole, _ = packed(tmp_path / "cells.tif", tmp_path / "whole")
    monkeypatch.setattr("leukoscope.cells.readers.pieces._LARGE_BYTES", 1)
    pieces, report = packed(tmp_path / "cells.tif", tmp_path / "pieces")
    assert whole.info == pieces.info
    assert rejected(tmp_path / "pieces") == rejected(tmp_path / "whole") == ["cells.tif,41,constant image"]
    assert report.packed == 99


def test_a_page_that_cannot_be_decoded_does_not_take_the_others_along(tmp_path):
    stack = noise(6, 40, 40, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "cells.tif", stack, compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "cells.tif") as tiff:
        place = tiff.pages[3].dataoffsets[0]
    data = bytearray((tmp_path / "cells.tif").read_bytes())
    data[place : place + 40] = bytes(40)
    (tmp_path / "cells.tif").write_bytes(data)
    _, report = packed(tmp_path / "cells.tif", tmp_path / "out")
    assert (report.packed, report.rejected) == (5, 1)
    assert rejected(tmp_path / "out")[0].startswith("cells.tif,3,broken file")


def test_channel_files_are_joined_and_incomplete_ones_set_aside(tmp_path):
    for k in range(3):
        for channel in (1, 3):
            (tmp_path / "in").mkdir(exist_ok=True)
            tifffile.imwrite(
                tmp_path / "in" / f"{k}_Ch{channel}.ome.tif", noise(20, 20, dtype=np.uint16, seed=10 * k + channel)
            )
    (tmp_path / "in" / "1_Ch3.ome.tif").unlink()
    cellset, _ = packed(tmp_path / "in", tmp_path / "out", channels=("*_Ch3.ome.tif", "BF=*_Ch1.ome.tif"))
    assert cellset.info.channels == ("Ch3", "BF")
    assert cellset.cells["source"].tolist() == ["0_Ch3.ome.tif", "2_Ch3.ome.tif"]
    np.testing.assert_array_equal(cellset.images[1, 0], noise(20, 20, dtype=np.uint16, seed=23))
    np.testing.assert_array_equal(cellset.images[1, 1], noise(20, 20, dtype=np.uint16, seed=21))
    assert rejected(tmp_path / "out") == ["1_Ch1.ome.tif,,channel missing (no 1_Ch3.ome.tif beside it)"]


def test_channel_files_that_do_not_belong_together_are_set_aside(tmp_path):
    (tmp_path / "in").mkdir()
    for name, shape in {"a_1.tif": (20, 20), "a_2.tif": (20, 21), "b_1.tif": (20, 20), "b_2.tif": (20, 20)}.items():
        tifffile.imwrite(tmp_path / "in" / name, noise(*shape, dtype=np.uint16))
    _, report = packed(tmp_path / "in", tmp_path / "out", channels=("*_1.tif", "*_2.tif"))
    assert report.packed == 1
    assert "its channels differ in size or depth (20x20 uint16, 21x20 uint16)" in rejected(tmp_path / "out")[0]


def test_real_flow_images(tmp_path, real_cells):
    cellset, report = packed(real_cells / "atom", tmp_path / "out", from_path=r"(?P<label>[^/_]+)_[^/]*$")
    assert (report.packed, report.rejected) == (30, 0)
    assert cellset.info.channels == ("grey",)
    assert cellset.cells["label"].value_counts().to_dict() == {"THP1": 8, "PBMC": 8, "MCF7": 8, "MB231": 6}


def test_real_smears(tmp_path, real_cells):
    (tmp_path / "in").mkdir()
    paths = sorted((real_cells / "pbc" / "basophil").iterdir())[:5]
    for path in paths:
        (tmp_path / "in" / path.name).symlink_to(path)
    cellset, _ = packed(tmp_path / "in", tmp_path / "out", allow_outside=True)
    with Image.open(paths[2]) as image:
        np.testing.assert_array_equal(cellset.images[2], np.asarray(image).transpose(2, 0, 1))
