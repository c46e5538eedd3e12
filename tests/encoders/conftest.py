from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.writer import CellSetWriter, cell_id


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., CellSet]:
    """Write a small CellSet of random cells."""

    def make(
        name: str = "cells.set",
        *,
        count: int = 21,
        channels: int = 1,
        size: int = 32,
        bits: int = 8,
        seed: int = 0,
        pixel_size_um: float | None = None,
    ) -> CellSet:
        random = np.random.default_rng(seed)
        dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
        pixels = random.integers(0, 2**bits, (count, channels, size, size)).astype(dtype)
        folder = tmp_path / name
        folder.mkdir()
        with CellSetWriter(
            folder, channels=[f"c{i}" for i in range(channels)], height=size, width=size, dtype=dtype
        ) as writer:
            rows = [
                {
                    "cell_id": cell_id(pixels[i], f"{i}.png"),
                    "source": f"{i}.png",
                    "label": None if i == 0 else f"kind {i % 3}",
                    "patient": f"P{i % 4}",
                    "area": float(i),
                }
                for i in range(count)
            ]
            writer.add(pixels, rows)
            writer.finish(packing={"rule": "test"}, bit_depth=bits, pixel_size_um=pixel_size_um)
        return CellSet.open(folder)

    return make
