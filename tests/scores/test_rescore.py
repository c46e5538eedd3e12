import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.cells import folds as folds_file
from leukoscope.common.errors import InputError
from leukoscope.scores import predictions as predictions_file
from leukoscope.scores.predictions import predictions
from leukoscope.scores.rescore import rescore


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that holds predictions and folds, and nothing else."""
    ids, truth = np.array([f"c{i}" for i in range(40)]), np.arange(40) % 2
    tables, folds = [], []
    for fold in range(2):
        test = np.arange(40) // 20 == fold
        p = np.random.default_rng(fold).dirichlet([1, 1], 20)
        labels = np.array(["a", "b"])[truth[test]]
        tables.append(predictions(ids[test], labels, p, ["a", "b"], encoder="e", head="linear", fold=fold))
        folds.append(pd.DataFrame({"cell_id": ids, "repeat": 0, "fold": fold, "role": np.where(test, "test", "train")}))
    predictions_file.write(tmp_path / "predictions.parquet", pd.concat(tables, ignore_index=True))
    folds_file.write(tmp_path / "folds.parquet", pd.concat(folds, ignore_index=True))
    return tmp_path


def test_predictions_and_folds_are_enough(run: Path) -> None:
    results = rescore(run)
    assert results["n"] == 40
    assert json.loads((run / "results.json").read_text()) == results
    assert (run / "tables" / "per_class.csv").is_file()


def test_what_scores_do_not_tell_is_kept(run: Path) -> None:
    rescore(run)
    before = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**before, "n": 0, "provenance": {"seed": 3}}))
    (run / "recipe.yaml").write_text("n_bootstrap: 10\nseed: 3\ntask: two kinds\n")
    results = rescore(run)
    assert (results["n"], results["task"], results["provenance"]) == (40, "two kinds", {"seed": 3})
    assert results["intervals"]["resamples"] == 10


def test_groups_of_classes_are_kept_from_then_on(run: Path) -> None:
    assert "groups" not in rescore(run)
    found = rescore(run, groups={"first": ["a"], "second": "*"})["groups"]
    assert found["of"] == {"first": ["a"], "second": ["b"]}
    assert (run / "tables" / "per_group.csv").is_file()
    assert rescore(run)["groups"] == found
    (run / "results.json").unlink()
    (run / "recipe.yaml").write_text("groups: {one: [a], other: '*'}\n")
    assert rescore(run)["groups"]["of"] == {"one": ["a"], "other": ["b"]}


def test_a_run_of_another_verb_is_left_as_it_is(run: Path) -> None:
    """Models of bags leave predictions and folds, too, of patients."""
    (run / "recipe.yaml").write_text("# leukoscope mil\nseed: 3\n")
    with pytest.raises(InputError, match="a run of another verb than evaluate"):
        rescore(run)
    assert not (run / "results.json").exists()
    (run / "recipe.yaml").write_text("# leukoscope evaluate\nseed: 3\n")
    assert rescore(run)["intervals"]["seed"] == 3


def test_a_missing_file_is_named(run: Path) -> None:
    (run / "folds.parquet").unlink()
    with pytest.raises(InputError, match=r"folds\.parquet: cannot be read as folds"):
        rescore(run)
    shutil.rmtree(run)
    with pytest.raises(InputError, match=r"predictions\.parquet: cannot be read as predictions"):
        rescore(run)
