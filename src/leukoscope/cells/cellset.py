import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.intensity import Intensity
from leukoscope.common.errors import InputError
from leukoscope.common.files import Mark, read_json
from leukoscope.common.settings import Settings

FORMAT_VERSION = 1
MARK = Mark("cellset.json")
_FIELD_TOLERANCE = 0.10
TABLE_COLUMNS = ("cell_id", "source", "label", "patient", "slide", "batch", "split", "n_experts")


class Origin(Settings):
    """The published set that cells come from: under what licence, and what to cite."""

    dataset: str
    title: str
    licence: str
    citation: tuple[str, ...]
    page: str


class CellSetInfo(Settings):
    """What ``cellset.json`` holds. ``mean`` and ``std`` are per channel, of intensities scaled to [0, 1]."""

    format_version: int = FORMAT_VERSION
    count: int
    channels: tuple[str, ...]
    height: int
    width: int
    dtype: str
    bit_depth: int
    intensity: Intensity
    pixel_size_um: float | None = None
    origin: Origin | None = None
    packing: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels_fingerprint: str
    table_fingerprint: str

    @property
    def field_um(self) -> float | None:
        """Side of what an image shows, in micrometres: what stays the same when images are resized as a whole."""
        return None if self.pixel_size_um is None else self.pixel_size_um * max(self.height, self.width)

    def shows_another_field(self, learned_um: float | None) -> bool:
        """Whether images of ``learned_um`` would show cells of another size, once all are brought to one size."""
        ours = self.field_um
        return ours is not None and learned_um is not None and abs(ours / learned_um - 1) > _FIELD_TOLERANCE


@dataclass(frozen=True)
class CellSet:
    """Cells as acquired: pixels ``(N, C, H, W)`` uint8 or uint16, and a table with one row a cell in the same order.

    A CellSet may be a selection of a folder's cells (``rows``); nothing is copied. Labels of people are laid
    over it with :class:`~leukoscope.cells.labels.Labels`; the folder itself never changes after packing.
    """

    path: Path
    info: CellSetInfo
    cells: pd.DataFrame
    rows: np.ndarray | None = None

    @classmethod
    def open(cls, path: Path | str) -> "CellSet":
        """Open the folder ``path``; pixels stay on disk and are memory-mapped.

        Raises:
            InputError: when ``path`` is no whole CellSet, or of a format this version cannot read.
        """
        path = Path(path)
        if not (path / "cellset.json").is_file():
            raise InputError(f"{path}: not a CellSet (no cellset.json); make one with 'leukoscope pack SOURCE {path}'")
        info = CellSetInfo.parse(read_json(path / "cellset.json"), where=f"{path}/cellset.json")
        if info.format_version != FORMAT_VERSION:
            raise InputError(
                f"{path}: CellSet format {info.format_version}, this version reads {FORMAT_VERSION}; pack it again"
            )
        cells = pd.read_parquet(path / "cells.parquet")
        cellset = cls(path, info, cells)
        expected = (info.count, len(info.channels), info.height, info.width)
        if cellset.images.shape != expected or len(cells) != info.count:
            raise InputError(
                f"{path}: images {cellset.images.shape}, {len(cells)} table rows and cellset.json {expected} disagree; "
                "pack it again"
            )
        return cellset

    @cached_property
    def images(self) -> np.ndarray:
        """All pixels of the folder ``(N, C, H, W)``, memory-mapped; :meth:`read` gives those of a selection."""
        images: np.ndarray = np.load(self.path / "images.npy", mmap_mode="r")
        return images

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def ids(self) -> np.ndarray:
        """``cell_id`` of every cell ``(N,)``, in order."""
        ids: np.ndarray = self.cells["cell_id"].to_numpy()
        return ids

    @property
    def channels(self) -> int:
        """The number of channels C."""
        return len(self.info.channels)

    @property
    def pixels_fingerprint(self) -> str:
        """The fingerprint of the folder's pixels, or of the selection's cells among them."""
        if self.rows is None:
            return self.info.pixels_fingerprint
        digest = hashlib.sha256(self.info.pixels_fingerprint.encode())
        digest.update(np.ascontiguousarray(self.rows, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def read(self, index: np.ndarray | Sequence[int] | slice) -> np.ndarray:
        """Copy the pixels ``(n, C, H, W)`` of the cells at ``index`` into memory, in that order."""
        rows = np.arange(len(self))[index] if self.rows is None else self.rows[index]
        return np.ascontiguousarray(self.images[rows])

    def select(self, keep: np.ndarray) -> "CellSet":
        """The cells at ``keep`` (a boolean mask or row numbers), as a CellSet that shares this folder."""
        chosen = np.flatnonzero(keep) if keep.dtype == bool else np.asarray(keep, dtype=np.int64)
        rows = chosen if self.rows is None else self.rows[chosen]
        return replace(self, cells=self.cells.iloc[chosen].reset_index(drop=True), rows=rows)

    def where(self, condition: str) -> "CellSet":
        """The cells that satisfy ``COLUMN=VALUE``, for instance ``split=pretrain``.

        Raises:
            InputError: when the condition is malformed, the column is missing, or no cell satisfies it.
        """
        column, separator, value = condition.partition("=")
        if not separator:
            raise InputError(f"{condition!r}: expected COLUMN=VALUE")
        mask = (self.column(column).astype(str) == value).to_numpy()
        if not mask.any():
            raise InputError(f"{self.path}: no cell has {column}={value}")
        return self.select(mask)

    def column(self, name: str) -> pd.Series:
        """The table's column ``name``.

        Raises:
            InputError: when there is none of that name.
        """
        if name not in self.cells.columns:
            raise InputError(
                f"{self.path}: no column {name!r} in cells.parquet; it has {', '.join(self.cells.columns)}"
            )
        return self.cells[name]


def content_hash(cell_id: str) -> str:
    """The part of a ``cell_id`` that hashes its pixels: equal for exact duplicates, whatever their path."""
    return cell_id.partition(":")[0]


def contents_of(cells: pd.DataFrame) -> np.ndarray:
    """The content hash of the image that each cell of a table was acquired as ``(N,)``.

    A cell that was spoiled, or drawn for a patient of a made cohort, counts as the image that it was made of.
    """
    return np.array([content_hash(cell) for cell in acquired_as(cells)], dtype=object)


def acquired_as(cells: pd.DataFrame) -> pd.Series:
    """The ``cell_id`` of the image that each cell of a table was acquired as."""
    ids = cells["cell_id"]
    for column in ("spoiled_from", "drawn_from"):
        if column in cells.columns:
            ids = cells[column].fillna(ids)
    return ids
