from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.decode import PLAIN_SUFFIXES, decode_plain
from leukoscope.cells.readers.protocol import Picture, Unreadable
from leukoscope.cells.readers.tiff import TIFF_SUFFIXES, TiffFrames, stack

IMAGE_SUFFIXES = PLAIN_SUFFIXES | TIFF_SUFFIXES


class Frames(Protocol):
    """The pictures of one file."""

    broken: str | None

    def __len__(self) -> int: ...

    def picture(self, index: int, max_pixels: int) -> Picture:
        """Decode picture ``index``."""

    def close(self) -> None:
        """Close the file."""


class PlainFrames:
    """A file of one picture: PNG, JPEG, BMP, WebP."""

    broken: str | None = None

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        return 1

    def picture(self, index: int, max_pixels: int) -> Picture:
        """Decode the picture."""
        return decode_plain(self._path, max_pixels)

    def close(self) -> None:
        """Nothing is held open."""


class JoinedFrames:
    """Files that hold one channel each of the same pictures, such as ``Ch3_1.tif`` and ``Ch6_1.tif``."""

    def __init__(self, parts: Sequence[Frames], names: tuple[str, ...]) -> None:
        self.broken = next((part.broken for part in parts if part.broken), None)
        if len({len(part) for part in parts}) != 1:
            counts = ", ".join(str(len(part)) for part in parts)
            raise Unreadable(f"its channels' files hold different numbers of pages ({counts})")
        self._parts = parts
        self._names = names

    def __len__(self) -> int:
        return len(self._parts[0])

    def picture(self, index: int, max_pixels: int) -> Picture:
        """Decode picture ``index`` of each file and join them as channels."""
        return Picture(stack([part.picture(index, max_pixels) for part in self._parts]).pixels, self._names)

    def close(self) -> None:
        """Close all files."""
        for part in self._parts:
            part.close()


def open_frames(paths: Sequence[Path], settings: PackSettings, names: tuple[str, ...] = ()) -> Frames:
    """Open one file, or join several that hold a channel each, called ``names``."""
    if not names:
        return _open(paths[0], settings)
    with ExitStack() as opened:
        parts: list[Frames] = []
        for path in paths:
            parts.append(_open(path, settings))
            opened.callback(parts[-1].close)
        joined = JoinedFrames(parts, names)
        opened.pop_all()
    return joined


def _open(path: Path, settings: PackSettings) -> Frames:
    return TiffFrames(path, settings.pages) if path.suffix.lower() in TIFF_SUFFIXES else PlainFrames(path)
