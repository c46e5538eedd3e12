from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from leukoscope.cells.pack_settings import PackSettings

GREY = ("grey",)
RGB = ("red", "green", "blue")
# The weight of an item that holds many cells, against 1 for a file of one.
HEAVY = 16


class Unreadable(Exception):
    """A file, page or tile that cannot become a cell; the message is the reason that ``rejected.csv`` gives."""


def reason_of(error: Exception) -> str:
    """The reason that ``rejected.csv`` gives for an error of ours or of a decoder, on one line."""
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"broken file ({' '.join(str(error).split()) or type(error).__name__})"


@dataclass(frozen=True)
class Picture:
    """Pixels as acquired: ``(C, H, W)`` integers and the names of the C channels."""

    pixels: np.ndarray
    channels: tuple[str, ...]


@dataclass(frozen=True)
class RawCell:
    """One cell as a reader found it: the ``index`` within its file, its picture, and table columns of its own."""

    index: int
    picture: Picture
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejection:
    """One row of ``rejected.csv``: ``index`` is None where the whole file could not be read."""

    path: str
    index: int | None
    reason: str
    weight: int = 1


@dataclass(frozen=True)
class Padding:
    """Tiles of a montage that hold no cell."""

    count: int


@dataclass(frozen=True)
class Item:
    """A piece of work that is cheap to list: a worker calls ``read`` to get the cells, and may call it on any thread.

    ``read`` raises :class:`Unreadable` (or whatever a decoder raises) where the whole piece is bad, and yields a
    :class:`Rejection` where one cell of it is. ``source`` is the path relative to the source; ``columns`` hold for
    every cell of the piece; ``weight`` says how much work it is, so that small items are handed out together.
    """

    source: str
    read: Callable[[], Iterable[RawCell | Rejection | Padding]]
    columns: Mapping[str, Any] = field(default_factory=dict)
    weight: int = 1


@dataclass(frozen=True)
class Plan:
    """What a source holds: ``items`` in the order of the CellSet, ``total`` of them counted in ``unit``.

    ``items`` is consumed lazily, so that a long file is read as it is packed; a :class:`Rejection` among them is a
    file that is refused before it is opened. ``ignored`` counts files that no reader claims to understand,
    ``disagreed`` rows that too few experts labelled alike.
    """

    items: Iterator[Item | Rejection]
    total: int
    unit: str = "files"
    ignored: int = 0
    disagreed: int = 0
    pixel_size_um: float | None = None


class Reader(Protocol):
    """One kind of source. A new reader is one file that satisfies this and one line in ``registry.py``.

    ``uses`` names the settings that mean something to this reader and not to every one.
    """

    uses: frozenset[str]

    def claims(self, source: Path, settings: PackSettings) -> bool:
        """Whether ``source``, which exists, is of this kind."""

    def plan(self, source: Path, settings: PackSettings) -> Plan:
        """List the work.

        Raises:
            InputError: when the source as a whole cannot be read this way.
        """
