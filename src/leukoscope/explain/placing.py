import numpy as np
import pandas as pd

from leukoscope.cells.cellset import CellSet
from leukoscope.common.errors import InputError
from leukoscope.encoders.bundle import Encoder
from leukoscope.encoders.embed import embed
from leukoscope.explain.map2d import MAPS

FEWEST = 10
_KNOWN = ("cell_id", "label", "batch", "patient", "slide")


def lay_map(
    encoder: Encoder,
    cellset: CellSet,
    new: CellSet | None = None,
    *,
    patient: str | None = None,
    method: str = "umap",
    most: int = 5000,
    seed: int = 0,
    device: str = "auto",
) -> pd.DataFrame:
    """A map fitted on the cells of one set, and the cells of another placed into it.

    Args:
        encoder: the frozen encoder whose features are laid out.
        cellset: the training cells, on which alone the map is fitted.
        new: the new cells.
        patient: a patient of ``new`` whose cells are all placed, however many there are.
        method: ``umap`` or ``tsne``; see :mod:`leukoscope.explain.map2d`.
        most: cells of each set at most, drawn by ``seed``.
        seed: of the draw and of the map.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Returns:
        One row a cell: ``set`` (``training`` or ``new``), ``x``, ``y``, and of ``cell_id``, ``label``, ``batch``,
        ``patient``, ``slide`` what is known.

    Raises:
        InputError: when there are fewer than ten training cells, or the encoder does not fit the cells.
    """
    if len(cellset) < FEWEST:
        raise InputError(f"{cellset.path}: {len(cellset)} cells are too few for a map; give at least {FEWEST}")
    training = cellset.select(_drawn(np.zeros(len(cellset), dtype=bool), most, seed))
    fitted = MAPS[method](embed(training, encoder, device=device).x, seed)
    parts = [_table(training, "training", fitted.points)]
    if new is not None:
        wanted = np.zeros(len(new), dtype=bool)
        if patient is not None:
            wanted = (new.column("patient").astype(str) == patient).to_numpy()
        placed = new.select(_drawn(wanted, most, seed))
        parts.append(_table(placed, "new", fitted.place(embed(placed, encoder, device=device).x)))
    return pd.concat(parts, ignore_index=True)


def _drawn(wanted: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Row numbers of the cells ``wanted`` and of others, ``most`` in all where those wanted are not more."""
    others = np.random.default_rng(seed).permutation(np.flatnonzero(~wanted))
    return np.sort(np.concatenate([np.flatnonzero(wanted), others[: max(0, most - int(wanted.sum()))]]))


def _table(cellset: CellSet, name: str, points: np.ndarray) -> pd.DataFrame:
    known = cellset.cells[[column for column in _KNOWN if column in cellset.cells.columns]].reset_index(drop=True)
    return known.assign(set=name, x=points[:, 0], y=points[:, 1])
