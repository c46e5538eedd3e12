import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.decode import PLAIN_SUFFIXES
from leukoscope.cells.readers.frames import Frames, open_frames
from leukoscope.cells.readers.protocol import HEAVY, Item, RawCell, Rejection, reason_of

# A file above this may be a stack that does not fit into memory: its pages are handed out a few at a time.
_LARGE_BYTES = 4_000_000
_PAGES_A_PIECE = 32


def picture_items(
    paths: Sequence[Path],
    source: str,
    columns: Mapping[str, Any],
    settings: PackSettings,
    names: tuple[str, ...] = (),
) -> Iterator[Item | Rejection]:
    """The items of one file (or of one file a channel) whose every picture is a cell."""

    def read() -> Iterator[RawCell | Rejection]:
        with closing(open_frames(paths, settings, names)) as frames:
            yield from _cells(frames, range(len(frames)), source, settings)
            yield from _lost(frames, source)

    if _is_long(paths):
        yield from _pieces(paths, source, columns, settings, names)
    else:
        yield Item(source, read, columns)


def count_pieces(paths: Sequence[Path], settings: PackSettings) -> int:
    """How many items :func:`picture_items` makes of one image's files, near enough for a progress bar."""
    if not _is_long(paths):
        return 1
    try:
        with closing(open_frames(paths[:1], settings)) as frames:
            return max(1, -(-len(frames) // _PAGES_A_PIECE))
    except Exception:  # a broken file is one item, which rejects it
        return 1


def _is_long(paths: Sequence[Path]) -> bool:
    try:
        return any(p.suffix.lower() not in PLAIN_SUFFIXES and p.stat().st_size >= _LARGE_BYTES for p in paths)
    except OSError:  # gone since it was listed; the item that reads it says so
        return False


def _pieces(
    paths: Sequence[Path], source: str, columns: Mapping[str, Any], settings: PackSettings, names: tuple[str, ...]
) -> Iterator[Item | Rejection]:
    """Items of a few pages each; the last to be read closes the file."""
    try:
        frames = open_frames(paths, settings, names)
    except Exception as error:
        yield Rejection(source, None, reason_of(error))
        return
    starts = range(0, len(frames), _PAGES_A_PIECE)
    done = _CloseAfter(len(starts), frames.close)

    def reader(start: int) -> Callable[[], Iterator[RawCell | Rejection]]:
        def read() -> Iterator[RawCell | Rejection]:
            with closing(done):
                yield from _cells(frames, range(start, min(start + _PAGES_A_PIECE, len(frames))), source, settings)

        return read

    yield from (Item(source, reader(start), columns, HEAVY) for start in starts)
    yield from _lost(frames, source)


class _CloseAfter:
    """Calls ``close`` at the n-th time it is closed itself."""

    def __init__(self, times: int, close: Callable[[], None]) -> None:
        self._left = times
        self._close = close
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._close()


def _cells(
    frames: Frames, indices: Sequence[int], source: str, settings: PackSettings
) -> Iterator[RawCell | Rejection]:
    for index in indices:
        # One broken page must not take the others with it.
        try:
            yield RawCell(index, frames.picture(index, settings.cell_limit))
        except Exception as error:
            yield Rejection(source, None if len(frames) == 1 else index, reason_of(error))


def _lost(frames: Frames, source: str) -> Iterator[Rejection]:
    if not len(frames):
        yield Rejection(source, None, "holds no pages")
    if frames.broken:
        yield Rejection(source, len(frames), frames.broken)
