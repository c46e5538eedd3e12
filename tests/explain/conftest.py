from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.writer import CellSetWriter, cell_id


@pytest.fixture
def write_cells(tmp_path: Path) -> Callable[..., CellSet]:
    """Write grey uint8 cells ``(n, 1, H, W)`` as a CellSet: ``write_cells(pixels, name, label=[...], ...)``."""

    def write(pixels: np.ndarray, name: str = "cells.set", **columns: Sequence[str | None]) -> CellSet:
        folder = tmp_path / name
        folder.mkdir()
        height, width = pixels.shape[2:]
        with CellSetWriter(folder, channels=["grey"], height=height, width=width, dtype=np.dtype(np.uint8)) as writer:
            rows = [
                {"cell_id": cell_id(p, f"{i}.png"), "source": f"{i}.png"} | {key: columns[key][i] for key in columns}
                for i, p in enumerate(pixels)
            ]
            writer.add(pixels, rows)
            writer.finish(packing={})
        return CellSet.open(folder)

    return write


@pytest.fixture
def cells(write_cells: Callable[..., CellSet]) -> CellSet:
    return write_cells(np.random.default_rng(0).integers(0, 255, (5, 1, 40, 40)).astype(np.uint8))
