import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.audit import audit
from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.common.files import write_json
from leukoscope.encoders.bundle import random_encoder
from leukoscope.encoders.embed import embed
from leukoscope.encoders.features import Features


@pytest.fixture
def features(tmp_path: Path) -> Path:
    truth = np.arange(60) % 2
    x = (np.eye(4)[truth] * 3 + np.random.default_rng(0).normal(size=(60, 4))).astype(np.float32)
    cells = pd.DataFrame({"cell_id": [f"h{i}:x#{i}" for i in range(60)], "label": np.array(["LYM", "NEU"])[truth]})
    Features(x, cells, {"method": "moco"}).write(tmp_path / "moco.h5ad")
    return tmp_path / "moco.h5ad"


def test_features_in_table_and_report_out(
    features: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    quick = [
        "--head",
        "linear",
        "--n-folds",
        2,
        "--n-bootstrap",
        20,
        "--set",
        "probes.inner_folds=2",
        "--few-labels",
        "4,10",
        "--set",
        "few.draws=2",
        "--no-maps",
        "--json",
    ]
    assert leukoscope("evaluate", features, f"again={features}", out, *quick) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["encoder,", "head", "accuracy", "balanced", "accuracy", "F1"]
    assert lines[1].startswith("moco linear")
    assert lines[2].startswith("again linear")
    assert set(json.loads(lines[-1])["scores"]) == {"moco", "again"}
    assert "labelled cells: moco" in (out / "report.html").read_text()
    before = (out / "results.json").read_text()
    assert leukoscope("evaluate", "--rescore", out) == 0
    assert (out / "results.json").read_text() == before
    capsys.readouterr()
    assert leukoscope("evaluate", "--rescore", out, "--class-groups", "lymphoid=LYM;other=*") == 0
    assert "class groups: lymphoid = LYM; other = NEU" in capsys.readouterr().out
    assert (out / "figures" / "group-confusion-moco-linear.svg").is_file()


def test_the_runs_behind_the_features_bring_curves_and_heat_into_the_report(
    tmp_path: Path, leukoscope: Callable[..., int]
) -> None:
    cells = simulate(tmp_path / "c.set", cells=40, size=32, classes=["LYM", "NEU"], patients=4)
    encoder = random_encoder("resnet18", cells, size=32)
    encoder.save(tmp_path / "run" / "encoder")
    (tmp_path / "run" / "history.csv").write_text("epoch,loss\n1,2.5\n2,1.5\n")
    embed(cells, encoder, tmp_path / "moco.h5ad", device="cpu")
    write_json(tmp_path / "audit.json", audit([cells]).as_dict())
    quick = ["--head", "linear", "--n-folds", 2, "--n-bootstrap", 0, "--set", "probes.inner_folds=2", "--no-maps"]
    given = ["--run", tmp_path / "run", "--audit", tmp_path / "audit.json", "--cells", cells.path]
    assert leukoscope("evaluate", tmp_path / "moco.h5ad", tmp_path / "out", *quick, *given) == 0
    drawn = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"gradcam-moco", "training"} <= drawn


def test_a_class_misspelt_in_a_group_is_told_before_anything_is_fitted(
    features: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert leukoscope("evaluate", features, tmp_path / "run", "--class-groups", "a=LYX;b=*") == 2
    told = "error: class groups: 'a' names 'LYX', which is no class; did you mean 'LYM'?"
    assert capsys.readouterr().err.strip().splitlines()[-1] == told
    assert not (tmp_path / "run").exists()


def test_mistakes_end_with_one_line_and_code_2(
    features: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in [
        ([tmp_path / "run"], "evaluate: give FEATURES... and OUT, or --rescore RUN"),
        (["none.h5ad", tmp_path / "run"], "none.h5ad: no such features"),
        ([features, features, tmp_path / "run"], "there is an encoder 'moco' already; name it with NAME="),
        ([features, tmp_path / "run", "--set", "probe.x=1"], "--set: unknown key 'probe'; did you mean 'probes'?"),
        ([features, tmp_path / "run", "--few-labels", "ten"], "--few-labels: counts.0"),
        ([features, tmp_path / "run", "--run", tmp_path], "not an encoder bundle"),
        ([features, tmp_path / "run", "--class-groups", "LYM"], "--class-groups: 'LYM' is not GROUP=CLASS,CLASS,..."),
        (["--rescore", tmp_path], "predictions.parquet: cannot be read as predictions"),
    ]:
        assert leukoscope("evaluate", *words) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error


def test_an_encoder_is_fine_tuned_in_the_folds_of_the_evaluation(
    bars: CellSet, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = random_encoder("test_resnet", bars, size=16)
    encoder.save(tmp_path / "encoder")
    embed(bars, encoder, tmp_path / "random.h5ad", device="cpu")
    few = ["--set", "finetune.two={batch: 20, stages: {head: {epochs: 1}, all: {epochs: 1}}}"]
    few = [*few, "--set", f"finetune.two.encoder={tmp_path / 'encoder'}"]
    quick = ["--head", "linear", "--n-folds", 2, "--n-bootstrap", 20, "--no-maps", "--device", "cpu"]
    words = ["evaluate", tmp_path / "random.h5ad", tmp_path / "run", "--cells", bars.path, *quick]
    assert leukoscope(*words, *few) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert ["random", "linear"] in rows
    assert ["two", "finetuned"] in rows
    assert leukoscope(*words, "--finetune", "two", "--overwrite") == 2
    assert "--finetune two: expected NAME=ENCODER" in capsys.readouterr().err
    assert leukoscope(*words, "--finetune", "two=nowhere", "--overwrite") == 2
    assert "nowhere: not an encoder bundle" in capsys.readouterr().err
