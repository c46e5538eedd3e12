import json
from collections.abc import Callable
from pathlib import Path

import pytest

from leukoscope.cells.simulate import simulate
from leukoscope.cells.spoil import spoil
from leukoscope.encoders.bundle import random_encoder
from leukoscope.encoders.embed import embed


def test_many_samples_go_on_where_a_call_was_cut_off(
    tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    cells = simulate(tmp_path / "cells.set", cells=120, size=32, classes=["NEU", "LYM"], patients=6)
    encoder = random_encoder("resnet18", cells, size=32)
    encoder.save(tmp_path / "encoder")
    embed(cells, encoder, device="cpu").write(tmp_path / "features.h5ad")
    assert leukoscope("fit", tmp_path / "features.h5ad", tmp_path / "classifier", "--folds", 3) == 0
    made = [tmp_path / name for name in ("encoder", "classifier", "samples")]
    words = ["classify", cells.path, *made, "--by", "patient", "--device", "cpu", "--json"]
    assert leukoscope(*words) == 0
    samples = json.loads(capsys.readouterr().out.splitlines()[-1])["samples"]
    pages = [Path(sample) / "report.html" for sample in samples]
    drawn = [page.stat().st_mtime_ns for page in pages]
    pages[0].unlink()
    assert leukoscope(*words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["samples"] == samples
    assert pages[0].is_file()
    assert [page.stat().st_mtime_ns for page in pages[1:]] == drawn[1:]


def test_quality_comes_first(
    tmp_path: Path,
    leukoscope: Callable[..., int],
    mistake: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = simulate(tmp_path / "cells.set", cells=200, size=32, classes=["NEU", "LYM"])
    other = simulate(tmp_path / "other.set", cells=40, size=32, classes=["NEU", "LYM"], seed=1)
    sample = spoil(other, tmp_path / "sample.set", kinds=["saturation"], grade=(1, 1), share=0.5)
    encoder = random_encoder("resnet18", cells, size=32)
    encoder.save(tmp_path / "encoder")
    embed(cells, encoder, device="cpu").write(tmp_path / "features.h5ad")
    words = ["fit", tmp_path / "features.h5ad", tmp_path / "classifier", "--false-alarm", 0.1, "--cells"]
    told = mistake(*words, other.path)
    assert told.startswith(f"error: {other.path}: lacks 200 of the 200 labelled cells")
    assert leukoscope(*words, cells.path) == 0
    made = [tmp_path / name for name in ("encoder", "classifier", "run")]
    assert leukoscope("classify", sample.path, *made, "--device", "cpu", "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    # One that is white all over is called empty.
    assert found["set_aside"]["saturated"] > 0.8 * (sample.cells["quality"] == "saturation").sum()
    assert found["n"] + sum(found["set_aside"].values()) == found["n_imaged"] == 40
    assert any(line.startswith(f"set aside {40 - found['n']} of 40 cells: saturated ") for line in lines)
    (tmp_path / "ours.csv").write_text("class,leukocyte\nLYM,no\n")
    ours = ["--overwrite", "--leukocytes", tmp_path / "ours.csv"]
    assert leukoscope("classify", sample.path, *made, *ours, "--device", "cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["classes"]["LYM"]["leukocytes"] is None
    told = mistake("classify", sample.path, *made, "--overwrite", "--quality", tmp_path / "classifier")
    assert told.startswith("error: --quality: a classifier of LYM, NEU, and none of these is 'normal'")
