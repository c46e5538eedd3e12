from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from leukoscope.scores.predictions import predictions
from leukoscope.scores.shift import drop_table, drops
from leukoscope.scores.summary import replicates


def said(right: float, n: int, *, encoder: str = "moco", seed: int = 0) -> pd.DataFrame:
    """What a head says in three folds of n cells, with about a share ``right`` of right answers."""
    rng = np.random.default_rng(seed)
    tables = []
    for fold in range(3):
        truth = rng.integers(0, 2, n)
        p = np.where(rng.random(n) < right, 0.8, 0.2)
        p = np.stack([np.where(truth == 0, p, 1 - p), np.where(truth == 1, p, 1 - p)], axis=1)
        ids = np.array([f"{seed}-{fold}-{i}" for i in range(n)])
        tables.append(
            predictions(ids, np.array(["a", "b"])[truth], p, ["a", "b"], encoder=encoder, head="h", fold=fold)
        )
    return pd.concat(tables, ignore_index=True)


def lost(known: pd.DataFrame, new: pd.DataFrame, *, n_bootstrap: int) -> dict[str, Any]:
    found = (replicates(table, n_bootstrap=n_bootstrap, seed=seed) for seed, table in enumerate((known, new)))
    return drops(*found)


def by_fold(table: pd.DataFrame, score: object) -> float:
    guess = np.where(table["p_a"] > 0.5, "a", "b")
    return float(np.mean([score(part["label"], guess[part.index]) for _, part in table.groupby("fold")]))  # type: ignore[operator]


def test_the_drop_is_the_difference_of_scikit_learns_scores() -> None:
    known, new = said(0.9, 200), said(0.7, 100, seed=1)
    found = lost(known, new, n_bootstrap=400)["moco"]["h"]
    for metric, score in [("accuracy", accuracy_score), ("f1_macro", lambda a, b: f1_score(a, b, average="macro"))]:
        values = found[metric]
        assert values["known"] == pytest.approx(by_fold(known, score))
        assert values["new"] == pytest.approx(by_fold(new, score))
        assert values["drop"] == pytest.approx(values["known"] - values["new"])


def test_the_interval_is_that_of_two_independent_shares() -> None:
    """Of accuracies over 600 and 300 cells: the normal interval of a difference of two shares."""
    known, new = said(0.9, 200), said(0.7, 100, seed=1)
    found = lost(known, new, n_bootstrap=2000)["moco"]["h"]["accuracy"]
    a, b = found["known"], found["new"]
    assert None not in (a, b, found["low"], found["high"])
    half = 1.96 * np.sqrt(a * (1 - a) / 600 + b * (1 - b) / 300)  # type: ignore[operator]
    np.testing.assert_allclose([found["low"], found["high"]], [a - b - half, a - b + half], atol=0.012)  # type: ignore[operator]


def test_a_treated_encoder_is_compared_with_the_untreated_one() -> None:
    known, new = said(0.9, 60), pd.concat([said(0.6, 60, seed=1), said(0.9, 60, encoder="moco + colour", seed=2)])
    found = lost(known, new, n_bootstrap=0)
    assert found["moco + colour"]["h"]["accuracy"]["known"] == found["moco"]["h"]["accuracy"]["known"]
    assert found["moco + colour"]["h"]["accuracy"]["drop"] < found["moco"]["h"]["accuracy"]["drop"]  # type: ignore[operator]
    table = drop_table(found)
    assert set(table["encoder"]) == {"moco", "moco + colour"}
    assert table["low"].isna().all()
