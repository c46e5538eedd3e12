from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.channels import ChannelPatterns, channel_names
from leukoscope.cells.readers.frames import IMAGE_SUFFIXES
from leukoscope.cells.readers.pieces import picture_items
from leukoscope.cells.readers.protocol import Item, Plan, Rejection
from leukoscope.cells.readers.table import CHANNEL_PATHS, TABLE_SUFFIXES, read_table
from leukoscope.cells.readers.walk import Bounds, path_columns, relative


class Manifest:
    """A table (CSV, TSV, Parquet) with one image a row: path, label, patient, slide, batch; other columns are kept."""

    uses = frozenset({"channels", "pages", "from_path", "root", "columns", "path_template", "agree", "experts"})

    def claims(self, source: Path, settings: PackSettings) -> bool:
        """A file with a table's suffix."""
        return source.suffix.lower() in TABLE_SUFFIXES and source.is_file()

    def plan(self, source: Path, settings: PackSettings) -> Plan:
        """One item a row, in the order of the table."""
        table, disagreed = read_table(source, settings)
        places = Places(source, settings)

        def items() -> Iterator[Item | Rejection]:
            seen: set[str] = set()
            for row in table.drop(columns="path").assign(path=table["path"]).to_dict("records"):
                yield from _row_items(row, places, settings, seen)

        return Plan(items(), len(table), unit="rows", disagreed=disagreed)


class Places:
    """Turns the paths of a table into files that may be opened."""

    def __init__(self, source: Path, settings: PackSettings) -> None:
        self._root = settings.root or source.parent
        self._bounds = Bounds(self._root, settings)
        self._settings = settings

    def find(self, text: str, channels: Sequence[str] = ()) -> tuple[str, tuple[Path, ...]] | Rejection:
        """The path for the CellSet's table and the files of its channels, or why they must not be opened.

        ``channels`` are the paths of the channels where columns of the table name them.
        """
        path = self._place(text)
        source = relative(path, self._root)
        paths: tuple[Path, ...] | None = tuple(map(self._place, channels)) or (path,)
        if self._settings.channels and not channels:
            paths = ChannelPatterns.of(self._settings).beside(path)
        if paths is None:
            return Rejection(source, None, f"its name does not fit --channels {self._settings.channels[0]}")
        for each in paths:
            if each.suffix.lower() not in IMAGE_SUFFIXES:
                return Rejection(source, None, f"of a kind that is not read ({each.suffix or 'no suffix'})")
            if reason := self._bounds.refusal(each):
                return Rejection(source, None, reason if len(paths) == 1 else f"{each.name}: {reason}")
        return source, paths

    def _place(self, text: str) -> Path:
        # Tables written on Windows separate folders by backslashes.
        return self._root / (text.replace("\\", "/") if "\\" in text and not (self._root / text).exists() else text)


def _row_items(
    row: dict[Any, Any], places: Places, settings: PackSettings, seen: set[str]
) -> Iterator[Item | Rejection]:
    found = places.find(row["path"], row.pop(CHANNEL_PATHS, ()))
    if isinstance(found, Rejection):
        yield found
        return
    source, paths = found
    if source in seen:
        yield Rejection(source, None, "listed twice")
        return
    seen.add(source)
    given = {str(name): value for name, value in row.items() if name != "path" and not pd.isna(value)}
    from_path = path_columns(source, settings) if settings.from_path else {}
    yield from picture_items(paths, source, from_path | given, settings, channel_names(settings))
