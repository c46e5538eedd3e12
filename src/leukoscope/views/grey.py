"""Operations on intensities ``(B, C, H, W)`` of any number of channels; one parameter a cell."""

import torch
import torch.nn.functional as F
from torch import Tensor


def erode(images: Tensor, width: int) -> Tensor:
    """Grey-level erosion: each pixel takes the least of the square window of ``width`` around it (width odd).

    Windows end at the image's edge.
    """
    return -dilate(-images, width)


def dilate(images: Tensor, width: int) -> Tensor:
    """Grey-level dilation: each pixel takes the greatest of the square window of ``width`` around it (width odd)."""
    # A square window is a row after a column. Comparing shifted images is many times faster than max_pool2d on a CPU.
    return _greatest(_greatest(images, width // 2, dim=3), width // 2, dim=2)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, with ``sigma`` ``(B,)`` in pixels; the kernel ends at three sigma, edges are reflected.

    One separable depthwise convolution for all cells: every plane is a group of its own, with its cell's kernel.
    """
    count, channels, height, width = images.shape
    kernels = _gaussians(sigma, limit=min(height, width)).repeat_interleave(channels, dim=0)
    planes = images.reshape(1, count * channels, height, width)
    groups = count * channels
    radius = kernels.shape[1] // 2
    planes = F.conv2d(_mirrored(planes, radius, dim=3), kernels[:, None, None, :], groups=groups)
    planes = F.conv2d(_mirrored(planes, radius, dim=2), kernels[:, None, :, None], groups=groups)
    return planes.reshape(images.shape)


def tone(
    images: Tensor, *, contrast: Tensor | None = None, brightness: Tensor | None = None, gain: Tensor | None = None
) -> Tensor:
    """Contrast, brightness and the channels' gains in one affine map, clipped to [0, 1] once, at the end.

    Contrast c takes x to (x - mean) c + mean, with the mean of each channel of the view (hairy-cells-supcon, section
    4.2.5); brightness and gain multiply.

    Args:
        images: Intensities ``(B, C, H, W)``.
        contrast: One factor a cell ``(B,)``.
        brightness: One factor a cell ``(B,)``.
        gain: One factor a cell and channel ``(B, C)``.
    """
    slope = torch.ones(images.shape[:2], device=images.device)
    offset = torch.zeros_like(slope)
    if contrast is not None:
        slope = slope * contrast[:, None]
        offset = images.mean(dim=(2, 3)) * (1.0 - contrast[:, None])
    for factor in (None if brightness is None else brightness[:, None], gain):
        if factor is not None:
            slope, offset = slope * factor, offset * factor
    return torch.addcmul(offset[:, :, None, None], images, slope[:, :, None, None]).clamp_(0.0, 1.0)


def gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """Raise intensities to a power, ``exponent`` ``(B,)``: below 1 it lifts the shadows."""
    return images ** exponent[:, None, None, None]


def solarise(images: Tensor, threshold: float) -> Tensor:
    """Invert intensities of at least ``threshold``."""
    return torch.where(images >= threshold, 1.0 - images, images)


def _greatest(images: Tensor, radius: int, dim: int) -> Tensor:
    """The greatest of each pixel and its neighbours up to ``radius`` away along ``dim``."""
    result = images.clone()
    for distance in range(1, min(radius, images.shape[dim] - 1) + 1):
        length = images.shape[dim] - distance
        for source, target in ((0, distance), (distance, 0)):
            part = result.narrow(dim, target, length)
            torch.maximum(part, images.narrow(dim, source, length), out=part)
    return result


def _gaussians(sigma: Tensor, limit: int) -> Tensor:
    """Kernels ``(B, 2 r + 1)``, as wide as the widest needs; each ends at its own radius, at most ``limit``."""
    radius = (3.0 * sigma + 0.5).floor().clamp(max=limit)
    widest = int(radius.max())
    distance = torch.arange(-widest, widest + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2) * (distance.abs() <= radius[:, None])
    return weights / weights.sum(dim=1, keepdim=True)


def _mirrored(images: Tensor, radius: int, dim: int) -> Tensor:
    """Add ``radius`` pixels at both ends of ``dim``, reflected about the outer edge of the edge pixels."""
    length = images.shape[dim]
    before, after = images.narrow(dim, 0, radius), images.narrow(dim, length - radius, radius)
    return torch.cat([before.flip(dim), images, after.flip(dim)], dim=dim)
