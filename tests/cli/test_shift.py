import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.simulate import simulate
from leukoscope.encoders.features import Features


def written(path: Path, name: str, n: int) -> Path:
    truth = np.arange(n) % 2
    x = (np.eye(4)[truth] * 3 + np.random.default_rng(len(name)).normal(size=(n, 4))).astype(np.float32)
    cells = pd.DataFrame({"cell_id": [f"{name}{i}:x#{i}" for i in range(n)], "label": np.array(["LYM", "NEU"])[truth]})
    Features(x, cells, {"method": "random"}).write(path / f"{name}.h5ad")
    return path / f"{name}.h5ad"


def test_the_drop_is_printed_and_kept(
    tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    known, new = written(tmp_path, "moco", 60), written(tmp_path, "elsewhere", 30)
    given = ["--known", known, "--new", f"moco={new}", "--new", f"moco+colour={new}"]
    quick = ["--head", "knn-5", "--n-folds", 2, "--n-bootstrap", 20, "--json"]
    assert leukoscope("shift", tmp_path / "run", *given, *quick) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("moco knn-5")
    assert lines[2].startswith("moco + colour knn-5")
    drop = json.loads(lines[-1])["drop"]["moco"]["knn-5"]["accuracy"]
    assert drop == json.loads((tmp_path / "run" / "results.json").read_text())["drop"]["moco"]["knn-5"]["accuracy"]


def test_features_of_the_new_cells_that_are_missing_are_named(
    tmp_path: Path, leukoscope: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    known, new = written(tmp_path, "moco", 60), written(tmp_path, "elsewhere", 30)
    assert leukoscope("shift", tmp_path / "run", "--known", known, "--new", f"moco+colour={new}") == 2
    assert "no features of the new cells by encoder moco; give --new moco=FILE" in capsys.readouterr().err


def test_cells_are_embedded_with_either_remedy(tmp_path: Path, leukoscope: Callable[..., int]) -> None:
    for number in range(2):
        simulate(tmp_path / f"{number}.set", cells=24, size=32, seed=number)
    base = ["embed", tmp_path / "0.set", "random:resnet18"]
    assert leukoscope(*base, tmp_path / "plain.h5ad") == 0
    assert leukoscope(*base, tmp_path / "norm.h5ad", "--adapt-batch-norm") == 0
    assert leukoscope(*base, tmp_path / "colour.h5ad", "--colours-of", tmp_path / "1.set") == 0
    plain, norm, colour = (Features.read(tmp_path / f"{name}.h5ad") for name in ("plain", "norm", "colour"))
    assert norm.uns["encoder_fingerprint"] != plain.uns["encoder_fingerprint"]
    assert colour.uns["encoder_fingerprint"] == plain.uns["encoder_fingerprint"]
    assert bool(colour.uns["recoloured"])
    assert np.abs(norm.x - plain.x).max() > 0.01
    assert np.abs(colour.x - plain.x).max() > 0.001
