from pathlib import Path

import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.simulate import simulate


@pytest.fixture(scope="session")
def few_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CellSet of 64 cells, 24 px."""
    path = tmp_path_factory.mktemp("cells") / "few.set"
    simulate(path, cells=64, size=24, seed=0, jobs=1)
    return path


@pytest.fixture(scope="session")
def four_kinds(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """480 cells of four kinds in equal parts, 40 px."""
    kinds = ("EOS", "LYM", "MON", "NEU")
    return simulate(
        tmp_path_factory.mktemp("cells") / "kinds.set",
        cells=480,
        size=40,
        classes=kinds,
        composition=dict.fromkeys(kinds, 0.25),
        difficulty=0.3,
        seed=0,
        jobs=1,
    )
