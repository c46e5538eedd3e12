from dataclasses import dataclass

import numpy as np

from leukoscope.cells.cellset import CellSetInfo

_CLIPPED = 0.7
_PHOTONS = 40.0
_READ = 0.03


@dataclass(frozen=True)
class Camera:
    """What a CellSet tells of the camera: its brightest value, and what is bright in each channel.

    ``white`` is ``2**bits - 1``; ``bright`` ``(C,)`` is mean and two standard deviations of the whole set, in pixel
    values; ``pixel_size_um`` is None where it is not known.
    """

    white: float
    bright: np.ndarray
    pixel_size_um: float | None

    @classmethod
    def of(cls, info: CellSetInfo) -> "Camera":
        """The camera of a CellSet."""
        low, high = np.array(info.intensity.low), np.array(info.intensity.high)
        bright = low + (high - low) * (np.array(info.mean) + 2 * np.array(info.std))
        white = float(2**info.bit_depth - 1)
        return cls(white, np.clip(bright, 1.0, white), info.pixel_size_um)


def saturation(image: np.ndarray, grade: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Too long an exposure: one gain for all channels, which the camera's white then clips.

    At the lowest grade the first channel comes to white with its brightest pixel, at grade 1 with 0.7 of its pixels
    (those that were white before do not count); between them the gain rises evenly on a scale of logarithms.
    """
    dark = [plane[plane < camera.white] for plane in image]
    gains = [camera.white / np.quantile(plane, [1, 1 - _CLIPPED]).clip(1) for plane in dark if plane.size] or [
        np.ones(2)
    ]
    first, last = np.min(gains, axis=0)
    exposed: np.ndarray = image * (first ** (1 - grade) * last**grade)
    return exposed


def noise(image: np.ndarray, grade: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Too few photons: shot noise, whose variance goes with the brightness, and read noise.

    At grade 1 a bright pixel of the channel is ``40`` photons, and the read noise 3 % of it; the standard deviations go
    with the grade. At such counts the normal distribution stands in for Poisson's.
    """
    bright = camera.bright[:, None, None]
    shot = np.sqrt(image.clip(0) * bright / _PHOTONS)
    sd = grade * np.hypot(shot, _READ * bright)
    noisy: np.ndarray = image + sd * rng.standard_normal(image.shape)
    return noisy
