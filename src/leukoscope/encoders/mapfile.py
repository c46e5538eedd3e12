from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from torch import Tensor

from leukoscope.common.errors import InputError
from leukoscope.common.files import whole_file


def maps_path(features: Path) -> Path:
    """Where the unpooled maps of ``features`` lie: ``features.h5ad`` has ``features.maps.npy`` beside it."""
    return features.with_name(f"{features.stem}.maps.npy")


@dataclass(frozen=True)
class StoredMaps:
    """Unpooled maps of cells, left on disk until they are read; ``rows`` of the file, all where None."""

    path: Path
    rows: np.ndarray | None = None

    @classmethod
    def beside(cls, features: Path, *, cells: int) -> "StoredMaps | None":
        """The maps of the features in that file; None where none were stored.

        Raises:
            InputError: when they are not of so many ``cells``.
        """
        path = maps_path(features)
        if not path.is_file():
            return None
        found = len(np.load(path, mmap_mode="r"))
        if found != cells:
            raise InputError(f"{path}: maps of {found} cells, {features.name} has {cells}; embed the cells anew")
        return cls(path)

    def select(self, rows: np.ndarray) -> "StoredMaps":
        """Those of some cells."""
        return StoredMaps(self.path, rows if self.rows is None else self.rows[rows])

    def read(self) -> np.ndarray:
        """Maps float16 ``(N, C', h, w)``."""
        stored = np.load(self.path, mmap_mode="r")
        return np.array(stored if self.rows is None else stored[self.rows])


class MapFile:
    """Streams unpooled maps to ``.npy``, float16 ``(N, C', h, w)``, which takes its name only when whole."""

    def __init__(self, path: Path, count: int) -> None:
        self._count = count
        self._whole = whole_file(path)
        self._array: np.memmap | None = None

    def __enter__(self) -> Self:
        self._partial = self._whole.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._array is not None:
            self._array.flush()
            self._array = None
        self._whole.__exit__(kind, error, trace)

    def write(self, chosen: slice, maps: Tensor) -> None:
        """Write the maps ``(n, C', h, w)`` of the cells ``chosen``; the first call fixes the shape."""
        if self._array is None:
            shape = (self._count, *maps.shape[1:])
            self._array = np.lib.format.open_memmap(self._partial, mode="w+", dtype=np.float16, shape=shape)
        self._array[chosen] = maps.half().cpu().numpy()
