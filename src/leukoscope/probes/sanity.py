from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.folds import make_folds
from leukoscope.common.errors import InputError
from leukoscope.common.runs import log
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings, cross_validate
from leukoscope.probes.evaluated import align
from leukoscope.scores.predictions import classes_of, probabilities_of

TRAININGS = {"A+B": ("A", "B"), "A+B+C": ("A", "B", "C")}


def sanity_test(
    features: Mapping[str, Features],
    labels: np.ndarray,
    *,
    database: str,
    suspect: str,
    home: str,
    group: str | None = None,
    heads: Sequence[str] = ("linear",),
    n_folds: int = 5,
    settings: ProbeSettings | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Does a model know the cell, or the database that it came from? Section 4.4 of the thesis on hairy cells.

    One class was collected in one database and all others in another, so that the database alone tells it apart. The
    cells fall into A (the class, at home), B (other classes, elsewhere), C (other classes, at home) and D (the class,
    elsewhere). Heads are fitted on A+B, where class and database are one, and on A+B+C, where they are not, and tested
    on all four: a head that learned the database is wrong on C and D.

    Args:
        features: by the encoder's name, of the same cells.
        labels: the class of each cell ``(N,)``, None where unknown.
        database: the column that names where a cell was collected (a database, an instrument, a batch).
        suspect: the class under suspicion.
        home: the value of ``database`` that its training cells are from.
        group: a column whose cells stay in one fold.
        heads: which heads.
        n_folds: each of A, B, C and D is dealt into so many folds; a fold is tested by heads that have not seen it.
        settings: of the heads.
        seed: of the folds and heads.

    Returns:
        ``scores[TRAINING][ENCODER][HEAD][SET]`` with ``accuracy`` (mean over folds), ``sd``, ``n``, ``counts`` of the
        cells of each set and class; and the predictions, ``repeat`` 0 of heads fitted on A+B and 1 on A+B+C.

    Raises:
        InputError: when the column is missing, or A, B or C are too few for the folds.
    """
    aligned = align(features)
    cells = next(iter(aligned.values())).cells
    sets = _sets(cells, labels, database=database, suspect=suspect, home=home, n_folds=n_folds)
    known = np.array([name is not None for name in sets])
    folds = make_folds(cells, sets, n_folds=n_folds, group=group, seed=seed)
    of_cell = dict(zip(cells["cell_id"], sets, strict=True))
    taught = folds["cell_id"].map(of_cell)
    parts = [
        folds[(folds["role"] == "test") | taught.isin(training)].assign(repeat=number)
        for number, training in enumerate(TRAININGS.values())
    ]
    tables = [
        cross_validate(
            each, labels, pd.concat(parts), heads=heads, encoder=name, seeds=(seed,), settings=settings
        ).predictions
        for name, each in aligned.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    counts = pd.crosstab(sets[known], labels[known].astype(str)).to_dict("index")
    log.info("sanity test: %s", ", ".join(f"{name} {sum(of.values())}" for name, of in counts.items()))
    return {"scores": _scores(table, table["cell_id"].map(of_cell)), "counts": counts}, table


def _sets(
    cells: pd.DataFrame, labels: np.ndarray, *, database: str, suspect: str, home: str, n_folds: int
) -> np.ndarray:
    """A, B, C or D for each cell ``(N,)``, None where its class or database is unknown."""
    if database not in cells.columns:
        raise InputError(f"--database {database}: no such column; the table has {', '.join(cells.columns)}")
    is_home = (cells[database].astype("string") == home).fillna(False).to_numpy(dtype=bool)
    is_suspect = labels == suspect
    if not is_home.any():
        there = ", ".join(sorted(cells[database].dropna().astype(str).unique()))
        raise InputError(f"--home {home}: no cell has this {database}; there are {there}")
    if not is_suspect.any():
        there = ", ".join(sorted({label for label in labels if label is not None}))
        raise InputError(f"--class {suspect}: no cell has this label; there are {there}")
    known = cells[database].notna().to_numpy() & np.array([label is not None for label in labels])
    sets: np.ndarray = np.where(is_suspect, np.where(is_home, "A", "D"), np.where(is_home, "C", "B")).astype(object)
    sets[~known] = None
    for name in ("A", "B", "C", "D"):
        n = int((sets == name).sum())
        if n < n_folds and (name != "D" or n):
            which = f"{suspect if name in 'AD' else 'other classes'}, {'in' if name in 'AC' else 'outside'} {home}"
            raise InputError(f"sanity test: set {name} ({which}) has {n} cells, fewer than {n_folds} folds")
    return sets


def _scores(table: pd.DataFrame, sets: pd.Series) -> dict[str, Any]:
    guess = np.array(classes_of(table))[probabilities_of(table).argmax(axis=1)]
    right = table[["encoder", "head", "repeat", "fold"]].assign(set=sets, right=guess == table["label"])
    found: dict[str, Any] = {}
    for (encoder, head, repeat, name), rows in right.groupby(["encoder", "head", "repeat", "set"], sort=True):
        by_fold = rows.groupby("fold")["right"].mean()
        scores = {"accuracy": float(by_fold.mean()), "sd": float(by_fold.std()), "n": len(rows)}
        training = list(TRAININGS)[int(str(repeat))]
        found.setdefault(training, {}).setdefault(encoder, {}).setdefault(head, {})[name] = scores
    return found
