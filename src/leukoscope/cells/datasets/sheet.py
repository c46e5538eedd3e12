from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from leukoscope.cells.datasets.boxes import CORNERS, centred
from leukoscope.cells.datasets.listing import Download, Listed, Listing
from leukoscope.cells.datasets.tables import columns_in, fill, read_text
from leukoscope.common.settings import Settings


class Corners(Settings):
    """The columns of a table that hold the corners of a box; ``side`` is the field's, where they are shares of it."""

    xmin: str = "xmin"
    ymin: str = "ymin"
    xmax: str = "xmax"
    ymax: str = "ymax"
    side: float

    @property
    def columns(self) -> tuple[str, ...]:
        """The four columns, in the order of :data:`~leukoscope.cells.datasets.boxes.CORNERS`."""
        return (self.xmin, self.ymin, self.xmax, self.ymax)

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The corners in pixels, where the edges of the first pixel are at 0 and 1."""
        shares = {
            corner: pd.to_numeric(table[column], errors="coerce")
            for corner, column in zip(CORNERS, self.columns, strict=True)
        }
        return pd.DataFrame(shares) * self.side


class SheetFile(Settings):
    """One table of a set.

    Attributes:
        file: its path in the download.
        path: the path of a row's image, with the table's columns in braces.
        columns: name of a column to the table's name of it; others are left out.
        fixed: columns that are the same for all rows of this table.
        corners: where a row is a box in a field of view.
    """

    file: str
    path: str
    columns: dict[str, str]
    fixed: dict[str, str] = Field(default_factory=dict)
    corners: Corners | None = None


class Sheet(Listed):
    """Tables that name the images and their classes; a set of several need not be whole."""

    kind: Literal["sheet"] = "sheet"
    files: tuple[SheetFile, ...]

    def listing(self, copy: Download) -> Listing:
        """The rows of all tables that are there."""
        there = [file for file in self.files if (copy.root / file.file).is_file()]
        absent = tuple(f"no {file.file}" for file in self.files if file not in there)
        read = [_read(copy.root, file) for file in there]
        tables = [table for table, _ in read]
        lines = tuple(line for _, lines in read for line in lines)
        return Listing(pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(), left_out=(*absent, *lines))


def _read(root: Path, file: SheetFile) -> tuple[pd.DataFrame, tuple[str, ...]]:
    corners = file.corners.columns if file.corners else ()
    path = root / file.file
    table = read_text(path, needs=(*columns_in(file.path), *file.columns.values(), *corners))
    rows = pd.DataFrame({new: table[old] for new, old in file.columns.items()})
    rows = rows.assign(path=fill(table, file.path, where=path), **file.fixed)
    if file.corners is None:
        return rows, ()
    # Edges, not pixels, are counted here: the middle of the first pixel lies half a pixel from its edge.
    return centred(rows.join(file.corners.of(table)), first=0.5)
