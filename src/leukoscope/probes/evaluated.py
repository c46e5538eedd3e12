from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.folds import make_folds
from leukoscope.cells.groups import resolve_group
from leukoscope.cells.labels import Labels
from leukoscope.common.errors import InputError
from leukoscope.common.runs import log
from leukoscope.encoders.features import Features

Fold = tuple[int, int]
"""A repeat and a fold of the cross-validation."""


@dataclass(frozen=True)
class Evaluated:
    """The labelled cells of an evaluation: features by encoder, all in one order, labels ``(N,)``, folds, group."""

    features: dict[str, Features]
    labels: np.ndarray
    folds: pd.DataFrame
    group: str | None

    def of(self, cellset: CellSet) -> CellSet:
        """Those of ``cellset`` that are evaluated."""
        return cellset.select(np.isin(cellset.ids, next(iter(self.features.values())).ids))

    @property
    def classes(self) -> list[str]:
        """The classes, sorted."""
        return sorted(set(self.labels))


def of_fold(name: str, fold: Fold) -> str:
    """What an encoder that was taught inside a fold is called among those of other folds."""
    return f"{name} r{fold[0]}f{fold[1]}"


def evaluated_cells(
    features: Mapping[str, Features],
    *,
    label: str,
    overlay: Labels | None,
    group: str | None,
    n_folds: int,
    repeats: int,
    folds: pd.DataFrame | None,
    seed: int,
) -> Evaluated:
    """Bring the features of several encoders to the same labelled cells in the same order, and make or check folds.

    Raises:
        InputError: when there are no features, they are of different cells, or labels, group or folds do not fit.
    """
    aligned = align(features)
    cells = next(iter(aligned.values())).cells
    labels = labels_of_cells(cells, label=label, overlay=overlay)
    group = resolve_group(cells, group)
    if folds is None:
        folds = make_folds(cells, labels, n_folds=n_folds, repeats=repeats, group=group, seed=seed)
    keep = _in_folds(cells, labels, folds)
    if not keep.all():
        log.info("%d of %d cells take no part: no label, or not in the folds", int((~keep).sum()), len(keep))
    kept = {name: each.select(keep) for name, each in aligned.items()}
    if group is not None:
        folds = with_group(folds, cells, group)
    return Evaluated(kept, labels[keep], folds, group)


def with_group(folds: pd.DataFrame, cells: pd.DataFrame, group: str) -> pd.DataFrame:
    """The folds with a column ``group``: the patient or slide of each cell, for inner splits and the bootstrap."""
    return folds.assign(group=folds["cell_id"].map(cells.set_index("cell_id")[group]).astype("string"))


def align(features: Mapping[str, Features]) -> dict[str, Features]:
    """The same features with all cells in the order of the first.

    Raises:
        InputError: when there are none, or they are not of the same cells.
    """
    if not features:
        raise InputError("no features to evaluate; give at least one .h5ad of 'leukoscope embed'")
    first, *_ = features
    ids = pd.Index(features[first].ids)
    if ids.has_duplicates:
        raise InputError(f"{first}: cell {ids[ids.duplicated()][0]} occurs twice; embed each cell once")
    aligned = {}
    for name, each in features.items():
        rows = pd.Index(each.ids).get_indexer(ids) if len(each) == len(ids) and pd.Index(each.ids).is_unique else None
        if rows is None or (rows < 0).any():
            raise InputError(
                f"{name}: its features are not of the same cells as those of {first}; embed the same CellSet with both"
            )
        aligned[name] = each if (rows == np.arange(len(rows))).all() else each.select(rows)
    return aligned


def labels_of_cells(cells: pd.DataFrame, *, label: str, overlay: Labels | None) -> np.ndarray:
    """The class of each cell ``(N,)`` as objects, None where unknown.

    Raises:
        InputError: when there is no such column, or no cell has a label.
    """
    if overlay is None and label not in cells.columns:
        raise InputError(f"--label {label}: no such column in the features' table; it has {', '.join(cells.columns)}")
    found = cells[label] if overlay is None else overlay.of(cells["cell_id"].to_numpy())
    labels = np.array([None if pd.isna(value) else str(value) for value in found], dtype=object)
    if all(value is None for value in labels):
        origin = f"--label {label}" if overlay is None else "--labels"
        raise InputError(f"{origin}: labels none of the cells; is it of another CellSet?")
    return labels


def _in_folds(cells: pd.DataFrame, labels: np.ndarray, folds: pd.DataFrame) -> np.ndarray:
    strangers = set(folds["cell_id"]) - set(cells["cell_id"])
    if strangers:
        raise InputError(
            f"folds: {len(strangers)} of their cells have no features, the first is {min(strangers)}; "
            "embed the cells that the folds were made of"
        )
    keep = cells["cell_id"].isin(folds["cell_id"]).to_numpy()
    unlabelled = keep & np.array([value is None for value in labels])
    if unlabelled.any():
        raise InputError(f"folds: cell {cells['cell_id'][unlabelled].iloc[0]} has no label; make the folds again")
    return keep
