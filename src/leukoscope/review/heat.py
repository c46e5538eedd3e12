import matplotlib
import numpy as np

from leukoscope.differential.sample import Sample
from leukoscope.explain.classheat import class_heat
from leukoscope.report.drawing import png
from leukoscope.report.galleries import visible

_STRENGTH = 0.6


def drawn_heat(sample: Sample, row: int) -> bytes:
    """A PNG of a cell, its first channel under the heat for the class predicted (Grad-CAM).

    Raises:
        InputError: when the encoder is not where it was, or is another.
    """
    cellset = sample.cellset.select(np.array([row]))
    found = class_heat(sample.encoder(), cellset, np.array([0]), sample.classifier, device="cpu")
    heat = found.heat[0]
    cell = visible(cellset.read([0])[0], cellset, shrink=False)
    cell = cell if cell.ndim == 3 else np.repeat(cell[:, : heat.shape[1], None], 3, axis=2)
    colours = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    share = _STRENGTH * heat[..., None]
    return png(((1 - share) * cell + share * colours).astype(np.uint8))
