from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from leukoscope.cells.simulate import SimulateSettings, Simulation
from leukoscope.cells.spoiling.camera import Camera
from leukoscope.cells.spoiling.optics import defocus, uneven_light

GRADES = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0)


def fine_detail(image: np.ndarray) -> float:
    """Power at periods shorter than eight pixels."""
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :])
    return float(power[frequency > 1 / 8].sum())


def test_fine_detail_fades_with_the_grade_and_the_light_stays() -> None:
    cells = Simulation(SimulateSettings(cells=6, size=96, bit_depth=12)).render(range(6))[0].astype(float)
    camera = Camera(4095.0, np.array([3000.0]), None)
    for cell in cells:
        spoiled = [defocus(cell, grade, camera, np.random.default_rng(0)) for grade in GRADES]
        detail = [fine_detail(image[0]) for image in (cell, *spoiled)]
        assert all(after <= 1.02 * before for before, after in pairwise(detail))
        assert detail[-1] < 0.5 * detail[0]
        assert spoiled[-1].mean() == pytest.approx(cell.mean(), rel=0.01)


@pytest.mark.parametrize(("pixel_size_um", "radius"), [(None, 6.0), (0.5, 4.0)])
def test_a_point_becomes_a_disc_of_the_radius_that_is_told(pixel_size_um: float | None, radius: float) -> None:
    point = np.full((1, 96, 96), 1000.0)
    point[0, 48, 48] = 4000.0
    spread = defocus(point, 1.0, Camera(4095.0, np.array([2000.0]), pixel_size_um), np.random.default_rng(0)) - 1000
    away = np.hypot(*(np.mgrid[:96, :96] - 48))
    assert spread[0, away <= radius - 1] == pytest.approx(3000 / (np.pi * radius**2), rel=0.06)
    assert np.abs(spread[0, away >= radius + 1]).max() < 1e-6


def test_the_noise_of_the_camera_is_not_blurred_away(disc_cell: Callable[..., np.ndarray], camera: Camera) -> None:
    image = disc_cell()
    corner = (slice(None), slice(0, 18), slice(0, 18))
    spoiled = defocus(image, 1.0, camera, np.random.default_rng(0))[corner]
    blurred = ndimage.uniform_filter(image, (0, 9, 9))[corner]
    for channel, noise in enumerate((12.0, 5.0)):
        assert spoiled[channel].std() == pytest.approx(noise, rel=0.3)
        assert blurred[channel].std() < 0.2 * noise


@pytest.mark.parametrize("seed", range(8))
def test_light_falls_off_smoothly_to_the_darkness_that_is_told(seed: int, camera: Camera) -> None:
    flat = np.full((2, 64, 48), 1600.0)
    for grade in GRADES:
        light = uneven_light(flat, grade, camera, np.random.default_rng(seed)) / flat
        assert light.max() == pytest.approx(1)
        assert light.min() == pytest.approx(1 - 0.75 * grade)
        assert np.abs(np.diff(light, axis=1)).max() < 0.05
        assert (light[0] == light[1]).all()
