from pathlib import Path

import numpy as np

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.writer import CellSetWriter, cell_id
from leukoscope.common.files import whole_folder


def tiny_set(
    path: Path, cells: int = 120, size: int = 24, *, channels: int = 1, dtype: str = "uint8", seed: int = 0
) -> CellSet:
    """Cells of three kinds (a disc, a ring, two lobes), placed, sized and lit at random."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, cells)
    pixels = np.stack([_cell(rng, kind, size, channels) for kind in kinds])
    pixels = (pixels * np.iinfo(dtype).max).astype(dtype)
    with (
        whole_folder(path) as folder,
        CellSetWriter(
            folder, channels=[f"c{i}" for i in range(channels)], height=size, width=size, dtype=np.dtype(dtype)
        ) as writer,
    ):
        rows = [
            {"cell_id": cell_id(image, "tiny", number), "source": "tiny", "label": f"kind{kinds[number]}"}
            for number, image in enumerate(pixels)
        ]
        writer.add(pixels, rows)
        writer.finish(packing={"rule": "none"})
    return CellSet.open(path)


def _cell(rng: np.random.Generator, kind: int, size: int, channels: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size - 0.5
    turn = rng.uniform(0, np.pi)
    x, y = x * np.cos(turn) - y * np.sin(turn) + rng.uniform(-0.1, 0.1), x * np.sin(turn) + y * np.cos(turn)
    radius = rng.uniform(0.22, 0.32)
    distance = np.hypot(x, y)
    if kind == 1:
        distance = np.abs(distance - 0.8 * radius) * 2.5
    if kind == 2:
        distance = np.minimum(np.hypot(x - 0.7 * radius, y), np.hypot(x + 0.7 * radius, y)) * 1.8
    image = 0.45 + rng.uniform(0.2, 0.35) / (1 + np.exp((distance - radius) * 40))
    noisy = image + rng.normal(0, 0.03, (channels, size, size))
    return np.clip(noisy, 0, 1)
