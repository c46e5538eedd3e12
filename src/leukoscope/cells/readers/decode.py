import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image, UnidentifiedImageError

from leukoscope.cells.readers.protocol import GREY, RGB, Picture, Unreadable

PLAIN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode_plain(path: Path, max_pixels: int) -> Picture:
    """Decode one PNG, JPEG, BMP or WebP file to its pixels as acquired, 8 or 16 bit.

    Orientation tags and colour profiles are for display and are not applied. A palette is looked up, since its
    indices are no intensities; an alpha channel is dropped where it is opaque everywhere.

    Raises:
        Unreadable: when the file is empty, broken, too large, or of a kind that would lose information.
    """
    with path.open("rb") as file:
        head = file.read(32)
        if not head:
            raise Unreadable("empty file")
        if head.startswith(_PNG_SIGNATURE) and len(head) >= 25 and head[24] == 16:
            # Pillow would reduce 16-bit colour to 8 bit without a word.
            width, height = struct.unpack(">II", head[16:24])
            check_pixels(width, height, max_pixels)
            file.seek(0)
            return _of_samples(imagecodecs.png_decode(file.read()))
        file.seek(0)
        return _with_pillow(file, max_pixels)


@contextmanager
def pillow_without_limit() -> Iterator[None]:
    """Lift Pillow's own limit on pixels, a global that ``max_pixels`` stands in for, while the block runs."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise Unreadable when an image is empty or has more pixels than allowed, before any of them is decoded."""
    if width < 1 or height < 1:
        raise Unreadable("empty image")
    if width * height > max_pixels:
        raise Unreadable(f"{width}x{height} pixels are over the limit of {max_pixels}; raise --max-pixels to take it")


def _with_pillow(file: BinaryIO, max_pixels: int) -> Picture:
    try:
        with Image.open(file, formats=_FORMATS) as image:
            check_pixels(*image.size, max_pixels)
            if image.mode == "P" or "transparency" in image.info:
                return _of_samples(np.asarray(image.convert("RGBA")))
            if image.mode not in ("L", "RGB", "LA", "RGBA", "I;16"):
                raise Unreadable(f"{image.mode} pixels; only grey and RGB of 8 or 16 bit are read")
            return _of_samples(np.asarray(image))
    except UnidentifiedImageError:
        raise Unreadable("not an image of a known format, or its header is broken") from None


def _of_samples(samples: np.ndarray) -> Picture:
    """Turn interleaved samples ``(H, W)`` or ``(H, W, 1 to 4)`` into planes; opaque alpha goes, other alpha refuses."""
    if samples.ndim == 2:
        return Picture(samples[None], GREY)
    planes = samples.transpose(2, 0, 1)
    if len(planes) in (2, 4):
        planes = without_alpha(planes)
    return Picture(np.ascontiguousarray(planes), RGB if len(planes) == 3 else GREY)


def without_alpha(planes: np.ndarray) -> np.ndarray:
    """Drop the last of ``(C, H, W)``, which is alpha.

    Raises:
        Unreadable: when it is not opaque everywhere.
    """
    if (planes[-1] != np.iinfo(planes.dtype).max).any():
        raise Unreadable("transparent pixels; what lies below them is not known")
    return planes[:-1]
