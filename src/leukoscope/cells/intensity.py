from typing import Literal

import numpy as np
from pydantic import model_validator

from leukoscope.common.settings import Settings


class Intensity(Settings):
    """How stored integers become intensities in [0, 1]: ``(pixel - low) / (high - low)``, one pair a channel.

    The pair is fixed for a whole CellSet, never drawn per image: brightness carries meaning. ``bit_depth`` takes
    0 and ``2**bits - 1``; ``percentile`` takes percentiles over the whole set, for pixels that fill only a part
    of their range.
    """

    rule: Literal["bit_depth", "percentile"]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @model_validator(mode="after")
    def _ordered(self) -> "Intensity":
        if len(self.low) != len(self.high) or not all(
            low < high for low, high in zip(self.low, self.high, strict=True)
        ):
            raise ValueError("low and high need one value a channel, each low below its high")
        return self

    @classmethod
    def of_bit_depth(cls, bits: int, channels: int) -> "Intensity":
        """The rule ``bit_depth`` for pixels that use ``bits`` bits."""
        return cls(rule="bit_depth", low=(0.0,) * channels, high=(float(2**bits - 1),) * channels)

    def scale(self, pixels: np.ndarray) -> np.ndarray:
        """Scale pixels ``(..., C, H, W)`` to float32 intensities, clipped to [0, 1]."""
        low = np.asarray(self.low, np.float32)[:, None, None]
        span = np.asarray(self.high, np.float32)[:, None, None] - low
        return np.clip((pixels.astype(np.float32) - low) / span, 0.0, 1.0)
