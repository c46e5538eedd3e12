from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

_FEWEST_SQUARES = 20
_AS_QUIET = 1.5
_HALF_A_LEVEL = 0.5


@dataclass(frozen=True)
class Background:
    """What an image shows where no cell lies: between cells, and between the red cells of a smear.

    ``squares`` ``(n, C, side, side)`` are its quietest ones, ``level`` ``(C, H, W)`` is their brightness, carried over
    the whole field.
    """

    squares: np.ndarray
    level: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, avoid: np.ndarray) -> "Background":
        """The background of float ``(C, H, W)``, outside the mask ``avoid`` ``(H, W)`` where that leaves room."""
        side = min(max(4, min(avoid.shape) // 10), *avoid.shape)
        corners = _quiet_corners(pixels, avoid, side)
        squares = np.stack([pixels[:, top : top + side, left : left + side] for top, left in corners])
        quiet = np.zeros(avoid.shape)
        for top, left in corners:
            quiet[top : top + side, left : left + side] = 1
        return cls(squares, _carried(pixels, quiet, np.median(squares, axis=(0, 2, 3))))

    def fill(self, pixels: np.ndarray, unknown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``pixels`` with the background where the mask ``unknown`` ``(H, W)`` is set; what is known stays as it is.

        What the rim of the known part shows fades into the background within a fortieth of the field.
        """
        faded = self.level + _fading(pixels - self.level, unknown)
        return np.where(unknown, faded + self.grain(rng), pixels)

    def grain(self, rng: np.random.Generator) -> np.ndarray:
        """Noise ``(C, H, W)`` with the grain of the squares: they are laid at random, each over half of the next.

        Where they overlap they are weighted by weights whose squares sum to one, so that the variance stays (Heitz and
        Neyret 2018, High-performance by-example noise, section 3).
        """
        n, channels, side, _ = self.squares.shape
        noise = self.squares - self.squares.mean(axis=(2, 3), keepdims=True)
        noise = np.concatenate([noise, noise[:, :, ::-1], noise[..., ::-1]])
        step, (height, width) = max(1, side // 2), self.level.shape[1:]
        slope = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1))
        weight = np.outer(slope, slope).astype(float)
        laid = np.zeros((channels, height + 2 * side, width + 2 * side))
        power = np.zeros(laid.shape[1:])
        for top in range(0, height + side, step):
            for left in range(0, width + side, step):
                place = (slice(top, top + side), slice(left, left + side))
                laid[:, *place] += weight * noise[rng.integers(3 * n)]
                power[place] += weight**2
        inside = (slice(side, side + height), slice(side, side + width))
        grain: np.ndarray = laid[:, *inside] / np.sqrt(power[inside])
        return grain


def _quiet_corners(pixels: np.ndarray, avoid: np.ndarray, side: int) -> np.ndarray:
    """Upper left corners ``(n, 2)`` of the squares in which least happens, on a grid of half their side."""
    step = max(1, side // 2)
    windows = sliding_window_view(pixels, (side, side), axis=(1, 2))[:, ::step, ::step]
    covered = sliding_window_view(avoid, (side, side))[::step, ::step].mean(axis=(2, 3)).ravel()
    unrest = windows.std(axis=(3, 4)).reshape(len(pixels), -1)
    # A square of one value in all channels is a frame or a padding, and no background.
    covered = np.where(unrest.any(axis=0), covered, 2.0)
    fewest = min(_FEWEST_SQUARES, len(covered)) - 1
    free = covered <= np.partition(covered, fewest)[fewest]
    least = np.quantile(unrest[:, free], 0.05, axis=1, keepdims=True).clip(_HALF_A_LEVEL)
    worst = np.where(free, (unrest / least).max(axis=0), np.inf)
    chosen = np.flatnonzero(worst <= max(_AS_QUIET, np.partition(worst, fewest)[fewest]))
    return step * np.stack(np.unravel_index(chosen, windows.shape[1:3]), axis=1)


def _carried(pixels: np.ndarray, quiet: np.ndarray, common: np.ndarray) -> np.ndarray:
    """The brightness of the quiet pixels, carried over the field; far from them it is the common one ``(C,)``."""
    difference = (pixels - common[:, None, None]) * quiet
    level: np.ndarray = common[:, None, None] + _averaged(difference) / (_averaged(quiet[None]) + 0.02)
    return level


def _averaged(planes: np.ndarray) -> np.ndarray:
    """Each plane of ``(C, H, W)`` averaged over a third of the field, twice: as a wide blur, and much faster."""
    width = max(1, min(planes.shape[1:]) // 3)
    once = ndimage.uniform_filter(planes, (0, width, width))
    return np.asarray(ndimage.uniform_filter(once, (0, width, width)))


def _fading(difference: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """How the rim of the known part of ``(C, H, W)`` goes on into the unknown one: less with every pixel."""
    reach = max(1.0, min(unknown.shape) / 40)
    known = (~unknown).astype(float)
    weight = ndimage.gaussian_filter(known, reach).clip(1e-3)
    smooth = ndimage.gaussian_filter(difference * known, (0, reach, reach)) / weight
    away, (row, column) = ndimage.distance_transform_edt(unknown, return_indices=True)
    fading: np.ndarray = smooth[:, row, column] * np.exp(-away / reach)
    return fading
