from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leukoscope.cells.intensity import Intensity
from leukoscope.views.resample import resize


class Preprocess(nn.Module):
    """From pixels as acquired to what an encoder takes: resized with antialiasing, scaled to [0, 1], normalised.

    Args:
        size: The side that the encoder takes, in pixels.
        intensity: How the pixels' grey levels become intensities in [0, 1].
        mean: What is subtracted from the intensities of each channel.
        std: What the intensities of each channel are divided by afterwards.
    """

    low: Tensor
    span: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, size: int, intensity: Intensity, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        channels = len(intensity.low)
        if not len(mean) == len(std) == channels:
            raise ValueError(f"{channels} channels need as many means and stds, not {len(mean)} and {len(std)}")
        self.size = size
        low = _per_channel(intensity.low)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", _per_channel(intensity.high) - low, persistent=False)
        self.register_buffer("mean", _per_channel(mean), persistent=False)
        self.register_buffer("std", _per_channel(std), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 or uint16 ``(B, C, H, W)`` to float32 ``(B, C, size, size)``."""
        return self.normalise(self.scale(pixels))

    def scale(self, pixels: Tensor) -> Tensor:
        """uint8 or uint16 ``(B, C, H, W)`` to intensities in [0, 1], float32 ``(B, C, size, size)``."""
        return ((resize(pixels, self.size) - self.low) / self.span).clamp(0.0, 1.0)

    def normalise(self, intensities: Tensor) -> Tensor:
        """Subtract the mean and divide by the std: float ``(B, C, H, W)`` in [0, 1], such as views, to the same."""
        return (intensities - self.mean) / self.std


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]
