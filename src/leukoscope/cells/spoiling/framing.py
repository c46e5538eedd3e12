"""What stands in the field: no cell, a part of one, or two."""

import numpy as np
from scipy import ndimage

from leukoscope.cells.spoiling.background import Background
from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.outline import outline

_MOST_CUT = 0.6
_TOUCHING = 0.8


def empty(image: np.ndarray, grade: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """No cell: where it lay, the image's own background goes on. There are no grades of it."""
    cell = outline(image)
    return Background.of(image, cell).fill(image, cell, rng)


def cut_off(image: np.ndarray, grade: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """The cell is moved out of the field over one of its sides, until a share of its area is lost: 0.6 at grade 1."""
    cell = outline(image)
    axis, forward = int(rng.integers(2)), bool(rng.integers(2))
    area = cell.sum(axis=1 - axis)
    lost = np.cumsum(area[::-1] if forward else area) / area.sum()
    shift = 1 + int(np.searchsorted(lost, _MOST_CUT * grade))
    offset = np.zeros(2, int)
    offset[axis] = shift if forward else -shift
    return _moved(image, cell, offset, rng)


def doublet(image: np.ndarray, second: np.ndarray, grade: float, rng: np.random.Generator) -> np.ndarray:
    """A second cell in the field: just at its border at the lowest grade, touching the first at the highest.

    The first gives way, so that at grade 1 the pair stands in the middle. The second lies over the first where they
    overlap, brought to its background.
    """
    flipped = second[:, :: rng.choice((1, -1)), :: rng.choice((1, -1))]
    one, two = outline(image), outline(flipped)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    touching = _TOUCHING * (_reach(one, along) + _reach(two, -along))
    middle, half = _middle(one), np.array(one.shape) / 2
    # As far as the border is along this line, and the second cell's own reach beyond it.
    to_border = float(np.min(half / np.abs(along).clip(1e-9)))
    entering = max(touching, to_border + _reach(two, -along))
    away = -grade * touching / 2 * along
    first = _moved(image, one, np.rint(away).astype(int), rng)
    place = middle + away + (grade * touching + (1 - grade) * entering) * along
    return _laid_over(first, flipped, two, np.rint(place - _middle(two)).astype(int), Background.of(image, one))


def _moved(image: np.ndarray, cell: np.ndarray, offset: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image moved by whole pixels; into the field comes the image without its cell, mirrored at the border."""
    away = [(max(int(step), 0), max(-int(step), 0)) for step in offset]
    without = np.pad(Background.of(image, cell).fill(image, cell, rng), ((0, 0), *away), mode="symmetric")
    field = tuple(slice(after, after + length) for (_, after), length in zip(away, cell.shape, strict=True))
    uncovered = ~_shifted(np.ones((1, *cell.shape), bool), offset)[0]
    return np.where(uncovered, without[:, *field], _shifted(image, offset))


def _laid_over(
    image: np.ndarray, second: np.ndarray, cell: np.ndarray, offset: np.ndarray, background: Background
) -> np.ndarray:
    """``image`` with the ``cell`` of another image over it, moved by ``offset``, its margin faded out."""
    lift = background.level - Background.of(second, cell).level
    depth = ndimage.distance_transform_edt(np.pad(cell, 1, mode="edge"))[1:-1, 1:-1]
    weight = np.clip(depth / max(2.0, min(cell.shape) / 20), 0, 1)
    moved, weight = _shifted(second + lift, offset), _shifted(weight[None], offset)
    laid: np.ndarray = (1 - weight) * image + weight * moved
    return laid


def _shifted(planes: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """``(C, H, W)`` moved by whole pixels; zero where nothing comes from."""
    shifted = np.zeros_like(planes)
    to, from_ = [slice(None)], [slice(None)]
    for step, length in zip(offset, planes.shape[1:], strict=True):
        step = int(np.clip(step, -length, length))
        to.append(slice(max(step, 0), length + min(step, 0)))
        from_.append(slice(max(-step, 0), length - max(step, 0)))
    shifted[tuple(to)] = planes[tuple(from_)]
    return shifted


def _middle(mask: np.ndarray) -> np.ndarray:
    return np.array(ndimage.center_of_mass(mask))


def _reach(mask: np.ndarray, along: np.ndarray) -> float:
    """How far a mask reaches from its middle along a direction, in pixels."""
    return float(((np.argwhere(mask) - _middle(mask)) @ along).max())
