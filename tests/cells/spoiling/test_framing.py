from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.framing import cut_off, doublet, empty

GRADES = (0.05, 0.25, 0.5, 0.75, 1.0)


def shown(image: np.ndarray) -> np.ndarray:
    """Where the disc of ``disc_cell`` is: dark in its first channel."""
    return ndimage.binary_opening(image[0] < 1500)


def test_no_cell_is_left_in_an_empty_field(disc_cell: Callable[..., np.ndarray], camera: Camera) -> None:
    image = disc_cell()
    spoiled = empty(image, 1.0, camera, np.random.default_rng(0))
    assert image[:, 30:66, 30:66].std(axis=(1, 2)).min() > 100
    for channel, noise in enumerate((12, 5)):
        assert spoiled[channel].std() == pytest.approx(noise, rel=0.2)


def test_an_empty_field_of_a_real_instrument_is_as_quiet_as_its_border(real_cells: Path) -> None:
    montage = tifffile.imread(next((real_cells / "jurkat-ifc" / "G1").glob("Ch3_*.tif"))).astype(float)
    quieter = []
    for i in range(10):
        tile = montage[None, 40:80, 40 * i : 40 * i + 40]
        spoiled = empty(tile, 1.0, Camera(4095.0, np.array([800.0]), None), np.random.default_rng(0))
        border = np.concatenate([tile[0, :3].ravel(), tile[0, -3:].ravel()])
        middle = spoiled[0, 10:30, 10:30]
        assert abs(middle.mean() - np.median(border)) < 3 * border.std()
        quieter.append((tile[0, 10:30, 10:30].std() / border.std(), middle.std() / border.std()))
    before, after = np.median(quieter, axis=0)
    assert before > 4
    assert 0.5 < after < 1.5


@pytest.mark.parametrize("seed", range(6))
def test_the_share_that_is_told_is_cut_off_and_the_rest_is_moved_as_it_was(
    seed: int, disc_cell: Callable[..., np.ndarray], camera: Camera
) -> None:
    image = disc_cell()
    whole = shown(image).sum()
    for grade in GRADES:
        spoiled = cut_off(image, grade, camera, np.random.default_rng(seed))
        left = shown(spoiled)
        assert 1 - left.sum() / whole == pytest.approx(0.6 * grade, abs=0.12)
        assert ndimage.label(left)[1] == 1
        assert np.isin(spoiled[0, left], image[0]).all()
    at_border = left[0].any() + left[-1].any() + left[:, 0].any() + left[:, -1].any()
    assert at_border == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_second_cell_enters_from_the_border_until_both_touch(
    seed: int, disc_cell: Callable[..., np.ndarray], camera: Camera
) -> None:
    first, second = disc_cell(16.0), disc_cell(12.0, seed=1)
    areas = [shown(doublet(first, second, grade, np.random.default_rng(seed))).sum() for grade in (0.01, 0.3, 0.6, 1.0)]
    one, two = shown(first).sum(), shown(second).sum()
    assert areas[0] < one + 0.25 * two
    assert areas[0] < areas[1] < areas[2]
    assert areas[-1] > one + 0.6 * two
    pair = shown(doublet(first, second, 1.0, np.random.default_rng(seed)))
    gap = ndimage.binary_dilation(pair, iterations=6)
    assert ndimage.label(gap)[1] == 1
    assert np.abs(np.array(ndimage.center_of_mass(pair)) - 47.5).max() < 8


def test_the_second_cell_is_brought_to_the_background_of_the_first(disc_cell: Callable[..., np.ndarray]) -> None:
    first, second = disc_cell(16.0), disc_cell(12.0, seed=1) + 300
    pair = doublet(first, second, 1.0, np.random.default_rng(0))
    ground = ~ndimage.binary_dilation(shown(pair), iterations=3)
    assert pair[0, ground].mean() == pytest.approx(2000, abs=15)
