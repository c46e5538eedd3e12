from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from torch import Tensor

from leukoscope.common.files import whole_file


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
