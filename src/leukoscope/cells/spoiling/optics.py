import numpy as np
from scipy.signal import oaconvolve

from leukoscope.cells.spoiling.background import Background
from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.outline import outline

_WIDEST_UM = 2.0
_WIDEST_SHARE = 1 / 16
_DARKEST = 0.75


def defocus(image: np.ndarray, grade: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: every point becomes a disc, as geometrical optics has it.

    The disc's radius at grade 1 is 2 micrometres where the pixels' size is known, else a sixteenth of the field. A
    disc, unlike a Gaussian, turns the contrast of fine detail over, as a lens does. Waves are not followed: the bright
    and dark rings that a transparent cell gains out of focus cannot be had from intensities alone. What noise the blur
    takes away is put back, with the grain of the image's background, for a camera's noise is never out of focus.
    """
    shorter = min(image.shape[1:])
    widest = _WIDEST_SHARE * shorter if camera.pixel_size_um is None else _WIDEST_UM / camera.pixel_size_um
    spread = disc(grade * min(widest, shorter / 2))
    around = spread.shape[0] // 2
    padded = np.pad(image, ((0, 0), (around, around), (around, around)), mode="symmetric")
    blurred = oaconvolve(padded, spread[None], mode="valid", axes=(1, 2))
    grain = Background.of(image, outline(image)).grain(rng)
    restored: np.ndarray = blurred + np.sqrt(max(0.0, 1 - float((spread**2).sum()))) * grain
    return restored


def disc(radius: float) -> np.ndarray:
    """A disc of ``radius`` pixels that sums to one, ``(2 n + 1, 2 n + 1)``; its rim has soft edges."""
    reach = int(np.ceil(radius))
    away = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    weights = np.clip(radius + 0.5 - away, 0, 1)
    disc: np.ndarray = weights / weights.sum()
    return disc


def uneven_light(image: np.ndarray, grade: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """The light falls off over the field: straight to one side, or around a place off the middle.

    At its brightest it is as it was; at its darkest three quarters are missing at grade 1, as much less at less.
    """
    height, width = image.shape[1:]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    angle = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        fall = x * np.cos(angle) + y * np.sin(angle)
    else:
        fall = (x - 0.4 * np.cos(angle)) ** 2 + (y - 0.4 * np.sin(angle)) ** 2
    fall = (fall - fall.min()) / max(float(np.ptp(fall)), 1e-9)
    lit: np.ndarray = image * (1 - _DARKEST * grade * fall)
    return lit
