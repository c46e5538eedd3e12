"""Draw docs/pictures/spoiled.png: what each kind of spoiling makes of real cells, by grade.

    .venv/bin/python docs/pictures/spoiled.py

A row a kind; of each instrument first a cell as it is, then the same cell at three grades. The cells are read from
../shared/data or LEUKOSCOPE_DATA (Acevedo et al. 2020, CC BY 4.0; Meng et al. 2018, MIT; Blasi et al. 2016, BSD-3).
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import tifffile
from PIL import Image

from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.kinds import KINDS, UNGRADED, spoil_cell
from leukoscope.common.files import shared_data

GRADES = (0.3, 0.6, 1.0)
TILE = 40
WIDTH = 0.78


def main() -> None:
    """Draw the picture."""
    data = shared_data()
    if data is None:
        sys.exit("real cells are absent: no ../shared/data and no LEUKOSCOPE_DATA")
    blocks = [drawn(cells, bits) for cells, bits in ((smear(data), 8), (flow(data), 8), (montage(data), 12))]
    shown = 1 + len(GRADES)
    # A narrow empty column stands between two instruments.
    widths = ([1.0] * shown + [0.12]) * len(blocks)
    figure, axes = plt.subplots(
        len(KINDS),
        len(widths) - 1,
        figsize=(WIDTH * (sum(widths) + 1), WIDTH * len(KINDS) + 0.2),
        width_ratios=widths[:-1],
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for number, block in enumerate(blocks):
        for row, images in enumerate(block):
            # One that has no grades stands under the highest.
            for column, image in zip((0, *range(shown - len(images) + 1, shown)), images, strict=True):
                axes[row, number * (shown + 1) + column].imshow(image, cmap="gray", vmin=0, vmax=1)
        for column, name in enumerate(("as it is", *(f"{grade:g}" for grade in GRADES))):
            axes[0, number * (shown + 1) + column].set_title(name, fontsize=7, pad=3)
    for kind, axis in zip(KINDS, axes[:, 0], strict=True):
        axis.set_ylabel(kind, rotation=0, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(left=0.085, right=0.998, top=0.972, bottom=0.003, wspace=0.04, hspace=0.04)
    out = Path(__file__).with_suffix(".png")
    figure.savefig(out, dpi=84)
    Image.open(out).convert("RGB").quantize(256).save(out, optimize=True)


def smear(data: Path) -> np.ndarray:
    """Stained leukocytes, uint8 ``(8, 3, 160, 160)``."""
    kinds = ("basophil", "eosinophil", "neutrophil", "lymphocyte", "monocyte", "eosinophil", "neutrophil", "monocyte")
    files = [sorted((data / "pbc" / kind).glob("*.jpg"))[20 + 3 * number] for number, kind in enumerate(kinds)]
    return np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in files])


def flow(data: Path) -> np.ndarray:
    """Unstained cells in flow, uint8 ``(8, 1, 128, 128)``."""
    return np.stack([np.asarray(Image.open(data / "atom" / f"THP1_0{n}.jpg").convert("L"))[None] for n in range(2, 10)])


def montage(data: Path) -> np.ndarray:
    """Unstained cells in bright field, 12 bits in uint16 ``(8, 1, 40, 40)``."""
    image = tifffile.imread(next((data / "jurkat-ifc" / "G1").glob("Ch3_*.tif")))
    return np.stack([image[None, TILE : 2 * TILE, TILE * i : TILE * (i + 1)] for i in range(len(KINDS))])


def drawn(cells: np.ndarray, bits: int) -> list[list[np.ndarray]]:
    """For each kind a cell as it is and at each grade, as intensities to show."""
    white = 2.0**bits - 1
    camera = Camera(white, cells.mean(axis=(0, 2, 3)) + 2 * cells.std(axis=(0, 2, 3)), None)
    rows = []
    for number, kind in enumerate(KINDS):
        cell, second = cells[number], cells[number - 1]
        images = [
            spoil_cell(cell, kind, grade, camera, np.random.default_rng(3), second=second)
            for grade in GRADES
            if kind not in UNGRADED or grade == 1
        ]
        rows.append([shown(image, cell, white) for image in (cell, *images)])
    return rows


def shown(image: np.ndarray, cell: np.ndarray, white: float) -> np.ndarray:
    """Intensities ``(H, W)`` or ``(H, W, 3)``; where a camera's range is hardly used, that of the cell as it is."""
    used = float(cell.max())
    whole = max(used, float(image.max())) > white / 2
    low, high = (0.0, white) if whole else (0.7 * float(cell.min()), 1.15 * used)
    scaled = np.clip((image - low) / (high - low), 0, 1).transpose(1, 2, 0)
    return scaled if scaled.shape[2] == 3 else scaled[..., 0]


if __name__ == "__main__":
    main()
