import struct
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import tifffile

from leukoscope.cells.readers.decode import check_pixels, without_alpha
from leukoscope.cells.readers.protocol import GREY, RGB, Picture, Unreadable

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
_MOST_CHANNELS = 64


class TiffFrames:
    """The pages of a TIFF, laid out as pictures; safe to index from several threads.

    Every page is a picture, unless ``pages`` says that all of them are the channels of one, or the file's own metadata
    does: OME files, and ImageJ hyperstacks that have a further axis. (A plain ImageJ stack calls its pages channels
    whatever they are.)

    Raises:
        Unreadable: when the file is no TIFF, or its list of pages is broken or runs in a circle.
    """

    def __init__(self, path: Path, pages: Literal["cells", "channels"]) -> None:
        with path.open("rb") as file:
            self.broken = _fault_of_page_list(file)
        if self.broken == _CIRCLE:
            raise Unreadable(_CIRCLE)
        self._tiff = tifffile.TiffFile(path)
        self._tiff.filehandle.set_lock(True)
        self._order = self._layout(pages)

    def __len__(self) -> int:
        return len(self._order)

    def picture(self, index: int, max_pixels: int) -> Picture:
        """Decode picture ``index``.

        Raises:
            Unreadable: when it is too large or of a kind that is not read.
        """
        if len(self._order[index]) > _MOST_CHANNELS:
            raise Unreadable(f"{len(self._order[index])} channels are over the limit of {_MOST_CHANNELS}")
        found = [self._page(int(page), max_pixels) for page in self._order[index]]
        return found[0] if len(found) == 1 else stack(found)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()

    def _layout(self, pages: Literal["cells", "channels"]) -> np.ndarray:
        """Page numbers ``(pictures, channels)``."""
        count = len(self._tiff.pages)
        if pages == "channels":
            return np.arange(count)[None]
        axes, shape = self._named_axes()
        if "C" not in axes or int(np.prod(shape)) != count:
            return np.arange(count)[:, None]
        order = np.moveaxis(np.arange(count).reshape(shape), axes.index("C"), -1)
        return order.reshape(-1, order.shape[-1])

    def _named_axes(self) -> tuple[str, tuple[int, ...]]:
        """Names and lengths of the axes over pages, where the file's metadata can be believed."""
        if not (self._tiff.is_ome or self._tiff.is_imagej) or len(self._tiff.series) != 1:
            return "", ()
        series = self._tiff.series[0]
        inner = len(self._tiff.pages[0].shape)
        axes, shape = series.axes[:-inner], series.shape[:-inner]
        return ("", ()) if self._tiff.is_imagej and axes == "C" else (axes, shape)

    def _page(self, number: int, max_pixels: int) -> Picture:
        # Parsing a page moves the file's position, so it shares the lock that reading its pixels takes.
        with self._tiff.filehandle.lock:
            page = self._tiff.pages[number].aspage()
        check_pixels(page.imagewidth, page.imagelength * page.imagedepth, max_pixels)
        if page.samplesperpixel > _MOST_CHANNELS:
            raise Unreadable(f"{page.samplesperpixel} channels are over the limit of {_MOST_CHANNELS}")
        if page.dtype not in (np.uint8, np.uint16):
            raise Unreadable(f"{page.dtype} pixels; only unsigned 8 and 16 bit are read")
        return _planes(page, page.asarray())


def stack(pictures: list[Picture]) -> Picture:
    """Join pictures of one channel each into one of several.

    Raises:
        Unreadable: when they differ in size or depth, or one has several channels.
    """
    first = pictures[0].pixels
    for picture in pictures:
        if len(picture.channels) != 1:
            raise Unreadable(f"a channel's file holds {len(picture.channels)} channels of its own")
        if picture.pixels.shape != first.shape or picture.pixels.dtype != first.dtype:
            raise Unreadable(f"its channels differ in size or depth ({_size(pictures[0])}, {_size(picture)})")
    return Picture(np.concatenate([picture.pixels for picture in pictures]), numbered(len(pictures)))


def numbered(count: int) -> tuple[str, ...]:
    """Names of channels that the source does not name."""
    return tuple(f"channel {number}" for number in range(1, count + 1))


def _size(picture: Picture) -> str:
    return f"{picture.pixels.shape[2]}x{picture.pixels.shape[1]} {picture.pixels.dtype}"


def _planes(page: Any, samples: np.ndarray) -> Picture:
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if page.axes == "YX":
        # Zero is white in such files: what is stored is darkness.
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            raise Unreadable("palette TIFF; save it as grey or RGB")
        return Picture(np.invert(samples)[None] if inverted else samples[None], GREY)
    if page.axes == "YXS":
        samples = samples.transpose(2, 0, 1)
    elif page.axes != "SYX":
        raise Unreadable(f"page with the axes {page.axes}; only flat pages are read")
    if page.photometric in (tifffile.PHOTOMETRIC.SEPARATED, tifffile.PHOTOMETRIC.CIELAB):
        raise Unreadable(f"{page.photometric.name} colours; save it as grey or RGB")
    # 1 and 2 are associated and unassociated alpha; other extra samples are channels.
    if page.extrasamples and int(page.extrasamples[-1]) in (1, 2):
        samples = without_alpha(samples)
    colour = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR) and len(samples) == 3
    names = RGB if colour else GREY if len(samples) == 1 else numbered(len(samples))
    return Picture(np.ascontiguousarray(samples), names)


_CIRCLE = "its list of pages runs in a circle"
_CUT = "truncated: its list of pages leads beyond the end of the file"


def _fault_of_page_list(file: BinaryIO) -> str | None:
    """What is wrong with the chain of page offsets; tifffile ends a broken one early, as if those were all pages."""
    head = file.read(16)
    if not head:
        raise Unreadable("empty file")
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        raise Unreadable("not a TIFF file")
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    number, entry, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
    offset = struct.unpack_from(order + pointer, head, 8 if big else 4)[0]
    seen = set()
    while offset:
        if offset in seen:
            return _CIRCLE
        seen.add(offset)
        try:
            file.seek(offset)
            (tags,) = struct.unpack(order + number, file.read(struct.calcsize(number)))
            file.seek(tags * entry, 1)
            (offset,) = struct.unpack(order + pointer, file.read(struct.calcsize(pointer)))
        except (struct.error, OSError, OverflowError):
            return _CUT
    return None
