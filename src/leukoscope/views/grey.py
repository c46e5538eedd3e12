"""Operations on intensities ``(B, C, H, W)`` of any number of channels; one parameter a cell."""

import torch
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
    """Gaussian blur, with ``sigma`` ``(B,)`` in pixels; the kernel ends at four sigma, edges are reflected.

    A blur along one axis is a product with a band matrix, which holds the reflected edges too. So every cell has its
    own kernel, without a loop and without a grouped convolution, which is slow on every device.
    """
    height, width = images.shape[2:]
    rows = _blur_matrix(sigma, height)
    columns = rows if width == height else _blur_matrix(sigma, width)
    along_x = torch.matmul(images, columns[:, None].transpose(2, 3))
    return torch.matmul(rows[:, None], along_x)


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


def _greatest(images: Tensor, radius: int, dim: int) -> Tensor:
    """The greatest of each pixel and its neighbours up to ``radius`` away along ``dim``."""
    result = images.clone()
    for distance in range(1, min(radius, images.shape[dim] - 1) + 1):
        length = images.shape[dim] - distance
        for source, target in ((0, distance), (distance, 0)):
            part = result.narrow(dim, target, length)
            torch.maximum(part, images.narrow(dim, source, length), out=part)
    return result


def _blur_matrix(sigma: Tensor, side: int) -> Tensor:
    """``(B, side, side)``: row i holds the weights of all pixels in the blurred pixel i."""
    distance = torch.arange(2 * side, device=sigma.device)
    radius = (4.0 * sigma + 0.5).floor().clamp(max=side)[:, None]
    weights = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2) * (distance <= radius)
    weights = weights / (2.0 * weights.sum(dim=1, keepdim=True) - weights[:, :1])
    place = torch.arange(side, device=sigma.device)
    apart, beyond = place[:, None] - place, place[:, None] + place + 1
    # A pixel is met three times: where it is, and mirrored at either edge.
    distances = torch.stack([apart.abs(), beyond, 2 * side - beyond])
    return weights[:, distances].sum(dim=1)
