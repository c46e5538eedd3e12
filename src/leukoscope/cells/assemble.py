import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.prepare import Outcome, ReadyCell
from leukoscope.cells.readers.protocol import GREY, RGB, Padding, Picture, Rejection
from leukoscope.cells.writer import CellSetWriter
from leukoscope.common.errors import InputError

_BUFFER_BYTES = 8_000_000
_FEW = 20


class Assembler:
    """Takes outcomes in order, holds them to the first cell's shape, and streams them into a folder.

    A set begins grey where its first image is, and becomes RGB at the first image that has colour: what was written
    until then is widened on disk. So three equal channels become one exactly when all images allow it.
    """

    def __init__(self, folder: Path, settings: PackSettings) -> None:
        self.folder = folder
        self.settings = settings
        self.rejections: list[Rejection] = []
        self.padding = 0
        self.writer: CellSetWriter | None = None
        self._buffer: list[ReadyCell] = []
        self._misfits = 0

    @property
    def packed(self) -> int:
        """Cells taken so far."""
        return (self.writer.count if self.writer else 0) + len(self._buffer)

    def take(self, outcome: Outcome) -> None:
        """Store a cell, note a rejection, or count padding.

        Raises:
            InputError: when many images do not fit together, for instance of mixed sizes while no rule was named.
        """
        if isinstance(outcome, Rejection):
            self.rejections.append(outcome)
        elif isinstance(outcome, Padding):
            self.padding += outcome.count
        else:
            self._take_cell(outcome)

    def close(self) -> CellSetWriter:
        """Write what is buffered and ``rejected.csv``; the writer still wants its ``finish``.

        Raises:
            InputError: when not one cell was packed.
        """
        if not self.packed:
            first = self.rejections[0] if self.rejections else None
            because = f"; {first.path}: {first.reason}" if first else ""
            raise InputError(f"no cell could be packed, {len(self.rejections)} rejected{because}")
        self._flush()
        with (self.folder / "rejected.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("path", "index", "reason"))
            rows.writerows((r.path, "" if r.index is None else r.index, r.reason) for r in self.rejections)
        assert self.writer is not None
        return self.writer

    def _take_cell(self, cell: ReadyCell) -> None:
        if self.writer is None:
            channels, height, width = cell.picture.channels, *cell.picture.pixels.shape[1:]
            self.writer = CellSetWriter(
                self.folder, channels=channels, height=height, width=width, dtype=cell.picture.pixels.dtype
            )
        elif reason := self._misfit(cell.picture, self.writer):
            self.rejections.append(Rejection(str(cell.row["source"]), cell.index, reason))
            return
        if self.writer.channels == GREY and cell.picture.channels == RGB:
            self._flush()
            self.writer = self.writer.widened(RGB)
        self._buffer.append(cell)
        if len(self._buffer) * cell.picture.pixels.nbytes >= _BUFFER_BYTES:
            self._flush()

    def _misfit(self, picture: Picture, writer: CellSetWriter) -> str | None:
        """Why a picture cannot join the set that the first cell began.

        Raises:
            InputError: when so many cannot that the source is no one set.
        """
        reason = _difference(picture, writer)
        self._misfits += reason is not None
        if reason and self._misfits > max(_FEW, self.packed // 4):
            raise InputError(f"{self._misfits} images do not fit the set that the first began: {reason}")
        return reason

    def _flush(self) -> None:
        if not self._buffer or self.writer is None:
            return
        channels = len(self.writer.channels)
        planes = [np.broadcast_to(c.picture.pixels, (channels, *self.writer.shape[1:])) for c in self._buffer]
        self.writer.add(np.stack(planes), [cell.row for cell in self._buffer])
        self._buffer.clear()


def _difference(picture: Picture, writer: CellSetWriter) -> str | None:
    if picture.pixels.dtype != writer.dtype:
        return f"{picture.pixels.dtype} pixels in a set of {writer.dtype}; pack them apart, or give --to-8-bit"
    if picture.channels != writer.channels and {picture.channels, writer.channels} != {GREY, RGB}:
        return f"channels {', '.join(picture.channels)} in a set of {', '.join(writer.channels)}; pack them apart"
    height, width = picture.pixels.shape[1:]
    if (height, width) == writer.shape[1:]:
        return None
    return f"{width}x{height} pixels in a set of {writer.shape[2]}x{writer.shape[1]}; name a rule with --fit"


def reasons(rejections: list[Rejection]) -> dict[str, int]:
    """How often each kind of reason was given, most frequent first, told by the first reason of the kind.

    Reasons that differ in numbers only, such as two odd sizes, are of one kind.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for rejection in rejections:
        kind = re.sub(r"\d+", "", rejection.reason.partition(" (")[0])
        counts[kind] += 1
        examples.setdefault(kind, rejection.reason)
    return {examples[kind]: count for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}
