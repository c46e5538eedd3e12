from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from leukoscope.cells.intensity import Intensity

# Levels lie half an octave apart; a view is drawn from the next finer one, so from 1 to 1.41 pixels for one of its own.
_LEVELS_AN_OCTAVE = 2
_PLANES_AT_ONCE = 4


def resize(pixels: Tensor, side: int) -> Tensor:
    """Resize with antialiasing to a square, as PIL's ``Image.resize`` with ``BILINEAR`` does.

    On the CPU, 8-bit pixels take PIL's way (integer arithmetic, rounded to whole grey levels) at several times the
    speed; everything else is computed in float32.

    Args:
        pixels: uint8 or uint16 ``(B, C, H, W)``.
        side: The new side in pixels.

    Returns:
        float32 ``(B, C, side, side)``, in the pixels' own grey levels.
    """
    count, channels, height, width = pixels.shape
    if count == 0:
        return torch.empty(0, channels, side, side, device=pixels.device)
    if (height, width) == (side, side):
        return pixels.to(torch.float32)
    if pixels.dtype != torch.uint8 or pixels.device.type != "cpu" or torch.compiler.is_exporting():
        return _interpolate(pixels.to(torch.float32), side)
    # The integer kernel works on four planes at once, whatever their number, so they are laid out by four.
    planes = pixels.reshape(-1, height, width)
    missing = -len(planes) % _PLANES_AT_ONCE
    planes = torch.cat([planes, planes[:1].expand(missing, -1, -1)]) if missing else planes
    resized = _interpolate(planes.reshape(-1, _PLANES_AT_ONCE, height, width), side).reshape(-1, side, side)
    return resized[: count * channels].reshape(count, channels, side, side).to(torch.float32)


def resample(pixels: Tensor, cells: Tensor, placements: Tensor, side: int, intensity: Intensity) -> Tensor:
    """Draw views of any placement and magnification, antialiased, in one resampling each.

    Bilinear interpolation alone aliases where a view shrinks the image. So each view is drawn from a copy of its image
    that :func:`resize` has already shrunk to the view's own scale or a little above; such copies have a side of
    ``side * 2**(k / 2)``, are made only for the cells that need them, and serve all views. A view that shows the whole
    image upright is drawn from a copy of its own size and so equals the plain resize. Beyond its edges the image is
    reflected. An image that is not square is squashed, as :func:`resize` does it.

    Args:
        pixels: uint8 or uint16 ``(B, C, H, W)``.
        cells: int64 ``(R,)`` on the CPU: which image each of R views shows.
        placements: float32 ``(R, 2, 3)`` on the CPU, from :func:`~leukoscope.views.geometry.placements`.
        side: The views' side in pixels.
        intensity: How grey levels become intensities.

    Returns:
        float32 ``(R, C, side, side)`` in [0, 1], on the device of ``pixels``.
    """
    device = pixels.device
    views = torch.empty(len(cells), pixels.shape[1], side, side, device=device)
    sides = _level_sides(placements, side, max(pixels.shape[2:]))
    for level_side in sorted(set(sides.tolist())):
        for needed, rows in _by_count(cells, (sides == level_side).nonzero()[:, 0]):
            images = pixels if len(needed) == len(pixels) else _select(pixels, needed.to(device))
            level = images.to(torch.float32) if level_side == 0 else resize(images, level_side)
            drawn = _draw(level, placements[rows].to(device), side)
            views.index_copy_(0, rows.flatten().to(device), drawn)
    return scale(views, intensity)


def scale(grey_levels: Tensor, intensity: Intensity) -> Tensor:
    """Turn grey levels ``(B, C, H, W)`` into intensities in [0, 1], as :meth:`Intensity.scale` does, but in place."""
    low = torch.tensor(intensity.low, device=grey_levels.device)[:, None, None]
    span = torch.tensor(intensity.high, device=grey_levels.device)[:, None, None] - low
    if low.any():
        grey_levels = grey_levels.sub_(low)
    return grey_levels.div_(span).clamp_(0.0, 1.0)


def _by_count(cells: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Group the views ``rows`` by how many of them show the same cell.

    Yields the cells ``(n,)`` in order, and their views ``(n, m)``, for every such number m.
    """
    rows = rows[cells[rows].argsort(stable=True)]
    counts = cells[rows].bincount()
    own_count = counts[cells[rows]]
    for count in sorted(set(own_count.tolist())):
        yield (counts == count).nonzero()[:, 0], rows[own_count == count].reshape(-1, count)


def _select(pixels: Tensor, cells: Tensor) -> Tensor:
    """Pick images; 16-bit ones as if they were signed, for torch has few operations on unsigned 16-bit numbers."""
    if pixels.dtype == torch.uint16:
        return pixels.view(torch.int16).index_select(0, cells).view(torch.uint16)
    return pixels.index_select(0, cells)


def _draw(images: Tensor, placements: Tensor, side: int) -> Tensor:
    """Draw m views of each of n images: ``(n, C, H, W)`` and ``(n, m, 2, 3)`` to ``(n * m, C, side, side)``.

    The views of an image are drawn one below the other, so that the image need not be copied for each.
    """
    number = placements.shape[1]
    drawn = F.grid_sample(images, _grid(placements, side), padding_mode="reflection", align_corners=False)
    return drawn.reshape(len(images), -1, number, side, side).transpose(1, 2).flatten(0, 1)


def _interpolate(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def _level_sides(placements: Tensor, side: int, image_side: int) -> Tensor:
    """The side of the copy that each view is drawn from; 0 is the image itself, where no smaller copy is due."""
    field = torch.linalg.det(placements[:, :, :2]).abs().sqrt().clamp(min=1e-3)
    # Rounding in a rotation must not lift a view by a level, hence the tolerance.
    steps = torch.ceil(_LEVELS_AN_OCTAVE * torch.log2(1.0 / field) - 1e-4)
    sides = torch.round(side * 2.0 ** (steps / _LEVELS_AN_OCTAVE)).long().clamp(min=1)
    return torch.where(sides > image_side, 0, sides)


def _grid(placements: Tensor, side: int) -> Tensor:
    """Where each pixel of n × m views ``(n, m, 2, 3)`` looks in its image: ``(n, m * side, side, 2)``.

    Laid out in two planes, x and y, which is several times faster to fill than ``F.affine_grid``'s pairs.
    """
    step = 2.0 / side
    place = torch.arange(side, device=placements.device) * step + (step / 2 - 1)
    to_x, to_y, origin = placements.permute(2, 3, 0, 1)[..., None, None].unbind(1)
    planes = to_x * place + (to_y * place[:, None] + origin)
    return planes.flatten(2, 3).permute(1, 2, 3, 0)
