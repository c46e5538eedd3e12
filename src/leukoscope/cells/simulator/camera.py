from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from leukoscope.cells.simulator.shapes import FIELD_UM, Array
from leukoscope.cells.simulator.traits import Traits

BACKGROUND = 0.58
# Of a pixel 0.14 micrometres wide, in the object; a coarser pixel gathers more light.
FULL_WELL = 9000.0
READ_NOISE = 0.004
FINE_UM = 0.14
COLUMN_NOISE = 0.004


def exposed(light: Array, cells: Sequence[Traits], noise: Array, bit_depth: int) -> Array:
    """Record light ``(B, H, W)``, of which the empty field is 1, as integers of ``bit_depth`` bits in uint8 or uint16.

    ``noise`` holds standard normal numbers of the same shape; shot noise is taken as Gaussian, which holds for the
    thousands of electrons of a bright field.
    """
    finer = light.shape[2] * FINE_UM / FIELD_UM
    blur = np.array([cell.donor.blur for cell in cells], np.float32)[:, None, None]
    gain = np.array([cell.donor.noise for cell in cells], np.float32)[:, None, None]
    # The cell flows along x while the shutter is open, by a part of a pixel.
    blur = np.minimum(blur * finer, 0.5)
    moved = (1 - blur) * light + blur * np.roll(light, 1, axis=2)
    pattern = np.stack([_columns(cell.donor.columns, light.shape[2]) for cell in cells])
    signal = np.clip(BACKGROUND * moved * pattern[:, None, :], 0, None)
    signal = signal + finer * gain * noise * np.sqrt(signal / FULL_WELL + READ_NOISE**2)
    top = 2**bit_depth - 1
    counts = np.rint(np.clip(signal, 0, 1) * top)
    pixels: Array = counts.astype(np.uint8 if bit_depth <= 8 else np.uint16)
    return pixels


@lru_cache(maxsize=256)
def _columns(seed: int, width: int) -> Array:
    """The camera's fixed pattern: a gain for each column, faint stripes along the image."""
    gain = 1 + COLUMN_NOISE * np.random.default_rng(seed).standard_normal(width)
    return gain.astype(np.float32)
