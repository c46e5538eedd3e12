from collections.abc import Callable

import numpy as np
import pytest

from leukoscope.cells.simulate import simulate
from leukoscope.cells.spoiling.camera import Camera, noise, saturation

RNG = np.random.default_rng(0)


def test_what_the_set_tells_of_the_camera(tmp_path) -> None:
    cells = simulate(tmp_path / "c.set", cells=30, size=32, bit_depth=12)
    camera = Camera.of(cells.info)
    pixels = cells.read(slice(None))
    assert camera.white == 4095
    assert camera.bright[0] == pytest.approx(pixels.mean() + 2 * pixels.std(), rel=1e-3)
    assert camera.pixel_size_um == pytest.approx(28 / 32)


def test_more_pixels_are_clipped_the_higher_the_grade(disc_cell: Callable[..., np.ndarray], camera: Camera) -> None:
    image = disc_cell()
    clipped = [(saturation(image, grade, camera, RNG) >= camera.white).mean() for grade in (0.01, 0.3, 0.6, 0.8, 1.0)]
    assert clipped[0] > 0
    assert (np.diff(clipped) >= 0).all()
    assert clipped[-1] > clipped[0] + 0.3
    worst = saturation(image, 1.0, camera, RNG) >= camera.white - 1e-6
    assert worst.mean(axis=(1, 2)).max() == pytest.approx(0.7, abs=0.02)


def test_one_exposure_serves_all_channels(disc_cell: Callable[..., np.ndarray], camera: Camera) -> None:
    image = disc_cell()
    gain = saturation(image, 0.5, camera, RNG) / image
    assert np.ptp(gain) < 1e-9
    assert gain.min() > 1


def test_pixels_that_were_white_before_do_not_count(camera: Camera) -> None:
    image = RNG.uniform(500, 1500, (2, 40, 40))
    image[:, :20] = camera.white
    assert (saturation(image, 1.0, camera, RNG)[:, 20:] >= camera.white).mean() > 0.3
    white = np.full((2, 8, 8), camera.white)
    assert (saturation(white, 1.0, camera, RNG) == white).all()


@pytest.mark.parametrize("grade", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("level", [0.0, 300.0, 1500.0])
def test_noise_has_the_deviation_of_shot_and_read_noise(grade: float, level: float, camera: Camera) -> None:
    noisy = noise(np.full((2, 200, 200), level), grade, camera, np.random.default_rng(3))
    for channel, bright in enumerate(camera.bright):
        expected = grade * np.sqrt(level * bright / 40 + (0.03 * bright) ** 2)
        assert noisy[channel].std() == pytest.approx(expected, rel=0.02)
        assert noisy[channel].mean() == pytest.approx(level, abs=5 * expected / 200)
    assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.02
