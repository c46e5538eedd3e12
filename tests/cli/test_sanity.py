import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.encoders.features import Features


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Cells whose features show the database far better than the kind."""
    rng = np.random.default_rng(0)
    truth, new = np.arange(120) % 3, np.arange(120) % 2 == 0
    x = rng.normal(size=(120, 5))
    x[np.arange(120), truth] += 2
    x[:, 4] += 12 * new
    labels = np.array(["hairy", "LYM", "NEU"])[truth]
    cells = pd.DataFrame({"cell_id": [f"c{i}:x" for i in range(120)], "label": labels})
    cells["batch"] = np.where(new, "new", "old")
    Features(x.astype(np.float32), cells, {"method": "random"}).write(tmp_path / "e.h5ad")
    return tmp_path / "e.h5ad"


def test_what_features_tell_of_the_database_is_printed_and_kept(
    features: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--database", "batch", "--class", "hairy", "--home", "new", "--n-folds", 3, "--n-bootstrap", 20, "--json"]
    assert leukoscope("sanity", features, tmp_path / "run", *given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["e", "100.0"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert json.loads(lines[-1])["sanity"] == results["sanity"]
    table = pd.read_csv(tmp_path / "run" / "tables" / "sanity.csv").set_index("tested on")
    assert table.loc["C", "A+B+C"] > table.loc["C", "A+B"] + 0.3
    assert any(line.split()[:3] == ["e", "linear", "C"] for line in lines)


def test_a_class_without_its_place_is_refused(
    features: Path, tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert leukoscope("sanity", features, tmp_path / "run", "--database", "batch", "--class", "hairy") == 2
    assert "--class and --home belong together" in capsys.readouterr().err
