import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leukoscope.cells.blocks import blocks_of
from leukoscope.common.errors import InputError


@dataclass(frozen=True)
class Inner:
    """A split of one training set, for choosing: rows ``(n,)`` to fit on and rows ``(m,)`` to choose by."""

    fit: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class TrainingSet:
    """Rows ``(n,)`` int64 that a head may learn from, and splits of them to choose its hyper-parameters by."""

    rows: np.ndarray
    inner: tuple[Inner, ...]


@dataclass(frozen=True)
class OuterFold:
    """One fold of a cross-validation: what may be learned from, and the rows ``(m,)`` that are then predicted."""

    repeat: int
    fold: int
    training: TrainingSet
    test: np.ndarray


def outer_folds(folds: pd.DataFrame, cells: pd.DataFrame, y: np.ndarray, *, n_inner: int = 5) -> list[OuterFold]:
    """The folds of a folds table as rows of ``cells``, each with the inner splits of its training cells.

    Where the test folds of a repeat partition its cells, as those of ``make_folds`` do, the inner splits of a fold are
    the *other* folds: stratified and grouped as the outer ones are. Leaving out folds f and g is then the same for f
    choosing by g as for g choosing by f, and a head that is fitted once serves both: half the work of a nested
    cross-validation. Other tables (one split, two folds) get stratified inner folds with duplicates, and cells of one
    ``group`` where the table has that column, together.

    Args:
        folds: ``cell_id, repeat, fold, role``, and perhaps ``group``.
        cells: the table of the features, which says the row of each ``cell_id``.
        y: class of every row ``(N,)`` int64, negative where unknown; such cells take no part.
        n_inner: inner folds where the other folds cannot serve.

    Raises:
        InputError: when a cell of the folds has no features, or a fold has no labelled training or test cells.
    """
    row_of = pd.Series(np.arange(len(cells)), index=cells["cell_id"].to_numpy())
    table = folds.assign(row=folds["cell_id"].map(row_of))
    if table["row"].isna().any():
        missing = table.loc[table["row"].isna(), "cell_id"].iloc[0]
        raise InputError(f"folds: cell {missing} has no features; embed the cells that the folds were made of")
    table["row"] = table["row"].astype(np.int64)
    table = table[y[table["row"].to_numpy()] >= 0]
    blocks = _blocks(table, cells)
    found = []
    for repeat in sorted(table["repeat"].unique().tolist()):
        train, test = _roles(table[table["repeat"] == repeat], repeat)
        for position, fold in enumerate(train):
            others = _other_folds(train, test, position) or inner_folds(train[fold], y, blocks, n_inner)
            found.append(OuterFold(repeat, fold, TrainingSet(train[fold], others), test[fold]))
    return found


def inner_folds(rows: np.ndarray, y: np.ndarray, blocks: np.ndarray, n_inner: int, seed: int = 0) -> tuple[Inner, ...]:
    """Stratified splits of ``rows`` in which cells of one block stay together; ``y`` and ``blocks`` are ``(N,)``.

    There are as many folds as the scarcest class has blocks, at least 2 and at most ``n_inner``.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    per_class = pd.DataFrame({"y": y[rows], "block": blocks[rows]}).groupby("y")["block"].nunique()
    n_folds = int(np.clip(per_class.min(), 2, n_inner))
    # scikit-learn wants n_splits members of some class; a training set that small leaves nothing to choose by.
    if np.bincount(y[rows]).max() < n_folds or len(np.unique(blocks[rows])) < n_folds:
        return ()
    alone = len(np.unique(blocks[rows])) == len(rows)
    splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Of few labels a class may have a single cell, which is then on one side only.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splits = list(splitter.split(np.zeros(len(rows)), y[rows], None if alone else blocks[rows]))
    return tuple(Inner(rows[fit], rows[validation]) for fit, validation in splits if len(fit) and len(validation))


def _roles(table: pd.DataFrame, repeat: int) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Sorted rows by fold, in training and in test."""
    train: dict[int, np.ndarray] = {}
    test: dict[int, np.ndarray] = {}
    for fold in sorted(table["fold"].unique().tolist()):
        of_fold = table[table["fold"] == fold]
        for role, place in (("train", train), ("test", test)):
            place[fold] = np.sort(of_fold.loc[of_fold["role"] == role, "row"].to_numpy())
            if not len(place[fold]):
                raise InputError(f"folds: repeat {repeat}, fold {fold} has no labelled {role} cells; make them again")
    return train, test


def _other_folds(train: dict[int, np.ndarray], test: dict[int, np.ndarray], position: int) -> tuple[Inner, ...]:
    """The other folds as inner splits, or none where they do not partition the cells or are fewer than two."""
    numbers = list(train)
    every = np.sort(np.concatenate(list(test.values())))
    partition = len(np.unique(every)) == len(every) and all(
        np.array_equal(np.setdiff1d(every, test[fold]), train[fold]) for fold in numbers
    )
    if not partition or len(numbers) < 3:
        return ()
    mine = train[numbers[position]]
    # The neighbour first: a head that takes one split only then shares it with that neighbour.
    order = sorted((other for other in range(len(numbers)) if other != position), key=lambda o: (o != position ^ 1, o))
    return tuple(
        Inner(np.setdiff1d(mine, test[numbers[other]], assume_unique=True), test[numbers[other]]) for other in order
    )


def _blocks(table: pd.DataFrame, cells: pd.DataFrame) -> np.ndarray:
    if "group" not in table.columns:
        return blocks_of(cells)
    group = table.drop_duplicates("row").set_index("row")["group"].reindex(range(len(cells)))
    return blocks_of(cells[["cell_id"]].assign(group=group.to_numpy()), "group")
