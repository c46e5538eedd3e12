from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file
from leukoscope.encoders.mapfile import StoredMaps

FLIPS: dict[tuple[int, ...], str] = {(3,): "flipped_x", (2,): "flipped_y", (2, 3): "flipped_xy"}
"""Axes of images ``(B, C, H, W)`` that are flipped, and the name under which the features of that view are stored."""


@dataclass(frozen=True)
class Features:
    """Features ``x`` float32 ``(N, D)``, the CellSet's table ``cells`` in the same order, and their origin ``uns``.

    ``flipped`` ``(3, N, D)`` are those of the cells mirrored left to right, top to bottom, and both, where they were
    computed; ``maps`` the unpooled maps, where they were stored.

    On disk an ``.h5ad`` (AnnData) that opens in scanpy and cellxgene as it is. ``uns`` holds ``pixels_fingerprint``,
    ``table_fingerprint``, ``encoder_fingerprint``, ``method``, ``pretrained_on`` and what the cells look like.
    """

    x: np.ndarray
    cells: pd.DataFrame
    uns: dict[str, Any] = field(default_factory=dict)
    flipped: np.ndarray | None = None
    maps: StoredMaps | None = None

    @classmethod
    def read(cls, path: Path | str) -> "Features":
        """Read an ``.h5ad``; text columns come back as objects (str, or None where empty).

        Raises:
            InputError: when the file is missing, no AnnData, or holds no dense features or ``cell_id``.
        """
        import anndata

        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such features; make them with 'leukoscope embed SET ENCODER {path}'")
        try:
            data = anndata.read_h5ad(path)
        except Exception as error:  # h5py and anndata raise many kinds for a broken file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: not readable as .h5ad ({reason})") from None
        if not isinstance(data.X, np.ndarray) or "cell_id" not in data.obs:
            raise InputError(f"{path}: needs a dense X and a cell_id column in obs; make it with 'leukoscope embed'")
        flipped = None
        if all(name in data.obsm for name in FLIPS.values()):
            flipped = np.stack([np.asarray(data.obsm[name], np.float32) for name in FLIPS.values()])
        maps = StoredMaps.beside(path, cells=len(data.obs))
        return cls(np.asarray(data.X, np.float32), _plain(data.obs), dict(data.uns), flipped, maps)

    def write(self, path: Path) -> None:
        """Write ``.h5ad``, whole or not at all."""
        import anndata

        table = _storable(self.cells)
        table.index = pd.Index(self.ids.astype(str))
        names = pd.DataFrame(index=pd.Index([f"f{i}" for i in range(self.x.shape[1])]))
        views = {} if self.flipped is None else dict(zip(FLIPS.values(), self.flipped, strict=True))
        data = anndata.AnnData(X=self.x, obs=table, var=names, uns=self.uns, obsm=views)
        with whole_file(path) as partial:
            data.write_h5ad(partial)

    def select(self, keep: np.ndarray) -> "Features":
        """The cells at ``keep``, a boolean mask or row numbers."""
        rows = np.flatnonzero(keep) if keep.dtype == bool else keep
        return Features(
            self.x[rows],
            self.cells.iloc[rows].reset_index(drop=True),
            self.uns,
            None if self.flipped is None else self.flipped[:, rows],
            None if self.maps is None else self.maps.select(rows),
        )

    def require_finite(self, encoder: str) -> None:
        """Nothing, where every number is finite.

        Raises:
            InputError: naming ``encoder`` and the first cell at fault.
        """
        finite = np.isfinite(self.x).all(axis=1)
        if not finite.all():
            cell = self.ids[~finite][0]
            raise InputError(f"{encoder}: the features of cell {cell} are not finite; did its pre-training diverge?")

    @property
    def ids(self) -> np.ndarray:
        """``cell_id`` of every cell ``(N,)``, in order."""
        ids: np.ndarray = self.cells["cell_id"].to_numpy()
        return ids

    def __len__(self) -> int:
        return len(self.x)


def stored_cells(path: Path) -> int:
    """How many cells an ``.h5ad`` holds, without reading them.

    Raises:
        InputError: when it cannot be read, or holds no dense features.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            x = file.get("X")
            shape: tuple[int, ...] = x.shape if isinstance(x, h5py.Dataset) else ()
    except OSError as error:
        raise InputError(f"{path}: not readable as .h5ad ({str(error).splitlines()[0]})") from None
    if len(shape) != 2:
        raise InputError(f"{path}: needs a dense X; make it with 'leukoscope embed'")
    return int(shape[0])


def _storable(cells: pd.DataFrame) -> pd.DataFrame:
    """The table in types that every reader of ``.h5ad`` knows: numbers, booleans, categories of text."""
    table = pd.DataFrame(index=cells.index)
    for name, column in cells.items():
        if name == "cell_id":
            table[name] = column.astype(str).astype(object)
        elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_extension_array_dtype(column.dtype):
            table[str(name)] = column
        elif pd.api.types.is_numeric_dtype(column):
            table[str(name)] = column.astype("float64")
        else:
            table[str(name)] = column.astype("string").astype("category").cat.rename_categories(str)
    return table


def _plain(obs: pd.DataFrame) -> pd.DataFrame:
    table = obs.reset_index(drop=True)
    for name in table.columns:
        if isinstance(table[name].dtype, pd.CategoricalDtype):
            text = table[name].astype(object)
            table[name] = text.where(text.notna(), None)
    return table
