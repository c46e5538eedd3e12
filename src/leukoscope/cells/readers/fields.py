from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.cells.fit import border_level
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.channels import channel_names
from leukoscope.cells.readers.frames import open_frames
from leukoscope.cells.readers.manifest import Manifest, Places
from leukoscope.cells.readers.protocol import HEAVY, Item, Picture, Plan, RawCell, Rejection
from leukoscope.cells.readers.table import CHANNEL_PATHS, TABLE_SUFFIXES, read_table
from leukoscope.common.errors import InputError


class Fields:
    """A table of centroids (path, x, y in pixels): each cell is cut out of its field of view, as in plate screens."""

    uses = frozenset({"crop", *Manifest.uses})

    def claims(self, source: Path, settings: PackSettings) -> bool:
        """A table, when the side of the crops was given."""
        return settings.crop is not None and source.suffix.lower() in TABLE_SUFFIXES and source.is_file()

    def plan(self, source: Path, settings: PackSettings) -> Plan:
        """One item a field, in the order in which the table first names them; the cells in the order of its rows."""
        if settings.crop is None:
            raise InputError(f"{source}: cutting cells out of fields needs the side of the crops; give --crop 128")
        table, disagreed = read_table(source, settings, needs=("x", "y"))
        for axis in ("x", "y"):
            if not pd.api.types.is_numeric_dtype(table[axis]) or table[axis].isna().any():
                raise InputError(f"{source}: column {axis}: not a number in every row")
        places = Places(source, settings)

        def items() -> Iterator[Item | Rejection]:
            for path, rows in table.groupby("path", sort=False):
                channels = rows[CHANNEL_PATHS].iloc[0] if CHANNEL_PATHS in rows else ()
                found = places.find(str(path), channels)
                rows = rows.drop(columns=["path", CHANNEL_PATHS], errors="ignore")
                yield found if isinstance(found, Rejection) else _item(*found, rows, settings)

        return Plan(items(), table["path"].nunique(), unit="fields", disagreed=disagreed)


def crop_around(pixels: np.ndarray, x: float, y: float, side: int) -> np.ndarray | None:
    """The square of ``(C, H, W)`` around a centroid; None where the centroid lies outside the field.

    Pixel (0, 0) has its centre at x = y = 0. What lies beyond the field's edge is filled with the median of
    the border of what lies within.
    """
    channels, height, width = pixels.shape
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        return None
    left, top = (int(np.floor(value + 0.5)) - side // 2 for value in (x, y))
    inside = pixels[:, max(0, top) : top + side, max(0, left) : left + side]
    if inside.shape[1:] == (side, side):
        return inside
    crop = np.empty((channels, side, side), pixels.dtype)
    crop[:] = border_level(inside)[:, None, None]
    above, before = max(0, -top), max(0, -left)
    crop[:, above : above + inside.shape[1], before : before + inside.shape[2]] = inside
    return crop


def _item(source: str, paths: Sequence[Path], rows: pd.DataFrame, settings: PackSettings) -> Item:
    records = rows.to_dict("records")

    def read() -> Iterator[RawCell | Rejection]:
        with closing(open_frames(paths, settings, channel_names(settings))) as frames:
            field = frames.picture(0, settings.sheet_limit)
        for index, record in enumerate(records):
            yield _cell(source, field, index, record, settings.crop or 1)

    return Item(source, read, weight=HEAVY)


def _cell(source: str, field: Picture, index: int, record: Mapping[Any, Any], side: int) -> RawCell | Rejection:
    pixels = crop_around(field.pixels, float(record["x"]), float(record["y"]), side)
    if pixels is None:
        return Rejection(source, index, f"centroid outside the field (x={record['x']}, y={record['y']})")
    columns = {str(name): value for name, value in record.items() if not pd.isna(value)}
    return RawCell(index, Picture(pixels, field.channels), columns)
