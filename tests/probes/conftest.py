from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.writer import CellSetWriter, cell_id


def write_discs(out: Path, count: int, *, radii: Sequence[float] = (3, 6), slides: int = 4, seed: int = 0) -> CellSet:
    """Discs on a noisy ground, of as many kinds as there are ``radii``, in turn; slides change in turn, too."""
    generator = np.random.default_rng(seed)
    out.mkdir()
    away = np.hypot(*np.mgrid[-7.5:8, -7.5:8])
    names = ("small", "large", "huge")
    with CellSetWriter(out, channels=["grey"], height=16, width=16, dtype=np.dtype(np.uint8)) as writer:
        for i in range(count):
            kind = i % len(radii)
            disc = np.where(away < radii[kind], 60, 180)
            pixels = (disc + generator.normal(0, 10, (1, 1, 16, 16))).astype(np.uint8)
            told = {"label": names[kind], "slide": f"S{i // len(radii) % slides}"}
            writer.add(pixels, [{"cell_id": cell_id(pixels[0], "discs", i), **told}])
        writer.finish(packing={})
    return CellSet.open(out)


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> CellSet:
    """120 discs, small and large, of four slides."""
    return write_discs(tmp_path_factory.mktemp("discs") / "discs.set", 120)
