import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.encoders.features import Features


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Twenty patients of ten cells; those of one diagnosis lie two standard deviations off."""
    rng = np.random.default_rng(0)
    number = np.repeat(np.arange(20), 10)
    x = rng.normal(size=(200, 6)) + 2 * (number % 2)[:, None]
    names = [f"P{each:02d}" for each in number]
    table = pd.DataFrame({"cell_id": [f"h{i}:x#{i}" for i in range(200)], "donor": names})
    table["diagnosis"] = np.where(number % 2, "AML", "healthy")
    Features(x.astype(np.float32), table, {"method": "random"}).write(tmp_path / "moco.h5ad")
    return tmp_path / "moco.h5ad"


def test_scores_of_patients_are_printed_and_kept(
    patients: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["--bag", "donor", "--label", "diagnosis", "--device", "cpu"]
    quick = ["--head", "mean", "--head", "mean-features", "--seeds", 1, "--n-bootstrap", 20, "--set", "train.epochs=20"]
    assert leukoscope("mil", patients, tmp_path / "run", *columns, *quick, "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "diagnosis: 20 patients (10 AML, 10 healthy), 5 folds, 1 seeds" in lines
    assert any(line.startswith("moco, mean ") and "±" in line for line in lines)
    assert lines[-2] == f"report: {tmp_path / 'run' / 'report.html'}"
    assert len(list((tmp_path / "run" / "patients").glob("*.html"))) == 20
    scores = json.loads(lines[-1])["scores"]["moco"]
    assert scores["mean-features"]["roc_auc_macro"]["mean"] > 0.9
    assert scores == json.loads((tmp_path / "run" / "results.json").read_text())["scores"]["moco"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--bag patient: no such column; the cells have"),
        (["--bag", "donor", "--label", "diagnosis", "--n-folds", 11], "class 'AML': 10 patients are too few for 11"),
        (["--bag", "donor", "--label", "diagnosis", "--set", "train.epoch=3"], "did you mean 'epochs'?"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(
    patients: Path, tmp_path: Path, mistake: Callable[..., str], options: list[object], message: str
) -> None:
    assert message in mistake("mil", patients, tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()
