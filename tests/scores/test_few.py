import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from leukoscope.scores.few import few_label_scores, few_label_table
from leukoscope.scores.predictions import predictions


def test_mean_and_spread_are_over_folds_and_draws() -> None:
    rng = np.random.default_rng(0)
    truth = np.array(["a", "a", "b", "b", "b", "b"])
    tables, scores = [], []
    for draw in range(3):
        for fold in range(2):
            p = rng.random(6)
            ids = np.array([f"{fold}-{i}" for i in range(6)])
            keys = {"encoder": "moco", "head": "linear", "repeat": draw, "fold": fold}
            tables.append(predictions(ids, truth, np.stack([p, 1 - p], axis=1), ["a", "b"], **keys))
            scores.append(balanced_accuracy_score(truth, np.where(p > 0.5, "a", "b")))
    content = few_label_scores({25: pd.concat(tables)}, per_class=False)
    found = content["scores"]["25"]["moco"]["linear"]["balanced_accuracy"]
    np.testing.assert_allclose([found["mean"], found["sd"]], [np.mean(scores), np.std(scores, ddof=1)])
    table = few_label_table(content).set_index("metric")
    assert (table.loc["balanced_accuracy", "labels"], table.loc["balanced_accuracy", "mean"]) == (25, found["mean"])
