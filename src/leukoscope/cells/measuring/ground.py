from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from leukoscope.cells.field import distance

_DISC = 0.8
_QUIETEST, _QUIET = 0.25, 0.5
_AS_QUIET = 1.5
_HALF_A_LEVEL = 0.5
_ROUNDS = 3
_STIFFNESS = 0.02
# Slopes are held back less than curvature: light falls off slowly.
_PENALTY = np.diag([0.0, 1, 1, 2, 2, 2])


@dataclass(frozen=True)
class Ground:
    """What many images show where no cell lies, for speed found for all of them at once.

    :class:`~leukoscope.cells.spoiling.background.Background` does it image by image, more finely and slowly.
    ``level`` ``(n, C, H, W)`` is the background's brightness, a surface of second order; ``noise`` ``(n, C)`` its
    standard deviation within a few pixels, and ``spread`` ``(n, C)`` that and how badly the surface fits it together.
    """

    level: np.ndarray
    noise: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Ground":
        """The background of float ``(n, C, H, W)``, from its quietest squares around the middle."""
        rows, columns, mean, deviation = _squares(pixels)
        quiet, counted, fewest = _quietest(deviation)
        mean, deviation = (np.take_along_axis(each, quiet[:, None], 2) for each in (mean, deviation))
        noise = np.maximum(np.median(deviation[..., :fewest], axis=2), _HALF_A_LEVEL)
        weights, misfit = _surface(_terms(rows[quiet], columns[quiet]), mean, noise, counted)
        y, x = (np.linspace(-1, 1, length) for length in pixels.shape[2:])
        level = np.einsum("hwa,nca->nchw", _terms(*np.meshgrid(y, x, indexing="ij")), weights)
        return cls(level.astype(np.float32), noise.astype(np.float32), np.hypot(noise, misfit).astype(np.float32))


def _squares(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where squares around the middle lie (two of ``(k,)``), and their means and deviations ``(n, C, k)``.

    They are a tenth of the field wide, and overlap by half.
    """
    shape = pixels.shape[2:]
    side = max(5, min(shape) // 10) | 1
    rows, columns = (_mirrored(length, side) for length in shape)
    mean = pixels.astype(np.float64)
    square = mean**2
    for axis in (2, 3):
        mean, square = (uniform_filter1d(each, side, axis=axis) for each in (mean, square))
    free = (distance(*shape)[np.ix_(rows, columns)] > _DISC).ravel()
    mean, square = (each[:, :, rows][..., columns].reshape(*pixels.shape[:2], -1)[..., free] for each in (mean, square))
    y, x = (np.linspace(-1, 1, length)[at] for length, at in zip(shape, (rows, columns), strict=True))
    y, x = (each.ravel()[free] for each in np.meshgrid(y, x, indexing="ij"))
    variance = (square - mean**2) * (side**2 / (side**2 - 1))
    return y, x, mean, np.sqrt(np.maximum(variance, 0))


def _mirrored(length: int, side: int) -> np.ndarray:
    """Middles of squares along one axis, the same from both ends: a mirrored image has mirrored squares."""
    half = np.arange(side // 2, (length - 1) / 2, max(1, side // 2))
    return np.concatenate([half, length - 1 - half[::-1]]).astype(int)


def _quietest(deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The quieter half of squares, the quietest first, by the channel where each is least quiet.

    Args:
        deviation: of each square ``(n, C, K)``.

    Returns:
        Which they are ``(n, k)``, whether each is nearly as quiet as the quietest quarter ``(n, k)``, and how many
        these are.
    """
    least = np.maximum(np.quantile(deviation, 0.05, axis=2, keepdims=True), _HALF_A_LEVEL)
    unrest = (deviation / least).max(axis=1)
    # A square of one value in all channels is a frame or a padding, and no background.
    unrest[(deviation < _HALF_A_LEVEL / 100).all(axis=1)] = np.finfo(float).max
    fewest, most = (max(1, round(share * unrest.shape[1])) for share in (_QUIETEST, _QUIET))
    order = np.argsort(unrest, axis=1, kind="stable")[:, :most]
    unrest = np.take_along_axis(unrest, order, 1)
    return order, unrest <= np.maximum(_AS_QUIET, unrest[:, fewest - 1 : fewest]), fewest


def _terms(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What a surface of second order is made of: ``(..., 6)``."""
    return np.stack([np.ones_like(y), y, x, y * y - 1 / 3, x * x - 1 / 3, x * y], axis=-1)


def _surface(
    terms: np.ndarray, mean: np.ndarray, noise: np.ndarray, counted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(n, C, 6)`` of a surface through ``mean`` ``(n, C, k)``, and by how much squares miss it ``(n, C)``.

    Squares that miss it by far (a red cell's flat middle) count less with every round.
    """
    trust = np.broadcast_to(counted[:, None].astype(float), mean.shape)
    for _ in range(_ROUNDS):
        normal = np.einsum("nka,nck,nkb->ncab", terms, trust, terms, optimize=True)
        normal += _STIFFNESS * trust.sum(axis=2)[:, :, None, None] * _PENALTY
        weights = np.linalg.solve(normal, np.einsum("nka,nck->nca", terms, trust * mean)[..., None])[..., 0]
        missed = mean - np.einsum("nka,nca->nck", terms, weights)
        misfit = np.sqrt((trust * missed**2).sum(axis=2) / trust.sum(axis=2))
        trust = counted[:, None] * (1 + (missed / (2 * misfit + 0.6 * noise)[:, :, None]) ** 2) ** -2
    return weights, misfit
