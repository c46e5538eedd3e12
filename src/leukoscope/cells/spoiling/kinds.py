from collections.abc import Callable

import numpy as np

from leukoscope.cells.spoiling.camera import Camera, noise, saturation
from leukoscope.cells.spoiling.debris import debris
from leukoscope.cells.spoiling.framing import cut_off, doublet, empty
from leukoscope.cells.spoiling.optics import defocus, uneven_light

DOUBLET = "doublet"
UNGRADED = ("empty",)
"""Kinds without degrees: their grade is 1."""

_ALONE: dict[str, Callable[[np.ndarray, float, Camera, np.random.Generator], np.ndarray]] = {
    "defocus": defocus,
    "saturation": saturation,
    "debris": debris,
    "noise": noise,
    "uneven-light": uneven_light,
    "empty": empty,
    "cut-off": cut_off,
}
KINDS = (*_ALONE, DOUBLET)


def spoil_cell(
    pixels: np.ndarray,
    kind: str,
    grade: float,
    camera: Camera,
    rng: np.random.Generator,
    *,
    second: np.ndarray | None = None,
) -> np.ndarray:
    """The cell ``(C, H, W)`` spoiled in one way, in the dtype of its pixels and within the camera's range.

    Grade 0 changes nothing. ``second`` is the other cell of a doublet.
    """
    if grade == 0:
        return pixels
    image = pixels.astype(np.float64)
    if kind == DOUBLET:
        assert second is not None
        spoiled = doublet(image, second.astype(np.float64), grade, rng)
    else:
        spoiled = _ALONE[kind](image, grade, camera, rng)
    within: np.ndarray = np.clip(np.rint(spoiled), 0, camera.white)
    return within.astype(pixels.dtype)
