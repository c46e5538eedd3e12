from collections.abc import Sequence

import numpy as np

from leukoscope.cells.simulator.traits import Traits

BACKGROUND = 0.58
FULL_WELL = 9000.0
READ_NOISE = 0.004
Array = np.ndarray


def exposed(light: Array, cells: Sequence[Traits], noise: Array, bit_depth: int) -> Array:
    """Record light ``(B, H, W)``, of which the empty field is 1, as integers of ``bit_depth`` bits in uint8 or uint16.

    ``noise`` holds standard normal numbers of the same shape; shot noise is taken as Gaussian, which holds for the
    thousands of electrons of a bright field.
    """
    blur = np.array([cell.donor.blur for cell in cells], np.float32)[:, None, None]
    gain = np.array([cell.donor.noise for cell in cells], np.float32)[:, None, None]
    # The cell flows along x while the shutter is open.
    moved = (1 - blur) * light + blur * np.roll(light, 1, axis=2)
    signal = np.clip(BACKGROUND * moved, 0, None)
    signal = signal + gain * noise * np.sqrt(signal / FULL_WELL + READ_NOISE**2)
    top = 2**bit_depth - 1
    counts = np.rint(np.clip(signal, 0, 1) * top)
    return counts.astype(np.uint8 if bit_depth <= 8 else np.uint16)
