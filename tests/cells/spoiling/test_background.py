from collections.abc import Callable

import numpy as np
import pytest

from leukoscope.cells.spoiling.background import Background


def test_known_pixels_stay_and_the_rest_is_of_the_same_level_and_grain(disc_cell: Callable[..., np.ndarray]) -> None:
    image = disc_cell()
    cell = np.abs(image[0] - 2000) > 300
    unknown = cell.copy()
    unknown[:20] = True
    filled = Background.of(image, cell).fill(image, unknown, np.random.default_rng(0))
    assert (filled[:, ~unknown] == image[:, ~unknown]).all()
    for channel, (level, noise) in enumerate(((2000, 12), (100, 5))):
        assert filled[channel, unknown].mean() == pytest.approx(level, abs=noise / 4)
        assert filled[channel, unknown].std() == pytest.approx(noise, rel=0.25)


def test_a_slope_of_the_light_is_followed() -> None:
    rng = np.random.default_rng(0)
    slope = np.linspace(1000, 1200, 80)
    image = slope + 4 * rng.standard_normal((1, 80, 80))
    unknown = np.zeros((80, 80), bool)
    unknown[25:55, 25:55] = True
    filled = Background.of(image, unknown).fill(image, unknown, rng)
    assert np.abs(filled[0, 25:55, 25:55].mean(axis=0) - slope[25:55]).max() < 20


def test_a_frame_of_one_value_is_no_background() -> None:
    image = np.zeros((1, 60, 60))
    image[:, 8:-8, 8:-8] = 500 + 5 * np.random.default_rng(0).standard_normal((1, 44, 44))
    background = Background.of(image, np.zeros((60, 60), bool))
    assert np.median(background.squares) == pytest.approx(500, abs=5)


def test_an_image_of_one_value_is_filled_with_it() -> None:
    flat, all_ = np.full((1, 60, 60), 7.0), np.ones((60, 60), bool)
    assert (Background.of(flat, ~all_).fill(flat, all_, np.random.default_rng(0)) == 7).all()
