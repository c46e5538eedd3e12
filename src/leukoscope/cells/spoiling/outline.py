import numpy as np
from scipy import ndimage

from leukoscope.cells.field import distance
from leukoscope.cells.spoiling.background import Background

_STEPS = (0.08, 0.12, 0.16, 0.2)
_CORE = 0.4
_NOISE = 3.0


def outline(pixels: np.ndarray) -> np.ndarray:
    """Where the cell in the middle of float ``(C, H, W)`` lies, with a small margin: a mask ``(H, W)``.

    The cell is what differs from the background, by the lowest threshold at which it does not run into the border.
    Where it always does (red cells touch it, or it is larger than the field), a disc of half the field and its most
    unlike part are taken together; where nothing differs, the disc alone.
    """
    disc = distance(*pixels.shape[1:]) <= 0.5
    unlike = _unlikeness(pixels, disc)
    margin = _share(unlike, 1 / 20)
    most = float(np.quantile(unlike, 0.995))
    for step in _STEPS:
        cell = _central(unlike > max(_NOISE, step * most))
        if cell.any() and not _touches_border(cell):
            return np.asarray(ndimage.binary_dilation(cell, iterations=margin))
    core = _central(unlike > max(_NOISE, _CORE * most))
    return np.asarray(disc | ndimage.binary_dilation(core, iterations=margin))


def _unlikeness(pixels: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """By how many deviations of the background each pixel ``(H, W)`` differs from it, over all channels."""
    background = Background.of(pixels, disc)
    level = np.median(background.squares, axis=(0, 2, 3))[:, None, None]
    spread = 1.4826 * np.median(np.abs(background.squares - level), axis=(0, 2, 3))
    # A background of one grey level has no spread: half a level is what rounding alone would give.
    difference = (pixels - background.level) / np.maximum(spread, 0.5)[:, None, None]
    unlike: np.ndarray = ndimage.gaussian_filter(np.sqrt((difference**2).mean(axis=0)), _share(disc, 1 / 80))
    return unlike


def _central(found: np.ndarray) -> np.ndarray:
    """The part of a mask that weighs most in the middle, its outline smoothed and its holes filled."""
    few = _share(found, 1 / 30)
    # Closing would open what lies at the border, but for a frame around it.
    closed = ndimage.binary_closing(np.pad(found, few), iterations=few)[few:-few, few:-few]
    smooth = ndimage.gaussian_filter(ndimage.binary_fill_holes(closed).astype(float), few) > 0.5
    parts, count = ndimage.label(smooth)
    if not count:
        return np.zeros_like(found)
    weights = ndimage.sum_labels(np.exp(-4 * distance(*found.shape) ** 2), parts, np.arange(1, count + 1))
    return np.asarray(parts == 1 + int(np.argmax(weights)))


def _touches_border(mask: np.ndarray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _share(image: np.ndarray, share: float) -> int:
    """A share of the shorter side of ``(H, W)`` in whole pixels, 1 at least."""
    return max(1, round(share * int(min(image.shape))))
