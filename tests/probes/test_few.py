import numpy as np
import pandas as pd
import pytest

from leukoscope.cells.few import FewLabels
from leukoscope.cells.folds import make_folds
from leukoscope.encoders.features import Features
from leukoscope.probes.few import try_few_labels
from leukoscope.scores.results import covers
from leukoscope.scores.summary import summarise

LABELS = np.array(["LYM", "MON", "NEU"], dtype=object)[np.arange(120) % 3]
CELLS = pd.DataFrame({"cell_id": [f"hash{i}:cells#{i}" for i in range(120)]})


def features(spread: float) -> Features:
    x = np.eye(6)[np.arange(120) % 3] + spread * np.random.default_rng(0).normal(size=(120, 6))
    return Features(x.astype(np.float32), CELLS)


@pytest.fixture(scope="module")
def folds() -> pd.DataFrame:
    return make_folds(CELLS, LABELS, n_folds=4)


def test_more_labels_and_better_features_help_and_every_test_cell_is_predicted(folds: pd.DataFrame) -> None:
    encoders = {"good": features(0.4), "poor": features(1.2)}
    found = try_few_labels(encoders, LABELS, folds, FewLabels(counts=(6, 60), draws=3))
    accuracy = {}
    for count, run in found.items():
        covers(run.predictions, run.folds)
        assert len(run.predictions) == 2 * 2 * 3 * 120
        scores = summarise(run.predictions, n_bootstrap=0).scores
        accuracy |= {(count, name): scores[name]["linear"]["accuracy"]["mean"] for name in encoders}
    assert accuracy[60, "good"] > accuracy[6, "good"] + 0.02
    assert accuracy[60, "good"] > accuracy[60, "poor"] + 0.2


def test_the_log_names_a_count_before_its_fits(folds: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="leukoscope"):
        try_few_labels({"e": features(0.4)}, LABELS, folds, FewLabels(counts=(6, 60), draws=1, heads=("knn",)))
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if text.startswith(("few", "e:"))] == [
        "few labels: 60",
        "e: knn fitted 4 times",
        "few labels: 6",
        "e: knn fitted 4 times",
    ]


def test_heads_see_no_cell_that_was_not_drawn(folds: pd.DataFrame) -> None:
    """Labels of all other cells are turned round: what heads say of the test cells stays as it is."""
    plan = FewLabels(counts=(9,), draws=1)
    (run,) = try_few_labels({"e": features(0.4)}, LABELS, folds, plan).values()
    drawn = set(run.folds.loc[(run.folds["role"] == "train") & (run.folds["fold"] == 0), "cell_id"])
    turned = np.where(CELLS["cell_id"].isin(drawn), LABELS, np.roll(LABELS, 1))
    thinned = run.folds[run.folds["fold"] == 0]
    (again,) = try_few_labels({"e": features(0.4)}, turned, thinned, FewLabels(counts=(9,), draws=1)).values()
    said = [
        table[(table["fold"] == 0) & (table["repeat"] == 0)].filter(like="p_").to_numpy()
        for table in (run.predictions, again.predictions)
    ]
    np.testing.assert_array_equal(*said)
