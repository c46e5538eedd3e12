from collections.abc import Callable

import numpy as np
import pytest

from leukoscope.cells.spoiling.camera import Camera

WHITE = 4095.0


@pytest.fixture
def camera() -> Camera:
    """Twelve bits; a bright-field channel and a dark one."""
    return Camera(WHITE, np.array([2400.0, 600.0]), None)


@pytest.fixture
def disc_cell() -> Callable[..., np.ndarray]:
    """``disc_cell(radius, side)``: a disc on a noisy ground, float ``(2, side, side)``: first dark, then bright."""

    def make(radius: float = 18.0, side: int = 96, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:side, :side] - (side - 1) / 2
        inside = np.hypot(x, y) < radius
        image = np.stack([np.where(inside, 1000.0, 2000.0), np.where(inside, 900.0, 100.0)])
        return np.rint(image + np.array([12.0, 5.0])[:, None, None] * rng.standard_normal(image.shape))

    return make
