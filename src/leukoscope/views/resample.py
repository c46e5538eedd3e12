import torch
import torch.nn.functional as F
from torch import Tensor

from leukoscope.cells.intensity import Intensity

# Levels lie half an octave apart; a view is drawn from the nearest, so from one at most a quarter of an octave off.
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
    if (height, width) == (side, side) or count == 0:
        return pixels.to(torch.float32).reshape(count, channels, *((side, side) if count == 0 else (height, width)))
    if pixels.dtype != torch.uint8 or pixels.device.type != "cpu":
        return _interpolate(pixels.to(torch.float32), side)
    if channels == 3:
        return _interpolate(pixels.contiguous(memory_format=torch.channels_last), side).to(torch.float32).contiguous()
    # The integer kernel works on four planes at once, whatever their number, so they are laid out by four.
    planes = pixels.reshape(-1, height, width)
    missing = -len(planes) % _PLANES_AT_ONCE
    planes = torch.cat([planes, planes[:1].expand(missing, -1, -1)]) if missing else planes
    resized = _interpolate(planes.reshape(-1, _PLANES_AT_ONCE, height, width), side).reshape(-1, side, side)
    return resized[: count * channels].reshape(count, channels, side, side).to(torch.float32)


def resample(pixels: Tensor, cells: Tensor, placements: Tensor, side: int, intensity: Intensity) -> Tensor:
    """Draw views of any placement and magnification, antialiased, in one resampling each.

    Bilinear interpolation alone aliases where a view shrinks the image. So each view is drawn from a copy of its image
    that :func:`resize` has already shrunk to nearly the view's own scale; such copies have a side of
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
    views = torch.empty(len(cells), pixels.shape[1], side, side, device=pixels.device)
    sides = _level_sides(placements, side, max(pixels.shape[2:]))
    for level_side in sorted(set(sides.tolist())):
        rows = (sides == level_side).nonzero()[:, 0]
        needed, which = _distinct(cells[rows], len(pixels))
        images = pixels if len(needed) == len(pixels) else pixels[needed.to(pixels.device)]
        level = images.to(torch.float32) if level_side == 0 else resize(images, level_side)
        grid = _grid(placements[rows].to(pixels.device), side)
        drawn = F.grid_sample(level[which.to(pixels.device)], grid, padding_mode="reflection", align_corners=False)
        views[rows.to(pixels.device)] = drawn
    return scale(views, intensity)


def scale(grey_levels: Tensor, intensity: Intensity) -> Tensor:
    """Turn grey levels ``(B, C, H, W)`` into intensities clipped to [0, 1], as :meth:`Intensity.scale` does."""
    low = torch.tensor(intensity.low, device=grey_levels.device)[:, None, None]
    high = torch.tensor(intensity.high, device=grey_levels.device)[:, None, None]
    return ((grey_levels - low) / (high - low)).clamp(0.0, 1.0)


def _distinct(numbers: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The distinct ``numbers`` below ``limit`` in order, and where among them each number stands."""
    present = torch.zeros(limit, dtype=torch.int64)
    present[numbers] = 1
    return present.nonzero()[:, 0], (present.cumsum(0) - 1)[numbers]


def _interpolate(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def _level_sides(placements: Tensor, side: int, image_side: int) -> Tensor:
    """The side of the copy that each view is drawn from; 0 is the image itself, where no smaller copy is due."""
    field = torch.linalg.det(placements[:, :, :2]).abs().sqrt().clamp(min=1e-3)
    steps = torch.round(-_LEVELS_AN_OCTAVE * torch.log2(field))
    sides = torch.round(side * 2.0 ** (steps / _LEVELS_AN_OCTAVE)).long()
    full = sides > image_side * 2.0 ** (-0.5 / _LEVELS_AN_OCTAVE)
    return torch.where(full & (sides != side) | (sides > image_side), 0, sides)


def _grid(placements: Tensor, side: int) -> Tensor:
    """Where each pixel of a view looks in the image ``(R, side, side, 2)``; quicker than ``F.affine_grid`` here."""
    step = 2.0 / side
    places = torch.arange(side, device=placements.device) * step + (step / 2 - 1)
    along_x = places[None, None, :, None] * placements[:, None, None, :, 0]
    along_y = places[None, :, None, None] * placements[:, None, None, :, 1]
    return along_x + (along_y + placements[:, None, None, :, 2])
