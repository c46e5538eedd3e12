import numpy as np
from scipy import ndimage

from leukoscope.cells.fit import border_level
from leukoscope.cells.spoiling.camera import Camera

_MOST = 6
_SPECKS = 0.65


def debris(image: np.ndarray, grade: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Dust, specks and fibres lie in the field: up to six, larger in number and denser with the grade.

    They take light away where the background is bright, and glow where it is dark. All channels see the same ones.
    """
    is_bright = border_level(image) > camera.bright / 2
    spoiled = image
    for number in range(_MOST):
        speck = rng.random() < _SPECKS
        mask = _speck(image.shape[1:], rng) if speck else _fibre(image.shape[1:], rng)
        tint = rng.uniform(0.85, 1.0, len(image))
        # All are drawn, so that those of a low grade are among those of a high one.
        if number > grade * (_MOST - 1):
            continue
        cover = (0.3 + 0.65 * grade) * mask * tint[:, None, None]
        glow = spoiled + 1.5 * cover * camera.bright[:, None, None]
        spoiled = np.where(is_bright[:, None, None], spoiled * (1 - cover), glow)
    return spoiled


def _speck(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A lump with an uneven outline and a soft edge: its density ``(H, W)`` from 0 to 1."""
    shorter = min(shape)
    y, x = np.ogrid[: shape[0], : shape[1]]
    dy, dx = y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])
    angle, away = np.arctan2(dy, dx), np.hypot(dy, dx)
    radius = shorter * np.exp(rng.uniform(np.log(0.02), np.log(0.09)))
    waves = sum(rng.uniform(0, 0.45 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    density: np.ndarray = np.clip(radius * (1 + waves) + 0.5 - away, 0, 1)
    return density


def _fibre(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A thread bent once: its density ``(H, W)`` from 0 to 1."""
    shorter = min(shape)
    start = rng.uniform(0, 1, 2) * shape
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = along[::-1] * (1, -1)
    length = rng.uniform(0.3, 0.9) * shorter
    t = np.linspace(0, 1, 4 * shorter)[:, None]
    points = np.rint(start + length * (t * along + bend * t * (1 - t) * across)).astype(int)
    inside = ((points >= 0) & (points < shape)).all(axis=1)
    free = np.ones(shape, bool)
    free[tuple(points[inside].T)] = False
    half = max(0.5, shorter * rng.uniform(0.006, 0.014))
    density: np.ndarray = np.clip(half + 0.5 - ndimage.distance_transform_edt(free), 0, 1)
    return density
