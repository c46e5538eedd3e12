"""What acquisition does to intensities ``(B, C, H, W)``: noise and hidden parts."""

import torch
from torch import Tensor


def add_noise(images: Tensor, normals: Tensor, sd: Tensor) -> Tensor:
    """Add ``normals`` (shaped like ``images``) of standard deviation ``sd`` ``(B,)``, clipped to [0, 1]."""
    return torch.addcmul(images, normals, sd[:, None, None, None]).clamp_(0.0, 1.0)


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Cover a rectangle of each view by the view's mean, channel by channel.

    Args:
        images: Intensities ``(B, C, H, W)``.
        boxes: ``(B, 4)`` left, upper, right and lower edge, in pixels; the right and lower edges lie outside.
    """
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device)
    y = torch.arange(height, device=images.device)[:, None]
    left, upper, right, lower = boxes[:, :, None, None, None].unbind(1)
    inside = (x >= left) & (x < right) & (y >= upper) & (y < lower)
    return torch.where(inside, images.mean(dim=(2, 3), keepdim=True), images)
