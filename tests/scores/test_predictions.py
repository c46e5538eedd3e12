from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leukoscope.common.errors import InputError
from leukoscope.scores import predictions as doorstep
from leukoscope.scores.predictions import classes_of, predictions, probabilities_of, read, truth_of, validate, write


def block(fold: int = 0) -> pd.DataFrame:
    values = np.array([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]])
    ids = np.array([f"{fold}{i}" for i in range(3)])
    return predictions(ids, np.array(["b", "a", "a"]), values, ["a", "b"], encoder="e", head="linear", fold=fold)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = pd.concat([block(0), block(1)], ignore_index=True)
    write(tmp_path / "predictions.parquet", table)
    pd.testing.assert_frame_equal(read(tmp_path / "predictions.parquet"), table)


def test_classes_truth_and_probabilities() -> None:
    assert classes_of(block()) == ["a", "b"]
    assert truth_of(block()).tolist() == [1, 0, 0]
    np.testing.assert_allclose(probabilities_of(block()).sum(axis=1), 1, atol=1e-15)


def test_blocks_are_apart() -> None:
    table = pd.concat([block(1), block(0)], ignore_index=True)
    assert [key for key, _ in doorstep.blocks_of(table)] == [("e", "linear", 0, 0, 1), ("e", "linear", 0, 0, 0)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="fold"), "columns missing: fold"),
        (lambda t: t.drop(columns="p_b"), "a task needs at least two classes"),
        (lambda t: t.iloc[:0], "there is nothing to score"),
        (lambda t: t.assign(label=["a", "b", "c"]), "label 'c' has no column p_<label>"),
        (lambda t: t.assign(label=["a", "b", None]), "label 'missing' has no column"),
        (
            lambda t: t.assign(p_a=[0.2, np.nan, 0.5]),
            "1 rows hold no probabilities that sum to one; the first is cell 01",
        ),
        (lambda t: t.assign(p_a=0.4), "hold no probabilities that sum to one"),
        (lambda t: t.assign(cell_id="x"), "cell x is tested twice"),
    ],
)
def test_what_cannot_be_scored_is_refused(spoil, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(spoil(block()))


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read as predictions"):
        read(tmp_path / "x.parquet")
