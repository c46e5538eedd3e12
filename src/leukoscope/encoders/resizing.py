import torch
from torch import Tensor

# torch keeps the weights of 8-bit images in 16 bits with their sign, at most so many of them behind the point.
_LARGEST_WEIGHT = 2.0**15
_MOST_BITS = 22


def resize_exactly(levels: Tensor, side: int, *, eight_bit: bool) -> Tensor:
    """:func:`~leukoscope.views.resample.resize` as matrix products, for graphs that are exported.

    Bilinear with antialiasing: the weights of a triangle as wide as the reduction, first along rows, then along
    columns. For 8-bit pixels the integer arithmetic of torch's kernel (ATen's ``UpSampleKernel.cpp``) is followed in
    floating point, where all its numbers are exact: weights in 16 bits, sums rounded half up to whole grey levels after
    each pass. A runtime needs no antialiasing resize of its own.

    Args:
        levels: float32 ``(B, C, H, W)``, grey levels; H and W may be unknown while a graph is traced.
        side: the new side in pixels.
        eight_bit: whether the grey levels are whole and at most 255.

    Returns:
        float32 ``(B, C, side, side)``.
    """
    rows, columns = _weights(levels.shape[2], side), _weights(levels.shape[3], side)
    if not eight_bit:
        return rows.float() @ (levels @ columns.float().T)
    row_unit, column_unit = _unit(rows), _unit(columns)
    levels = _whole(levels @ _whole(columns * column_unit).float().T / column_unit.float()).clamp(0, 255)
    return _whole(_whole(rows * row_unit).float() @ levels / row_unit.float()).clamp(0, 255)


def _weights(length: int, side: int) -> Tensor:
    """How much each of ``length`` pixels counts in each of ``side``: float64 ``(side, length)``, rows sum to 1."""
    scale = torch.full((), length, dtype=torch.float64) / side
    centre = (torch.arange(side, dtype=torch.float64)[:, None] + 0.5) * scale
    place = torch.arange(length, dtype=torch.float64) + 0.5
    weights = (1.0 - ((place - centre) / scale.clamp_min(1.0)).abs()).clamp_min(0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def _unit(weights: Tensor) -> Tensor:
    """The power of two that torch multiplies weights with to make them whole."""
    largest = weights.max()
    unit = 2.0 ** torch.log2(_LARGEST_WEIGHT / largest).floor().clamp_max(_MOST_BITS)
    return torch.where(_whole(largest * unit) >= _LARGEST_WEIGHT, unit / 2, unit)


def _whole(x: Tensor) -> Tensor:
    """Round half up."""
    return (x + 0.5).floor()
