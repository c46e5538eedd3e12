from pathlib import Path
from typing import Any

import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.common.files import read_json
from leukoscope.encoders.bundle import Encoder
from leukoscope.methods.kept import along
from leukoscope.methods.pretrain import pretrain
from leukoscope.methods.pretrain_settings import PretrainSettings
from leukoscope.training.history import read_history

TRAIN = {"batch": 8, "schedule": "constant", "monitor_cells": 16, "device": "cpu"}
METHOD = {"queue": 16, "norm_groups": 2}


def settings(epochs: int, train: dict[str, Any] | None = None, **more: Any) -> PretrainSettings:
    whole = {**TRAIN, "epochs": epochs, **(train or {})}
    chosen = {"backbone": "test_resnet", "size": 24, "method_settings": METHOD, "train": whole, **more}
    return PretrainSettings.parse(chosen, where="test")


def test_an_epoch_that_was_kept_is_the_encoder_of_a_run_that_ended_there(few_cells: Path, tmp_path: Path) -> None:
    cells, chosen = [CellSet.open(few_cells)], settings(4, keep_every=2)
    pretrain(cells, tmp_path / "long", settings=chosen)
    short = pretrain(cells, tmp_path / "short", settings=settings(2))
    kept = along(tmp_path / "long", chosen)
    assert list(kept) == [2, 4]
    assert kept[4] == tmp_path / "long" / "encoder"
    assert Encoder.load(kept[2]).fingerprint == Encoder.load(short).fingerprint != Encoder.load(kept[4]).fingerprint
    row = read_history(tmp_path / "long" / "history.csv")[1]
    told = read_json(kept[2].parent / "results.json")
    assert told["epoch"] == 2
    assert told["final"]["rankme"] == pytest.approx(float(row["rankme"]), rel=1e-5)


def test_a_run_that_stops_early_is_a_longer_one_cut_short(few_cells: Path, tmp_path: Path) -> None:
    cells, cosine = [CellSet.open(few_cells)], {"schedule": "cosine"}
    long = settings(4, train=cosine, keep_every=1)
    stopped = settings(4, train={**cosine, "stop_after": 2}, keep_every=1)
    pretrain(cells, tmp_path / "long", settings=long)
    pretrain(cells, tmp_path / "stopped", settings=stopped)
    whole, short = along(tmp_path / "long", long), along(tmp_path / "stopped", stopped)
    assert list(short) == [1, 2]
    assert Encoder.load(short[2]).fingerprint == Encoder.load(whole[2]).fingerprint
    assert len(read_history(tmp_path / "stopped" / "history.csv")) == 2


def test_the_last_epoch_is_not_kept_twice(few_cells: Path, tmp_path: Path) -> None:
    chosen = settings(2, keep_every=1)
    pretrain([CellSet.open(few_cells)], tmp_path / "run", settings=chosen)
    assert [path.name for path in (tmp_path / "run" / "epochs").iterdir()] == ["1"]
    assert along(tmp_path / "run", settings(2)) == {2: tmp_path / "run" / "encoder"}
