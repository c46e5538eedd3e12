from typing import Literal

import numpy as np
from PIL import Image

Rule = Literal["pad", "crop", "resize"]


class DoesNotFit(ValueError):
    """The rule would lose pixels or invent them; the message says which rule would do."""


def centre(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle ``side`` by ``side`` pixels of ``(C, H, W)``; a shorter side stays whole."""
    _, height, width = pixels.shape
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return pixels[:, top : top + side, left : left + side]


def fit(pixels: np.ndarray, size: int, rule: Rule) -> np.ndarray:
    """Bring integer pixels ``(C, H, W)`` to ``(C, size, size)`` by one named rule; the dtype stays.

    ``pad`` surrounds the image with its background, ``crop`` keeps its middle; neither changes a pixel. ``resize``
    scales the longer side to ``size`` with antialiasing, keeps the aspect (a cell's shape carries its kind), and pads
    the shorter side.

    Raises:
        DoesNotFit: when an image is too large to pad or too small to crop.
    """
    _, height, width = pixels.shape
    if (height, width) == (size, size):
        return pixels
    if rule == "pad":
        if max(height, width) > size:
            raise DoesNotFit(f"{width}x{height} pixels do not fit into {size}; use --fit crop or resize, or --size")
        return pad(pixels, size, border_level(pixels))
    if rule == "crop":
        if min(height, width) < size:
            raise DoesNotFit(f"{width}x{height} pixels cannot be cropped to {size}; use --fit pad or resize, or --size")
        return centre(pixels, size)
    scale = size / max(height, width)
    resized = resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return pad(resized, size, border_level(pixels))


def pad(pixels: np.ndarray, size: int, background: np.ndarray) -> np.ndarray:
    """Set ``(C, H, W)`` into the middle of ``(C, size, size)``, filled with ``background`` ``(C,)``.

    Zeros would put a bright-field cell into a black frame, which a network learns before anything else.
    """
    channels, height, width = pixels.shape
    top, left = (size - height) // 2, (size - width) // 2
    padded = np.empty((channels, size, size), pixels.dtype)
    padded[:] = background[:, None, None]
    padded[:, top : top + height, left : left + width] = pixels
    return padded


def border_level(pixels: np.ndarray) -> np.ndarray:
    """The median ``(C,)`` of each channel's outermost rows and columns, in the dtype of the pixels."""
    edges = (pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1])
    border = np.sort(np.concatenate(edges, axis=1), axis=1)
    # The lower median: of an even number of values the mean of two would be a level that no pixel has.
    return border[:, (border.shape[1] - 1) // 2]


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale ``(C, H, W)`` of uint8 or uint16 with a triangle filter as wide as a new pixel (no aliasing)."""
    size, triangle = (width, height), Image.Resampling.BILINEAR
    if pixels.dtype == np.uint8:
        return np.stack([np.asarray(Image.fromarray(plane).resize(size, triangle)) for plane in pixels])
    # Pillow resizes 16-bit integers in float only; float32 holds every one of them exactly.
    planes = [Image.fromarray(plane.astype(np.float32)).resize(size, triangle) for plane in pixels]
    return np.stack([np.rint(np.asarray(plane)).astype(pixels.dtype) for plane in planes])
