import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.scores.class_groups import Groups, grouped, resolve_groups
from leukoscope.scores.confusion import confusion
from leukoscope.scores.intervals import LEVEL
from leukoscope.scores.predictions import RUN, blocks_of, classes_of, validate
from leukoscope.scores.significance import compare
from leukoscope.scores.summary import Scores, Summary, summarise


@dataclass(frozen=True)
class Results:
    """``content``: the object of ``results.json``; ``tables``: the same as flat tables, by file stem."""

    content: dict[str, Any]
    tables: dict[str, pd.DataFrame]

    def write_tables(self, folder: Path) -> None:
        """Write every table into ``folder`` as CSV."""
        folder.mkdir(exist_ok=True)
        for name, frame in self.tables.items():
            frame.to_csv(folder / f"{name}.csv", index=False)


def score_predictions(
    table: pd.DataFrame,
    folds: pd.DataFrame,
    *,
    task: str = "",
    groups: Groups | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Results:
    """Everything an evaluation reports, from predictions and folds alone.

    Args:
        table: predictions.
        folds: ``cell_id, repeat, fold, role`` and, where intervals are to resample patients or slides, ``group``.
        task: what is told apart, for the reader.
        groups: groups of classes that are scored as well, see
            :func:`~leukoscope.scores.class_groups.resolve_groups`.
        n_bootstrap: how many resamples the intervals rest on.
        seed: of the resamples.

    Raises:
        InputError: when the predictions are not valid, do not cover the test cells of the folds, or groups and classes
            do not fit.
    """
    covers(validate(table), folds)
    patients = group_of(folds)
    summary = summarise(table, groups=patients, n_bootstrap=n_bootstrap, seed=seed)
    tests = compare(summary.scores, folds)
    matrices = confusion(table)
    n_cells = int(table["cell_id"].nunique())
    # Cells that no fold tests, as those of a single split, are not resampled.
    units = n_cells if patients is None else len({patients[cell] for cell in table["cell_id"].unique()})
    content = {
        "task": task,
        "classes": classes_of(table),
        "n": n_cells,
        "folds": int(folds["fold"].nunique()),
        "repeats": int(folds["repeat"].nunique()),
        "scores": summary.scores,
        "confusion": matrices,
        "significance": tests,
        "intervals": {
            "level": LEVEL,
            "resampled": "cells" if patients is None else "groups",
            "units": units,
            "resamples": n_bootstrap,
            "seed": seed,
        },
    }
    tables = _tables(summary, matrices, tests, classes_of(table))
    if groups:
        of = resolve_groups(groups, classes_of(table))
        about = grouped(table, of)
        summary, matrices = summarise(about, groups=patients, n_bootstrap=n_bootstrap, seed=seed), confusion(about)
        content["groups"] = {"of": of, "scores": summary.scores, "confusion": matrices}
        tables |= _group_tables(summary, matrices, list(of))
    return Results(content, tables)


def covers(table: pd.DataFrame, folds: pd.DataFrame, where: str = "predictions") -> None:
    """Check that every head and seed tested each cell once a repeat, in the fold that holds it out, and no other cell.

    Raises:
        InputError: when one did not.
    """
    test = folds.loc[folds["role"] == "test", ["cell_id", "repeat", "fold"]]
    expected = {
        int(str(repeat)): rows.set_index("cell_id")["fold"].sort_index() for repeat, rows in test.groupby("repeat")
    }
    for (encoder, head, seed), rows in blocks_of(table, RUN[:-1]):
        if set(rows["repeat"]) != expected.keys():
            raise InputError(
                f"{where}: encoder {encoder}, head {head}, seed {seed} has repeats {sorted(set(rows['repeat']))}, the "
                f"folds have {sorted(expected)}; compare only what was run on the same folds"
            )
    for (encoder, head, seed, repeat), rows in blocks_of(table, RUN):
        found = rows.set_index("cell_id")["fold"].sort_index()
        wanted = expected[int(str(repeat))]
        if not found.index.equals(wanted.index) or not np.array_equal(found, wanted):
            raise InputError(
                f"{where}: encoder {encoder}, head {head}, seed {seed} did not test exactly the cells that the folds "
                f"hold out in repeat {repeat}; compare only what was run on the same folds"
            )


def group_of(folds: pd.DataFrame) -> dict[str, str] | None:
    """The group of each ``cell_id``, a cell without one being a group of its own; None where folds name no groups."""
    if "group" not in folds.columns:
        return None
    cells = folds.drop_duplicates("cell_id")
    own = "cell " + cells["cell_id"].astype(str)
    return dict(zip(cells["cell_id"], cells["group"].where(cells["group"].notna(), own).astype(str), strict=True))


def scores_table(scores: Scores) -> pd.DataFrame:
    """One row for each encoder, head and metric: ``mean, sd, low, high``."""
    return pd.DataFrame(
        [
            {"encoder": encoder, "head": head, "metric": metric}
            | {name: found[name] for name in ("mean", "sd", "low", "high")}
            for encoder, heads in scores.items()
            for head, metrics in heads.items()
            for metric, found in metrics.items()
        ]
    )


def _tables(
    summary: Summary, matrices: dict[str, dict[str, list[list[int]]]], tests: list[dict[str, Any]], classes: list[str]
) -> dict[str, pd.DataFrame]:
    columns = ["a", "b", "metric", "test", "difference", "p", "p_corrected"]
    tables = {
        "scores": scores_table(summary.scores),
        "per_class": summary.per_class,
        "significance": pd.DataFrame(tests, columns=columns),
    }
    return tables | _confusion_tables("confusion", matrices, classes)


def _group_tables(
    summary: Summary, matrices: dict[str, dict[str, list[list[int]]]], groups: list[str]
) -> dict[str, pd.DataFrame]:
    return {
        "group_scores": scores_table(summary.scores),
        "per_group": summary.per_class.rename(columns={"class": "group"}),
        **_confusion_tables("group_confusion", matrices, groups),
    }


def _confusion_tables(
    name: str, matrices: dict[str, dict[str, list[list[int]]]], classes: list[str]
) -> dict[str, pd.DataFrame]:
    tables = {}
    for encoder, heads in matrices.items():
        for head, counts in heads.items():
            frame = pd.DataFrame(counts, index=pd.Index(classes, name="true"), columns=classes)
            tables[re.sub(r"[^\w.-]+", "-", f"{name}_{encoder}_{head}")] = frame.reset_index()
    return tables
