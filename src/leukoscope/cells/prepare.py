from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leukoscope.cells.fit import DoesNotFit, centre, fit
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.protocol import (
    GREY,
    RGB,
    Item,
    Padding,
    Picture,
    RawCell,
    Rejection,
    Unreadable,
    reason_of,
)
from leukoscope.cells.writer import cell_id


@dataclass(frozen=True)
class ReadyCell:
    """A cell as it will be stored, but for a grey one in a colour set: pixels ``(C, H, W)`` and its table row."""

    picture: Picture
    index: int
    row: Mapping[str, Any]


Outcome = ReadyCell | Rejection | Padding


def prepare_all(pieces: Sequence[Item | Rejection], settings: PackSettings) -> list[Outcome]:
    """Read and prepare a handful of items, passing on what was refused before; runs on a worker thread."""
    outcomes: list[Outcome] = []
    for piece in pieces:
        outcomes.extend([piece] if isinstance(piece, Rejection) else prepare(piece, settings))
    return outcomes


def prepare(item: Item, settings: PackSettings) -> list[Outcome]:
    """Read one item and bring its cells to the set's rule; a bad file becomes a :class:`Rejection`, never an error."""
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(_ready(item, cell, settings) if isinstance(cell, RawCell) else cell for cell in item.read())
    # Decoders raise whatever they like on broken bytes; none of it may stop the packing.
    except Exception as error:
        outcomes.append(Rejection(item.source, None, reason_of(error)))
    return outcomes


def _ready(item: Item, cell: RawCell, settings: PackSettings) -> ReadyCell | Rejection:
    try:
        picture = _checked(cell.picture, settings)
        pixels = picture.pixels
        if settings.rule is not None and settings.size is not None:
            pixels = fit(pixels, settings.size, settings.rule)
    except (Unreadable, DoesNotFit) as reason:
        return Rejection(item.source, cell.index, str(reason))
    pixels = np.ascontiguousarray(pixels)
    row = {"cell_id": cell_id(pixels, item.source, cell.index), "source": item.source, **item.columns, **cell.columns}
    for column, names in settings.names.items():
        if column in row:
            row[column] = names.get(str(row[column]), row[column])
    return ReadyCell(Picture(pixels, picture.channels), cell.index, row)


def _checked(picture: Picture, settings: PackSettings) -> Picture:
    pixels = picture.pixels
    if pixels.dtype not in (np.uint8, np.uint16):
        raise Unreadable(f"{pixels.dtype} pixels; only unsigned 8 and 16 bit are read")
    if pixels.size == 0:
        raise Unreadable("empty image")
    if settings.centre is not None:
        pixels = centre(pixels, settings.centre)
    if _constant(pixels):
        raise Unreadable("constant image")
    if settings.bit_depth is not None and settings.bit_depth > 8 and pixels.dtype == np.uint8 and not settings.to_8_bit:
        raise Unreadable(f"8-bit pixels, which --bit-depth {settings.bit_depth} would turn nearly black; leave it out")
    if settings.bit_depth is not None and int(pixels.max()) >> settings.bit_depth:
        raise Unreadable(f"brightest pixel {pixels.max()} is over {settings.bit_depth} bits; check --bit-depth")
    if settings.to_8_bit and pixels.dtype == np.uint16:
        pixels = _to_8_bit(pixels, settings.bit_depth or 16)
    # Grey stored as RGB: the set turns it back into RGB where another image has colour.
    if picture.channels == RGB and np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[0], pixels[2]):
        return Picture(pixels[:1], GREY)
    return Picture(pixels, picture.channels)


def _constant(pixels: np.ndarray) -> bool:
    if (pixels[:, 0] != pixels[:, 0, :1]).any():
        return False
    return not (pixels != pixels[:, :1, :1]).any()


def _to_8_bit(pixels: np.ndarray, bits: int) -> np.ndarray:
    scaled: np.ndarray = np.rint(pixels * (255.0 / (2**bits - 1))).astype(np.uint8)
    return scaled
