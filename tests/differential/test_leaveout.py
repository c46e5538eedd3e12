from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.differential.leaveout import leave_out
from leukoscope.encoders.features import Features

RANDOM = np.random.default_rng(0)


def features(apart: float) -> Features:
    """Three kinds known to be near each other, and one that lies ``apart`` from them."""
    centres = np.array([[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0], [0, 0, 0, 3]], float)
    kinds = np.arange(1200) % 4
    x = RANDOM.normal(size=(1200, 8)) * 0.4
    x[:, :4] += np.where(kinds[:, None] == 3, centres[0] + (centres[3] - centres[0]) * apart, centres[kinds])
    table = pd.DataFrame({"cell_id": [f"c{i}" for i in range(1200)], "label": np.array(list("ABCX"))[kinds]})
    return Features(x.astype(np.float32), table)


def test_a_kind_that_lies_apart_is_noticed_and_the_false_alarms_are_those_stated(tmp_path: Path) -> None:
    found = leave_out(features(1.0), tmp_path / "run", kinds=["X"])
    for row in found["rows"]:
        assert row["kind"] == "X"
        assert row["unknown"] == 300
        assert row["interval"][0] <= row["roc_auc"] <= row["interval"][1]
        assert row["roc_auc"] > 0.98
        assert row["detected"] > 0.8
        assert row["false_alarm"] < 0.05
        assert row["noticed_from"]["200"] < 15
    assert (tmp_path / "run" / "tables" / "novelty.csv").is_file()


def test_a_kind_that_looks_like_another_is_not(tmp_path: Path) -> None:
    for row in leave_out(features(0.0), tmp_path / "run", kinds=["X"])["rows"]:
        assert 0.4 < row["roc_auc"] < 0.6
        assert row["detected"] < 0.06


def test_every_kind_takes_its_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = leave_out(features(1.0), tmp_path / "run")["rows"]
    assert [row["kind"] for row in rows[::2]] == list("ABCX")
    assert "novelty: 4/4 kinds" in capsys.readouterr().err


def test_an_unknown_kind_and_too_few_cells_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cell is of kind 'Y'; there are A, B, C, X"):
        leave_out(features(1.0), tmp_path / "run", kinds=["Y"])
    few = features(1.0).select(np.arange(100))
    with pytest.raises(InputError, match=r"known cells without X are too few for a false alarm of 0\.01"):
        leave_out(few, tmp_path / "run", kinds=["X"])
    assert not (tmp_path / "run").exists()
