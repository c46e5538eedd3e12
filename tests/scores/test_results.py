import json

import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.scores.predictions import predictions
from leukoscope.scores.results import score_predictions


def evaluated() -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(0)
    ids, truth = np.array([f"c{i}" for i in range(60)]), np.arange(60) % 3
    classes, tables, folds = ["a", "b", "c"], [], []
    for fold in range(3):
        test = np.arange(60) // 20 == fold
        folds.append(pd.DataFrame({"cell_id": ids, "repeat": 0, "fold": fold, "role": np.where(test, "test", "train")}))
        for head in ("linear", "knn"):
            p = generator.dirichlet(np.ones(3), 20) + np.eye(3)[truth[test]]
            p /= p.sum(axis=1, keepdims=True)
            labels = np.array(classes)[truth[test]]
            tables.append(predictions(ids[test], labels, p, classes, encoder="e", head=head, fold=fold))
    return pd.concat(tables, ignore_index=True), pd.concat(folds, ignore_index=True)


def test_content_is_what_results_json_promises() -> None:
    table, folds = evaluated()
    results = score_predictions(table, folds, task="three kinds", n_bootstrap=30)
    content = json.loads(json.dumps(results.content, allow_nan=False))
    assert content["task"] == "three kinds"
    assert content["classes"] == ["a", "b", "c"]
    assert (content["n"], content["folds"], content["repeats"]) == (60, 3, 1)
    assert set(content["scores"]["e"]["linear"]["kappa"]) == {"mean", "sd", "low", "high", "folds"}
    assert np.sum(content["confusion"]["e"]["knn"]) == 60
    assert set(content["significance"][0]) == {"a", "b", "metric", "test", "difference", "p", "p_corrected"}
    assert content["intervals"] == {"level": 0.95, "resampled": "cells", "units": 60, "resamples": 30, "seed": 0}
    assert set(results.tables) == {"scores", "per_class", "significance", "confusion_e_linear", "confusion_e_knn"}
    assert len(results.tables["scores"]) == 2 * len(content["scores"]["e"]["linear"])


def test_groups_named_by_the_folds_are_resampled() -> None:
    table, folds = evaluated()
    folds["group"] = folds["cell_id"].str[:2].where(folds["cell_id"] != "c7")
    content = score_predictions(table, folds, n_bootstrap=10).content
    assert content["intervals"]["resampled"] == "groups"
    # c0 to c9 and, for c7 without a group, one of its own.
    assert content["intervals"]["units"] == 10


@pytest.mark.parametrize("spoil", [lambda t: t.iloc[1:], lambda t: t.assign(fold=(t["fold"] + 1) % 3)])
def test_predictions_of_other_folds_are_refused(spoil) -> None:
    table, folds = evaluated()
    with pytest.raises(InputError, match="head linear, seed 0 did not test exactly the cells that the folds hold out"):
        score_predictions(spoil(table), folds)


def test_every_repeat_of_the_folds_must_be_there() -> None:
    table, folds = evaluated()
    both = pd.concat([folds, folds.assign(repeat=1)])
    with pytest.raises(InputError, match=r"head linear, seed 0 has repeats \[0\], the folds have \[0, 1\]"):
        score_predictions(table, both)
