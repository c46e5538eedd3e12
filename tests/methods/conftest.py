from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate
from leukoscope.cells.writer import CellSetWriter


@pytest.fixture(scope="session")
def few_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CellSet of 64 cells, 24 px."""
    path = tmp_path_factory.mktemp("cells") / "few.set"
    simulate(path, cells=64, size=24, seed=0, jobs=1)
    return path


@pytest.fixture(scope="session")
def three_kinds(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """480 cells of three kinds in equal parts, 40 px, under a lamp that changes by a fifth from cell to cell."""
    folder, kinds = tmp_path_factory.mktemp("cells"), ("LYM", "NEU", "K562")
    steady = simulate(
        folder / "steady.set",
        cells=480,
        size=40,
        classes=kinds,
        composition=dict.fromkeys(kinds, 1 / 3),
        difficulty=0.2,
        seed=0,
        jobs=1,
    )
    light = np.random.default_rng(0).uniform(0.8, 1.2, (480, 1, 1, 1))
    pixels = (steady.read(slice(None)) * light).clip(0, 255).astype(np.uint8)
    path = folder / "kinds.set"
    path.mkdir()
    with CellSetWriter(path, channels=steady.info.channels, height=40, width=40, dtype=pixels.dtype) as writer:
        writer.add(pixels, steady.cells.to_dict("records"))
        writer.finish(packing={"rule": "test"})
    return CellSet.open(path)
