from collections.abc import Iterator
from pathlib import Path

from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.decode import PLAIN_SUFFIXES, decode_plain
from leukoscope.cells.readers.protocol import Item, Plan, RawCell, Rejection
from leukoscope.cells.readers.walk import find_files, path_columns, relative, require_files


class Images:
    """A folder of images: sub-folders are classes, or all lie flat."""

    def claims(self, source: Path, settings: PackSettings) -> bool:
        """A folder."""
        return source.is_dir()

    def plan(self, source: Path, settings: PackSettings) -> Plan:
        """One item a file, in the order of the relative paths."""
        found = find_files(source, PLAIN_SUFFIXES, settings)
        require_files(found, source, "images")
        items = (_item(path, source, settings) for path in found.files)
        return Plan(_chain(found.refused, items), len(found.files) + len(found.refused), ignored=found.ignored)


def _chain(refused: list[Rejection], items: Iterator[Item]) -> Iterator[Item | Rejection]:
    yield from refused
    yield from items


def _item(path: Path, root: Path, settings: PackSettings) -> Item:
    def read() -> Iterator[RawCell]:
        yield RawCell(0, decode_plain(path, settings.max_pixels))

    source = relative(path, root)
    return Item(source, read, path_columns(source, settings))
