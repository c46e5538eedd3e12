"""Operations on RGB intensities ``(B, 3, H, W)`` of stained cells; one parameter a cell."""

import torch
from torch import Tensor

# The weights of red, green and blue in grey, ITU-R BT.601.
_GREY_WEIGHTS = (0.299, 0.587, 0.114)


def grey(images: Tensor) -> Tensor:
    """Grey in all three channels."""
    return _luma(images).expand_as(images)


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with grey: a ``factor`` ``(B,)`` of 0 gives grey, 1 the image, more a stronger colour; clipped."""
    return torch.lerp(_luma(images), images, factor[:, None, None, None]).clamp_(0.0, 1.0)


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue (of hue, saturation, value) by ``turn`` ``(B,)`` of the colour circle.

    Hue only decides where between the least and the greatest of the three channels each of them lies, so the image
    need not be taken to HSV and back.
    """
    top = images.amax(dim=1, keepdim=True)
    spread = top - images.amin(dim=1, keepdim=True)
    sextant = _sextant(images, top, spread) + 6.0 * turn[:, None, None, None]
    # Channel n (5 red, 3 green, 1 blue) falls from the top where k = (n + hue) mod 6 is in 0 to 4, is lowest in 1 to 3.
    starts = torch.tensor([5.0, 3.0, 1.0], device=images.device)[None, :, None, None]
    k = torch.remainder(starts + sextant, 6.0)
    return top - spread * torch.minimum(k, 4.0 - k).clamp_(0.0, 1.0)


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(_GREY_WEIGHTS, device=images.device)
    return torch.einsum("bchw,c->bhw", images, weights)[:, None]


def _sextant(images: Tensor, top: Tensor, spread: Tensor) -> Tensor:
    """Hue in sixths of the circle ``(B, 1, H, W)``; 0 where a pixel is grey."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    divisor = torch.where(spread == 0, 1.0, spread)
    from_red, from_green, from_blue = (green - blue) / divisor, (blue - red) / divisor + 2, (red - green) / divisor + 4
    return torch.where(red == top, from_red, torch.where(green == top, from_green, from_blue))
