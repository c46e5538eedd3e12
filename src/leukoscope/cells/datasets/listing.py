from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.frames import IMAGE_SUFFIXES
from leukoscope.cells.readers.walk import Found, find_files
from leukoscope.common.settings import Settings

_FEW = 8


@dataclass(frozen=True)
class Download:
    """A downloaded copy of a set in the folder ``root``; it is walked through once."""

    root: Path

    @cached_property
    def images(self) -> list[str]:
        """Paths of the images that may be opened, relative to ``root``, in order."""
        return [source for source, _ in self._found.files]

    @cached_property
    def all_images(self) -> list[str]:
        """Those, and the ones that must not be opened, such as links that lead elsewhere: the reader says why."""
        return sorted([*self.images, *(each.path for each in self._found.refused)])

    def fields(self, folder: str) -> dict[str, str]:
        """Paths of the files in a folder, relative to ``root``, by their names without suffix."""
        return {path.stem: f"{folder}/{path.name}" for path in sorted((self.root / folder).glob("*.*"))}

    @cached_property
    def _found(self) -> Found:
        return find_files(self.root, IMAGE_SUFFIXES, PackSettings(), what="images")[1]


@dataclass(frozen=True)
class Listing:
    """A download as a table with one cell a row, which the readers ``manifest`` and ``fields`` take.

    Attributes:
        table: columns ``path`` (relative to the download) and, where cells are cut out of fields, ``x`` and ``y``.
        helpers: paths of images that hold no cells of their own, such as masks and further channels.
        channels: what ``PackSettings.channels`` is for this table.
        left_out: lines that name and count what the table leaves out, and why.
    """

    table: pd.DataFrame
    helpers: Collection[str] = ()
    channels: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Laid:
    """What is packed: a file or folder, the settings that the layout needs, and lines about what it leaves out."""

    source: Path
    settings: dict[str, Any]
    left_out: tuple[str, ...] = ()


class Layout(Settings, ABC):
    """How a published set lies on disk; ``kind`` names the subclass in a YAML entry."""

    @abstractmethod
    def lay_out(self, root: Path, scratch: Path) -> Laid | None:
        """What to pack of the download in ``root``, or None where it holds nothing of this layout.

        Tables are written into the folder ``scratch``.

        Raises:
            InputError: when a file of the layout is missing or broken.
        """


class Listed(Layout):
    """A layout that becomes a table."""

    @abstractmethod
    def listing(self, copy: Download) -> Listing:
        """The table of a download; it has no rows where nothing fits the layout."""

    def lay_out(self, root: Path, scratch: Path) -> Laid | None:
        """As :meth:`Layout.lay_out`: the table, and lines about the images that it does not name.

        Crops of one field may overlap, so cells of one field are held together: without a ``slide`` or a
        ``patient``, the field stands for the slide.
        """
        copy = Download(root)
        found = self.listing(copy)
        table = found.table
        if table.empty:
            return None
        reader = "fields" if "x" in table.columns else "manifest"
        if reader == "fields" and not {"slide", "patient"} & set(table.columns):
            table = table.assign(slide=table["path"])
        table.to_parquet(scratch / "cells.parquet", index=False)
        named = {*table["path"], *found.helpers}
        settings = {"reader": reader, "root": root} | ({"channels": found.channels} if found.channels else {})
        return Laid(scratch / "cells.parquet", settings, (*found.left_out, *unnamed_images(copy, named)))


def unnamed_images(copy: Download, named: Collection[str]) -> tuple[str, ...]:
    """Lines that count the images of a download whose paths are not among ``named``, by folder and suffix."""
    groups: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for source in copy.all_images:
        if source not in named:
            path = PurePosixPath(source)
            folder = path.parent.as_posix()
            group = ("the folder itself" if folder == "." else folder, path.suffix)
            groups[group] += 1
            examples.setdefault(group, path.name)
    lines = [
        f"{count} {suffix} in {folder} (such as {examples[folder, suffix]}): no part of the layout"
        for (folder, suffix), count in groups.most_common(_FEW)
    ]
    rest = list(groups.values())
    if len(rest) > _FEW:
        lines.append(f"{sum(rest) - sum(sorted(rest)[-_FEW:])} more images in {len(rest) - _FEW} more folders likewise")
    return tuple(lines)


def some(paths: Collection[str], what: str) -> tuple[str, ...]:
    """No line where ``paths`` is empty, else one that counts them, says what is wrong with them and names one."""
    return (f"{len(paths)} {what}, such as {min(paths)}",) if paths else ()
