import numpy as np


def distance(height: int, width: int) -> np.ndarray:
    """How far each pixel of an image is from its middle, 1 at the middle of a side: float64 ``(height, width)``."""
    return np.hypot(np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :])
