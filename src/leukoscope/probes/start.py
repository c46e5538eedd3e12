from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Start:
    """Where training starts: ``build`` makes the network, anew and alike each time, for images of ``size`` pixels.

    ``mean`` and ``std`` are per channel, of intensities in [0, 1].
    """

    build: Callable[[], nn.Module]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
