"""Draw docs/pictures/policy-*.png: what each policy makes of real cells.

    .venv/bin/python docs/pictures/policies.py

Each row is one cell: first as it is, then its views in the first epochs. The cells are read from ../shared/data or from
LEUKOSCOPE_DATA (Acevedo et al. 2020, CC BY 4.0; Blasi et al. 2016, BSD-3; Meng et al. 2018, MIT).
"""

import sys
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image

from leukoscope.cells.intensity import Intensity
from leukoscope.common.files import shared_data
from leukoscope.views.augment import Augment
from leukoscope.views.policy import Policy

SIZE = 96
COLUMNS = 8
GAP = 3
TILE = 40


def main() -> None:
    """Draw every policy on cells of its kind."""
    data = shared_data()
    if data is None:
        sys.exit("real cells are absent: no ../shared/data and no LEUKOSCOPE_DATA")
    smear, flow = stained_cells(data), flow_cells(data)
    dark_field = montage_cells(data)
    for name, cells in {
        "ifc": flow,
        "hcs": dark_field,
        "smear": smear,
        "smear-small": smear,
        "stained": smear,
    }.items():
        picture = drawn(Policy.load(name), cells)
        picture.quantize(256).save(Path(__file__).parent / f"policy-{name}.png", optimize=True)


def stained_cells(data: Path) -> torch.Tensor:
    """Three stained leukocytes, uint8 ``(3, 3, 160, 160)``."""
    kinds = ("eosinophil", "lymphocyte", "neutrophil")
    return stack([np.asarray(Image.open(sorted((data / "pbc" / kind).glob("*.jpg"))[7])) for kind in kinds])


def flow_cells(data: Path) -> torch.Tensor:
    """Three unstained cells in flow, uint8 ``(3, 1, 128, 128)``."""
    return stack(
        [np.asarray(Image.open(data / "atom" / f"{name}_04.jpg").convert("L")) for name in ("THP1", "PBMC", "MCF7")]
    )


def montage_cells(data: Path) -> torch.Tensor:
    """Three cells in dark field, 16 bit stretched over all of them alike, uint8 ``(3, 1, 40, 40)``."""
    montage = tifffile.imread(next((data / "jurkat-ifc" / "G1").glob("Ch6_*.tif"))).astype(np.float32)
    tiles = [montage[:TILE, i * TILE : (i + 1) * TILE] for i in (1, 4, 6)]
    low, high = np.percentile(np.stack(tiles), [0.5, 99.8])
    return stack([(np.clip((tile - low) / (high - low), 0, 1) * 255).astype(np.uint8) for tile in tiles])


def stack(images: list[np.ndarray]) -> torch.Tensor:
    """``(H, W)`` or ``(H, W, 3)`` arrays to ``(B, C, H, W)``."""
    return torch.from_numpy(np.stack([image[..., None] if image.ndim == 2 else image for image in images])).permute(
        0, 3, 1, 2
    )


def drawn(policy: Policy, cells: torch.Tensor) -> Image.Image:
    """Rows of cells: each as it is, and then its views."""
    intensity = Intensity.of_bit_depth(8, cells.shape[1])
    numbers = torch.arange(len(cells))
    plain = Augment(Policy.parse({"views": [{"count": 1}]}, where="plain"), SIZE, intensity, 0)(cells, numbers, 0)
    augment = Augment(policy, SIZE, intensity, 0)
    views = [view for epoch in range((COLUMNS + 1) // 2) for view in augment(cells, numbers, epoch)]
    columns = [*plain, *views[:COLUMNS]]
    step = SIZE + GAP
    picture = Image.new("RGB", (len(columns) * step + 2 * GAP, len(cells) * step - GAP), "white")
    for x, column in enumerate(columns):
        for y, view in enumerate(column):
            pixels = (view.expand(3, -1, -1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
            # The cell as it is stands a little apart.
            picture.paste(Image.fromarray(pixels), (x * step + 3 * GAP * (x > 0), y * step))
    return picture


if __name__ == "__main__":
    main()
