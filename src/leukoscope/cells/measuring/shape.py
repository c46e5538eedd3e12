"""Where the cell lies, for many images at once: what stands out from the background, and how it is laid out."""

import numpy as np
from scipy import ndimage

from leukoscope.cells.field import distance

_FAINTEST = 3.0
_STEP = 0.12
_TOP = 0.995
# Neighbours within an image, never the next image of the stack.
_CROSS = np.pad(ndimage.generate_binary_structure(2, 1)[None], ((1, 1), (0, 0), (0, 0)))


def found(unlike: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cell in the middle of each image, and all that stands out from its background.

    Unlike :func:`~leukoscope.cells.spoiling.outline.outline`, which takes a disc where a cell runs into the border,
    this says how far it runs.

    Args:
        unlike: by how many deviations each pixel differs from the background ``(n, H, W)``.

    Returns:
        Two masks ``(n, H, W)``; the first is a part of the second, and empty where that is.
    """
    peak = np.quantile(unlike.reshape(len(unlike), -1), _TOP, axis=1)
    few = max(1, round(min(unlike.shape[1:]) / 30))
    high = np.pad(unlike > np.maximum(_FAINTEST, _STEP * peak)[:, None, None], ((0, 0), (few, few), (few, few)))
    # Closing would open what lies at the border, but for a frame around it.
    closed = ~grown(~grown(high, few), few)[:, few:-few, few:-few]
    width = 2 * few + 1
    smooth = ndimage.uniform_filter(_filled(closed).astype(np.float32), (0, width, width)) > 0.5
    return _central(smooth), smooth


def cut(cell: np.ndarray) -> np.ndarray:
    """The share ``(n,)`` of each cell's outline ``(n, H, W)`` that lies on the border; 0 where there is no cell."""
    border = np.ones(cell.shape[1:], bool)
    border[1:-1, 1:-1] = False
    line = cell & (grown(~cell, 1) | border)
    share: np.ndarray = (cell & border).sum(axis=(1, 2)) / np.maximum(line.sum(axis=(1, 2)), 1)
    return share


def aside(unlike: np.ndarray) -> np.ndarray:
    """How far ``(n,)`` the middle of what stands out is from the field's, 1 at a side's middle.

    Pixels weigh by the fourth power of their unlikeness ``(n, H, W)``: a nucleus tells, and pale red cells do not.
    """
    height, width = unlike.shape[1:]
    weight = (unlike / np.maximum(unlike.max(axis=(1, 2), keepdims=True), 1e-9)) ** 4
    whole = np.maximum(weight.sum(axis=(1, 2)), 1e-9)
    y = weight.sum(axis=2) @ np.linspace(-1, 1, height, dtype=np.float32)
    x = weight.sum(axis=1) @ np.linspace(-1, 1, width, dtype=np.float32)
    away: np.ndarray = np.hypot(y / whole, x / whole)
    return away


def second(cell: np.ndarray, everything: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How large a second disc fits into the cell, and into what lies beside it ``(n,)``, for the cell's first of 1.

    The first disc is the largest within the cell. What a round cell leaves around it takes in none; of two cells that
    touch, the other takes in one of its own size.

    Args:
        cell: the mask ``(n, H, W)`` of the cell in the middle.
        everything: all that stands out.
    """
    n, height, width = cell.shape
    depth = _depth(cell)
    # Smoothed, since many pixels are equally deep.
    place = ndimage.uniform_filter(depth, (0, 3, 3)).reshape(n, -1).argmax(axis=1)
    radius = depth.reshape(n, -1).max(axis=1)
    y, x = (each[:, None, None] for each in np.divmod(place, width))
    away = np.hypot(np.arange(height)[None, :, None] - y, np.arange(width)[None, None, :] - x)
    left = _depth(everything & (away > radius[:, None, None]))
    known = radius > 0
    radius = np.maximum(radius, 1)
    own, others = ((left * mask).max(axis=(1, 2)) / radius * known for mask in (cell, everything & ~cell))
    return own, others


def grown(mask: np.ndarray, steps: int) -> np.ndarray:
    """``(n, H, W)`` with the pixels that can be reached from it in so many steps to a side."""
    for _ in range(steps):
        before, mask = mask, mask.copy()
        mask[:, 1:] |= before[:, :-1]
        mask[:, :-1] |= before[:, 1:]
        mask[:, :, 1:] |= before[:, :, :-1]
        mask[:, :, :-1] |= before[:, :, 1:]
    return mask


def _filled(mask: np.ndarray) -> np.ndarray:
    """``(n, H, W)`` with what it encloses: parts of the rest that do not reach the border."""
    parts, count = ndimage.label(~mask, _CROSS)
    outside = np.zeros(count + 1, bool)
    for side in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
        outside[side] = True
    outside[0] = False
    filled: np.ndarray = ~outside[parts]
    return filled


def _central(mask: np.ndarray) -> np.ndarray:
    """The part of each image's mask ``(n, H, W)`` that weighs most in the middle."""
    n, height, width = mask.shape
    parts, count = ndimage.label(mask, _CROSS)
    near = np.broadcast_to(np.exp(-4 * distance(height, width) ** 2), parts.shape)
    weights = np.bincount(parts.ravel(), near.ravel(), minlength=count + 1)
    weights[0] = 0
    image = np.zeros(count + 1, int)
    image[parts.reshape(n, -1)] = np.arange(n)[:, None]
    order = np.argsort(weights, kind="stable")
    heaviest = np.zeros(n, int)
    heaviest[image[order]] = order
    central: np.ndarray = (parts == heaviest[:, None, None]) & (parts > 0)
    return central


def _depth(mask: np.ndarray) -> np.ndarray:
    """How far each pixel of ``(n, H, W)`` is from the nearest outside the mask; the field's border is no outside."""
    depth = np.zeros(mask.shape, np.float32)
    for place, each in enumerate(mask):
        rows, columns = np.flatnonzero(each.any(axis=1)), np.flatnonzero(each.any(axis=0))
        if not len(rows):
            continue
        # Only the part that holds something, and one pixel around it where there is one.
        box = tuple(slice(max(0, at[0] - 1), at[-1] + 2) for at in (rows, columns))
        inside = each[box]
        depth[place][box] = min(each.shape) / 2 if inside.all() else ndimage.distance_transform_edt(inside)
    return depth
