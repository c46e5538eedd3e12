from collections.abc import Sequence

import numpy as np
from scipy import fft

from leukoscope.cells.simulator.shapes import FIELD_UM, WAVELENGTH_UM, column, phase_maps
from leukoscope.cells.simulator.traits import Traits

APERTURE = 0.55
CONDENSER = 0.12
MEDIUM = 1.337
CHROMATIN_UM = 0.32
Array = np.ndarray


def bright_field(cells: Sequence[Traits], size: int) -> Array:
    """Images ``(B, size, size)`` float32 of cells in transmitted light, without noise; the empty field is about 1.

    The cell is a thin phase object with a little absorption in its granules. The field behind it is carried out of
    focus by Fresnel propagation, cut by the objective's aperture, and its modulus squared is recorded; a condenser of
    small aperture damps the fine rings far from focus (Goodman, Introduction to Fourier Optics, chapters 4 and 6).
    """
    # Coarse images are rendered finer and binned, as a coarser camera would see the same light.
    fine = -(-128 // size)
    grid = size * fine
    intensity = _propagated(cells, grid)
    if fine > 1:
        intensity = intensity.reshape(len(cells), size, fine, size, fine).mean(axis=(2, 4))
    return intensity * _illumination(cells, size)


def _propagated(cells: Sequence[Traits], grid: int) -> Array:
    phase, granules, chromatin = phase_maps(cells, grid)
    step = FIELD_UM / grid
    across = fft.rfftfreq(grid, step).astype(np.float32)
    along = fft.fftfreq(grid, step).astype(np.float32)
    square = along[:, None] ** 2 + across[None, :] ** 2
    width = column(cells, "granule_um") / 2
    # A peak of height 1 and this width holds 2 pi width^2 / step^2 times the value of one pixel.
    spectrum = fft.rfft2(granules) * _blob(width, square, step)
    grains = fft.irfft2(spectrum, s=(grid, grid)).astype(np.float32)
    clumps = fft.irfft2(fft.rfft2(chromatin) * _blob(np.float32(CHROMATIN_UM / 2), square, step), s=(grid, grid))
    field = np.exp(1j * (phase + grains + clumps) - 0.12 * np.abs(grains)).astype(np.complex64)
    return np.abs(fft.ifft2(fft.fft2(field) * _transfer(cells, along))).astype(np.float32) ** 2


def _blob(width_um: Array | np.float32, square: Array, step: float) -> Array:
    gain = 2 * np.pi * width_um**2 / step**2
    return (gain * np.exp(-2 * np.pi**2 * width_um**2 * square)).astype(np.float32)


def _transfer(cells: Sequence[Traits], frequency: Array) -> Array:
    """Objective and defocus as a complex factor ``(B, grid, grid)`` on the spectrum of the field."""
    square = frequency[:, None] ** 2 + frequency[None, :] ** 2
    cutoff = APERTURE / WAVELENGTH_UM
    # A soft edge, as of an objective that is not perfect, rings less than a sharp one.
    pupil = 1 / (1 + np.exp((np.sqrt(square) / cutoff - 1) * 14))
    defocus = column(cells, "defocus_um")
    coherence = np.exp(-2 * (np.pi * CONDENSER * defocus) ** 2 * square)
    return (pupil * coherence * np.exp(-1j * np.pi * WAVELENGTH_UM / MEDIUM * defocus * square)).astype(np.complex64)


def _illumination(cells: Sequence[Traits], size: int) -> Array:
    """Brightness of the empty field: slope and vignetting of the batch's lamp, as a factor ``(B, size, size)``."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5) * 2
    x, y = axis[None, None, :], axis[None, :, None]
    lamp = np.array([(*c.donor.slope, c.donor.vignetting, c.donor.brightness) for c in cells], np.float32)
    slope_x, slope_y, vignetting, brightness = (lamp[:, part, None, None] for part in range(4))
    return brightness * (1 + slope_x * x + slope_y * y - vignetting * (x * x + y * y))
