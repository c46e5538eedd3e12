from collections.abc import Sequence

import numpy as np

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError

_MOST_BY_ITSELF = 8


def find_cells(cellset: CellSet, names: Sequence[str]) -> np.ndarray:
    """Row numbers ``(n,)`` int64 of the cells called ``names``: a ``cell_id``, how one begins, or a source.

    Raises:
        InputError: when a name is of no cell, or of several.
    """
    return np.array([_find(cellset, name) for name in names], dtype=np.int64)


def choose_cells(cellset: CellSet, labels: np.ndarray, per_class: int | None = None, *, seed: int) -> np.ndarray:
    """Row numbers of cells to show, drawn by ``seed``: ``per_class`` of each class, in the order of the classes.

    Without ``per_class`` about eight in all, at least one of each class; without labels eight of the whole set.

    Args:
        cellset: the cells.
        labels: the class of each ``(N,)`` as objects, None where unknown.
        per_class: how many of each class; classes with fewer give all they have.
        seed: of the draw.

    Raises:
        InputError: when ``per_class`` is given and no cell has a class.
    """
    if len(cellset) == 0:
        raise InputError(f"{cellset.path}: holds no cells to show")
    order = np.random.default_rng(seed).permutation(len(cellset))
    classes = sorted({label for label in labels if label is not None})
    if not classes:
        if per_class is not None:
            raise InputError(f"--per-class {per_class}: no cell of {cellset.path} has a class; give --cells instead")
        return np.sort(order[:_MOST_BY_ITSELF])
    each = per_class or max(1, _MOST_BY_ITSELF // len(classes))
    return np.concatenate([np.sort(order[labels[order] == name][:each]) for name in classes])


def _find(cellset: CellSet, name: str) -> int:
    ids = cellset.ids.astype(str)
    tried = (ids == name, cellset.column("source").to_numpy() == name, np.char.startswith(ids, name))
    for found in map(np.flatnonzero, tried):
        if len(found) == 1:
            return int(found[0])
        if len(found) > 1:
            raise InputError(
                f"cell {name!r}: {len(found)} cells of {cellset.path} are called so; give more of the cell_id"
            )
    raise InputError(f"cell {name!r}: not in {cellset.path}; give a cell_id of its cells.parquet, or how one begins")
