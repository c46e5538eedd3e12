from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.debris import debris


@pytest.mark.parametrize("seed", range(12))
def test_debris_is_dark_on_bright_ground_and_glows_on_dark(
    seed: int, disc_cell: Callable[..., np.ndarray], camera: Camera
) -> None:
    image = disc_cell()
    change = debris(image, 1.0, camera, np.random.default_rng(seed)) - image
    assert change[0].min() < -0.8 * image[0].max() * 0.4
    assert change[0].max() == 0
    assert change[1].max() > 300
    assert change[1].min() == 0
    assert 0 < (change[0] != 0).mean() < 0.35
    assert ((change[0] != 0) == (change[1] != 0)).all()


@pytest.mark.parametrize("seed", range(12))
def test_what_lies_there_at_a_low_grade_lies_there_at_a_high_one(
    seed: int, disc_cell: Callable[..., np.ndarray], camera: Camera
) -> None:
    image = disc_cell()
    spoiled = [debris(image, grade, camera, np.random.default_rng(seed)) for grade in (0.05, 0.3, 0.6, 1.0)]
    for less, more in pairwise(spoiled):
        assert (more[0] <= less[0]).all()
        assert (more[1] >= less[1]).all()
        assert (more != less).any()
