from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import ndimage

_BLURS = (0.0, 0.6, 1.0, 1.7, 2.8)
# What is left of a band when it holds no more than noise does, and what a band must hold to be compared with.
_NOTHING, _LITTLE = 1e-3, 0.05


def detail(unlike: np.ndarray, noise: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much fine structure the cell shows for its coarse structure, at two scales ``(n,)``: logarithms of ratios.

    Each is the energy of a band of differences of Gaussians, about half an octave wide, over that of a coarser one,
    within the region, less what the background's noise alone would give. A ratio does not depend on contrast. Of
    several channels the sharpest one is told: a cell out of focus is blurred in all, and one that shows little tells
    nothing.

    Args:
        unlike: signed difference from the background in its deviations, float32 ``(n, C, H, W)``.
        noise: the share ``(n, C)`` of that deviation which is noise from pixel to pixel.
        region: where the cell lies ``(n, H, W)``.

    Returns:
        The finest band (below 0.6 pixels) over the third (1 to 1.7), and the second (0.6 to 1) over the fourth (1.7 to
        2.8).
    """
    size = np.maximum(region.sum(axis=(1, 2)), 1)[:, None]
    energies, finer = [], unlike
    for blur, noise_energy in zip(_BLURS[1:], _noise_energies(), strict=True):
        coarser = ndimage.gaussian_filter(unlike, (0, 0, blur, blur), truncate=3)
        band = np.einsum("nchw,nchw,nhw->nc", finer - coarser, finer - coarser, region.astype(np.float32))
        energies.append(band / size - noise_energy * noise**2)
        finer = coarser
    return _ratio(energies[0], energies[2]), _ratio(energies[1], energies[3])


def _ratio(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    most: np.ndarray = np.log(np.maximum(fine, _NOTHING) / (np.maximum(coarse, 0) + _LITTLE)).max(axis=1)
    return most


@lru_cache(maxsize=1)
def _noise_energies() -> tuple[float, ...]:
    """The energy of each band in white noise of deviation 1: that of its impulse response."""
    point = np.zeros((41, 41))
    point[20, 20] = 1
    blurred = [point, *(ndimage.gaussian_filter(point, blur, truncate=3) for blur in _BLURS[1:])]
    return tuple(float(((a - b) ** 2).sum()) for a, b in pairwise(blurred))
