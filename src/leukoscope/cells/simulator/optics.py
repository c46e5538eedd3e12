from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import fft

from leukoscope.cells.simulator.shapes import FIELD_UM, WAVELENGTH_UM, Array, column, phase_maps
from leukoscope.cells.simulator.traits import Traits

APERTURE = 0.55
CONDENSER = 0.12
MEDIUM = 1.337
CHROMATIN_UM = 0.32
ABSORPTION = 0.12


def bright_field(cells: Sequence[Traits], size: int) -> Array:
    """Images ``(B, size, size)`` float32 of cells in transmitted light, without noise; the empty field is about 1.

    The cell is a thin phase object with a little absorption in its granules. The field behind it is carried out of
    focus by Fresnel propagation, cut by the objective's aperture, and its modulus squared is recorded; a condenser of
    small aperture damps the fine rings far from focus (Goodman, Introduction to Fourier Optics, chapters 4 and 6).
    """
    # Coarse images are rendered finer and binned, as a coarser camera would see the same light.
    fine = -(-128 // size)
    intensity = _propagated(cells, size * fine)
    binned = intensity.reshape(len(cells), size, fine, size, fine).mean(axis=(2, 4), dtype=np.float32)
    image: Array = binned * _illumination(cells, size)
    return image


def _propagated(cells: Sequence[Traits], grid: int) -> Array:
    phase, granules, chromatin = phase_maps(cells, grid)
    step = FIELD_UM / grid
    frequency = fft.fftfreq(grid, step).astype(np.float32)
    grains = _widened(granules, column(cells, "granule_um") / 2, frequency, step)
    clumps = _widened(chromatin, np.full((len(cells), 1, 1), CHROMATIN_UM / 2, np.float32), frequency, step)
    phase += grains
    phase += clumps
    amplitude = np.exp(-ABSORPTION * np.abs(grains))
    field = np.empty(phase.shape, np.complex64)
    np.multiply(amplitude, np.cos(phase), out=field.real)
    np.multiply(amplitude, np.sin(phase), out=field.imag)
    spectrum = fft.fft2(field, overwrite_x=True)
    spectrum *= _pupil(grid)
    spread = _defocus(cells, frequency)
    spectrum *= spread[:, :, None]
    spectrum *= spread[:, None, :]
    image = fft.ifft2(spectrum, overwrite_x=True)
    intensity: Array = image.real**2 + image.imag**2
    return intensity


def _widened(points: Array, width_um: Array, frequency: Array, step: float) -> Array:
    """Turn points into Gaussian blobs of standard deviation ``width_um`` ``(B, 1, 1)`` whose peaks keep the values."""
    half = frequency[: frequency.size // 2 + 1]
    width = width_um[:, :, 0]
    along, across = (
        np.sqrt(2 * np.pi) * width / step * np.exp(-2 * (np.pi * width * f) ** 2) for f in (frequency, half)
    )
    spectrum = fft.rfft2(points)
    spectrum *= along.astype(np.float32)[:, :, None]
    spectrum *= across.astype(np.float32)[:, None, :]
    blobs: Array = fft.irfft2(spectrum, s=points.shape[1:], overwrite_x=True)
    return blobs


@lru_cache(maxsize=4)
def _pupil(grid: int) -> Array:
    """The objective's aperture on the spectrum; a soft edge, as of a lens that is not perfect, rings less."""
    frequency = fft.fftfreq(grid, FIELD_UM / grid)
    radius = np.hypot(frequency[:, None], frequency[None, :]) * WAVELENGTH_UM / APERTURE
    return (1 / (1 + np.exp(np.minimum((radius - 1) * 14, 80)))).astype(np.float32)


def _defocus(cells: Sequence[Traits], frequency: Array) -> Array:
    """Defocus and its damping as a complex factor ``(B, grid)``, to be applied along either axis: it is separable."""
    distance = column(cells, "defocus_um")[:, :, 0]
    damping = 2 * (np.pi * CONDENSER * distance) ** 2
    fresnel = np.pi * WAVELENGTH_UM / MEDIUM * distance
    factor: Array = np.exp(-(damping + 1j * fresnel) * frequency**2).astype(np.complex64)
    return factor


def _illumination(cells: Sequence[Traits], size: int) -> Array:
    """Brightness of the empty field: slope and vignetting of the batch's lamp, as a factor ``(B, size, size)``."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * 2
    x, y = axis[None, None, :], axis[None, :, None]
    lamp = np.array([(*c.donor.slope, c.donor.vignetting, c.donor.brightness) for c in cells], np.float32)
    slope_x, slope_y, vignetting, brightness = (lamp[:, part, None, None] for part in range(4))
    field: Array = brightness * (1 + slope_x * x + slope_y * y - vignetting * (x * x + y * y))
    return field
