"""Draw docs/pictures/simulator.png: cells of the simulator, a row a kind, above real bright-field cells.

    python docs/pictures/simulator.py

The real cells (../shared/data, or LEUKOSCOPE_DATA) are left out where they are absent.
"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from leukoscope.cells.simulate import SimulateSettings, Simulation
from leukoscope.cells.simulator.kinds import KINDS
from leukoscope.common.files import shared_data

COLUMNS = 8


def simulated_rows() -> dict[str, list[np.ndarray]]:
    """The first cells of each kind of a balanced set, as ``leukoscope simulate`` makes it."""
    settings = SimulateSettings(cells=COLUMNS * len(KINDS), patients=COLUMNS)
    pixels, rows = Simulation(settings).render(range(settings.cells))
    return {kind: [p[0] for p, row in zip(pixels, rows, strict=True) if row["label"] == kind] for kind in KINDS}


def real_rows(folder: Path) -> dict[str, list[np.ndarray]]:
    """Bright-field cells of two real instruments."""
    atom = [np.array(Image.open(path).convert("L")) for path in sorted((folder / "atom").glob("M*.jpg"))[:COLUMNS]]
    montage = np.array(Image.open(next((folder / "jurkat-ifc" / "G1").glob("Ch3_*.tif"))))
    tiles = [montage[:40, 40 * i : 40 * i + 40] for i in range(COLUMNS)]
    return {"real: MB231,\nMCF7 (atom)": atom, "real: Jurkat\n(jurkat-ifc)": tiles}


def main() -> None:
    """Draw the picture."""
    rows = simulated_rows()
    folder = shared_data()
    if folder is not None:
        rows |= real_rows(folder)
    figure, axes = plt.subplots(len(rows), COLUMNS, figsize=(COLUMNS * 0.95 + 0.8, len(rows) * 0.95))
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            # Real cameras differ in range; the simulated rows keep theirs.
            limits = (0, 255) if image.dtype == np.uint8 else (image.min(), image.max())
            axis.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="antialiased")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(left=0.12, right=0.995, top=0.995, bottom=0.005, wspace=0.03, hspace=0.03)
    out = Path(__file__).with_suffix(".png")
    figure.savefig(out, dpi=80)
    Image.open(out).convert("L").quantize(32).save(out, optimize=True)


if __name__ == "__main__":
    main()
