import math

import torch
from torch import Tensor

from leukoscope.views.policy import Crop, Flip, View
from leukoscope.views.random import Draws

# One stream of random numbers a move, so that a policy may drop one without changing the others.
_ROTATION, _FLIP, _SHIFT, _ZOOM, _CROP = range(5)


def placements(view: View, draws: Draws) -> Tensor:
    """Draw where every view lies in its image, all moves in one affine map.

    The map takes a point of the view to the point of the image that it shows; both have coordinates (x, y) from -1 at
    the left or upper edge to 1 at the other (``align_corners=False``).

    Returns:
        float32 ``(R, 2, 3)`` on the CPU, for the R views of ``draws``.
    """
    half_sides, centre = _window(view, draws)
    linear = _turns(view, draws) * half_sides[:, None, :]
    return torch.cat([_flipped(view.flip, draws, linear), centre[:, :, None]], dim=2)


def chosen(p: float, uniform: Tensor) -> Tensor:
    """Which views undergo an operation of probability ``p``: boolean, shaped like ``uniform``."""
    return uniform < p


def between(low: float, high: float, uniform: Tensor) -> Tensor:
    """Stretch numbers in [0, 1) to [low, high)."""
    return low + (high - low) * uniform


def _window(view: View, draws: Draws) -> tuple[Tensor, Tensor]:
    """Half the sides ``(R, 2)`` and the centre ``(R, 2)`` of the part of the image that the view shows."""
    half_sides = torch.ones(len(draws), 2)
    centre = torch.zeros(len(draws), 2)
    if view.crop:
        half_sides, centre = _crop(view.crop, draws)
    if view.zoom:
        u = draws.uniform(_ZOOM, 2)
        field = torch.where(chosen(view.zoom.p, u[:, 0]), between(*view.zoom.field, u[:, 1]), 1.0)
        half_sides = half_sides * field[:, None]
    if view.shift:
        u = draws.uniform(_SHIFT, 3)
        # The image is two units wide.
        moves = between(-2 * view.shift.share, 2 * view.shift.share, u[:, 1:])
        centre = centre + torch.where(chosen(view.shift.p, u[:, :1]), moves, 0.0)
    return half_sides, centre


def _crop(crop: Crop, draws: Draws) -> tuple[Tensor, Tensor]:
    u = draws.uniform(_CROP, 5)
    area = between(*crop.area, u[:, 1])
    aspect = torch.exp(between(math.log(crop.aspect[0]), math.log(crop.aspect[1]), u[:, 2]))
    sides = torch.stack([torch.sqrt(area * aspect), torch.sqrt(area / aspect)], dim=1).clamp(max=1.0)
    half_sides = torch.where(chosen(crop.p, u[:, :1]), sides, 1.0)
    return half_sides, between(-1.0, 1.0, u[:, 3:]) * (1.0 - half_sides)


def _turns(view: View, draws: Draws) -> Tensor:
    angle = torch.zeros(len(draws))
    if view.rotation:
        u = draws.uniform(_ROTATION, 2)
        limit = math.radians(view.rotation.degrees)
        angle = torch.where(chosen(view.rotation.p, u[:, 0]), between(-limit, limit, u[:, 1]), 0.0)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)


def _flipped(flip: Flip | None, draws: Draws, linear: Tensor) -> Tensor:
    """Put the moves that keep the pixel grid before ``linear``, exactly: they swap its columns and change signs."""
    if flip is None:
        return linear
    u = draws.uniform(_FLIP, 5)
    quarters = torch.where(chosen(flip.quarter_turn, u[:, 3]), (u[:, 4] * 4).long(), 0)
    linear = torch.where(chosen(flip.transpose, u[:, 2])[:, None, None], linear.flip(2), linear)
    signs = 1.0 - 2.0 * torch.stack([chosen(flip.horizontal, u[:, 0]), chosen(flip.vertical, u[:, 1])], 1).float()
    linear = linear * signs[:, None, :]
    turned = torch.stack([linear[:, :, 1], -linear[:, :, 0]], 2)
    linear = torch.where((quarters % 2 == 1)[:, None, None], turned, linear)
    return torch.where((quarters >= 2)[:, None, None], -linear, linear)
