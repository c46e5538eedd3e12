import json

import numpy as np
import pytest
from PIL import Image

from leukoscope.cells.cellset import CellSet
from leukoscope.cli.main import run


def leukoscope(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["leukoscope", *map(str, words)])
    try:
        run()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def images(tmp_path):
    for label in ("NEU", "LYM"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for k in range(3):
            pixels = np.random.default_rng(k).integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "in" / label / f"{k}.png")
    (tmp_path / "in" / "NEU" / "empty.png").touch()
    return tmp_path / "in"


def test_the_summary_says_what_was_packed_and_what_not(images, tmp_path, monkeypatch, capsys):
    assert leukoscope(monkeypatch, "pack", images, tmp_path / "out", "--json") == 0
    said = capsys.readouterr().out
    assert "6 cells packed (16x16, 8 bit, grey)" in said
    assert "1 rejected, listed in rejected.csv" in said
    assert "1 empty file" in said
    told = json.loads(said.splitlines()[-1])
    assert (told["packed"], told["rejected"], told["dropped_padding"]) == (6, 1, 0)
    assert told["reasons"] == {"empty file": 1}
    assert len(CellSet.open(tmp_path / "out")) == 6


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nowhere", (), "nowhere: no such file or folder"),
        ("in", ("--fit", "stretch"), "pack: fit: input should be 'pad', 'crop' or 'resize' (given: 'stretch')"),
        ("in", ("--tile", "5"), "no cell could be packed, 7 rejected"),
        ("in", ("--channels", "Ch3.tif"), "needs exactly one star"),
        ("in", ("--percentiles", "99", "1"), "percentiles must rise, from 0 to 100"),
        ("in", ("--label-from-prefix", "--from-path", "(?P<label>.)"), "give one of them"),
        ("in", ("--class", "NEU"), "--class NEU: expected NEW=OLD, such as neutrophil=1"),
        ("in", ("--class", "a=NEU", "--class", "b=NEU"), "--class b=NEU: NEU is called a already"),
        ("in", ("--channels", "{a}"), "'{a}' says no channel; write DNA={a}"),
        ("in", ("--channels", "DNA={a}", "--channels", "Ch3_*.tif"), "all channels by columns, or all by patterns"),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(images, tmp_path, monkeypatch, capsys, source, options, message):
    assert leukoscope(monkeypatch, "pack", tmp_path / source, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


def test_every_option_reaches_the_settings(images, tmp_path, monkeypatch):
    options = [
        *("--reader", "images", "--size", "12", "--fit", "crop", "--centre", "14", "--bit-depth", "8", "--to-8-bit"),
        *("--percentiles", "1", "99", "--pixel-size-um", "0.5", "--from-path", "(?P<batch>.)\\.png"),
        *("--allow-outside", "--max-pixels", "1000", "--pages", "channels", "--jobs", "1"),
    ]
    assert leukoscope(monkeypatch, "pack", images, tmp_path / "out", *options) == 0
    cellset = CellSet.open(tmp_path / "out")
    assert cellset.info.packing == {
        "reader": "images",
        "size": 12,
        "fit": "crop",
        "centre": 14,
        "pages": "channels",
        "from_path": "(?P<batch>.)\\.png",
        "bit_depth": 8,
        "to_8_bit": True,
        "intensity": "percentile",
        "percentiles": [1.0, 99.0],
    }
    assert cellset.info.intensity.rule == "percentile"
    assert cellset.info.pixel_size_um == 0.5
    assert cellset.cells["batch"].tolist() == ["0", "1", "2"] * 2


def test_every_option_of_tables_reaches_the_settings(images, tmp_path, monkeypatch, capsys):
    rows = ["number,kind,reader_1,reader_2,x,y", "0,a,NEU,NEU,8,8", "1,b,NEU,LYM,8,8", "2,c,LYM,LYM,8,8"]
    (tmp_path / "cells.csv").write_text("\n".join(rows))
    options = [
        *("--root", images, "--path-template", "NEU/{number}.png", "--column", "note=kind"),
        *("--agree", "2", "--experts", "reader_*", "--crop", "8", "--channels", "grey=*.png"),
    ]
    assert leukoscope(monkeypatch, "pack", tmp_path / "cells.csv", tmp_path / "out", *options) == 0
    cells = CellSet.open(tmp_path / "out").cells
    assert cells["source"].tolist() == ["NEU/0.png", "NEU/2.png"]
    assert cells["label"].tolist() == ["NEU", "LYM"]
    assert cells["note"].tolist() == ["a", "c"]
    assert "1 rows dropped, experts too few or not of one mind" in capsys.readouterr().out


def test_a_renamed_class_of_no_cell_is_told(images, tmp_path, monkeypatch, caplog):
    assert leukoscope(monkeypatch, "pack", images, tmp_path / "out", "--class", "a=NEU", "--class", "b=NUE") == 0
    assert "--class b=...: no cell is of the class that it renames; is it misspelt?" in caplog.text
    assert "--class a" not in caplog.text


def test_classes_are_renamed(images, tmp_path, monkeypatch):
    assert leukoscope(monkeypatch, "pack", images, tmp_path / "out", "--class", "neutrophil=NEU") == 0
    assert set(CellSet.open(tmp_path / "out").cells["label"]) == {"neutrophil", "LYM"}
