import numpy as np
import pytest

from leukoscope.scores.drop import METRICS, drop, part_scores
from leukoscope.scores.metrics import score
from leukoscope.scores.predictions import predictions


def test_the_drop_is_told_as_the_thesis_tells_it() -> None:
    # hairy-cells-supcon, table 5.1, HAL-T3002: "a drop of 2.6%" (section 6.2) is relative.
    same = {"balanced_accuracy": {"value": 0.5}, "f1_macro": {"value": None}}
    parts = {
        "validation": {"accuracy": {"value": 0.9057}, "log_loss": {"value": 0.2921}, **same},
        "test": {"accuracy": {"value": 0.8821}, "log_loss": {"value": 0.4200}, **same},
    }
    found = drop(parts, "validation")
    assert found["accuracy"]["difference"] == pytest.approx(-0.0236)
    assert round(100 * found["accuracy"]["relative"], 1) == -2.6
    assert found["log_loss"]["difference"] == pytest.approx(0.1279)
    assert found["balanced_accuracy"] == {"difference": 0.0, "relative": 0.0}
    assert found["f1_macro"] == {"difference": None, "relative": None}


def test_parts_are_scored_each_by_itself_and_groups_widen_their_intervals() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(80) % 2
    # Cells of a group are right or wrong together.
    right = (np.arange(80) // 16 != 1)[:, None]
    p = np.where(right == np.eye(2, dtype=bool)[truth], 0.8, 0.2) + random.uniform(-0.1, 0.1, (80, 1)) * [1, -1]
    ids = np.array([f"c{i}" for i in range(80)], dtype=object)
    names = np.array(["a", "b"], dtype=object)[truth]
    tables = {
        "train": predictions(ids[:40], names[:40], p[:40], ["a", "b"], encoder="x", head="finetuned"),
        "test": predictions(ids[40:], names[40:], p[40:], ["a", "b"], encoder="x", head="finetuned"),
    }
    alone = part_scores(tables, n_bootstrap=200)
    for part, table in tables.items():
        expected = score(table)
        assert alone[part]["n"] == 40
        assert {m: alone[part][m]["value"] for m in METRICS} == pytest.approx({m: expected[m] for m in METRICS})
    grouped = part_scores(tables, groups={cell: str(i // 16) for i, cell in enumerate(ids)}, n_bootstrap=200)
    width = [told["train"]["accuracy"]["high"] - told["train"]["accuracy"]["low"] for told in (alone, grouped)]
    assert width[1] > 1.5 * width[0]
