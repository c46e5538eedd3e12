from pathlib import Path
from typing import Literal

import pandas as pd

from leukoscope.cells.datasets.listing import Download, Listed, Listing
from leukoscope.cells.datasets.tables import Join, columns_in, fill, read_text
from leukoscope.common.errors import InputError

_FILE = "file of "


class Screen(Listed):
    """A plate screen: a table of its fields, one file a channel, and a table of where the cells are.

    Screens are published without the places of their cells. The user measures them, for instance with CellProfiler,
    and lays the table of objects beside the download.

    Attributes:
        fields: the published table with one field a row.
        field: its column that names the file of the channel that cells are found in.
        cells: the user's table with one cell a row.
        cell_field: its column that names the same file; the first of several that it has.
        x: its column of the centroid's x, in pixels; y likewise.
        channels: channel to its file's path, with columns of ``fields`` in braces.
        columns: name of a column to the name of it in ``fields``.
        slide: what holds cells together, with columns of ``fields`` in braces: a well, say.
        join: a file with more about the fields.
    """

    kind: Literal["screen"] = "screen"
    fields: str
    field: str
    cells: str
    cell_field: tuple[str, ...]
    x: tuple[str, ...]
    y: tuple[str, ...]
    channels: dict[str, str]
    columns: dict[str, str]
    slide: str
    join: Join | None = None

    def listing(self, copy: Download) -> Listing:
        """One row a cell, with what is known of its field."""
        if not (copy.root / self.cells).is_file():
            raise InputError(
                f"{copy.root}: no {self.cells}; the set is published without the places of its cells: lay a table "
                f"beside it with the columns {self.cell_field[0]}, {self.x[0]} and {self.y[0]}, one cell a row"
            )
        fields, lines = self._fields(copy.root)
        cells, nowhere = self._cells(copy.root)
        known = cells["\0field"].isin(fields["\0field"])
        lost = (f"{(~known).sum()} cells lie in fields that {self.fields} does not name",) if not known.all() else ()
        table = cells[known].merge(fields, on="\0field", how="left").drop(columns="\0field")
        columns = [f"{_FILE}{name}" for name in self.channels]
        return Listing(
            table.assign(path=table[columns[0]]),
            helpers={path for column in columns for path in fields[column]},
            channels=tuple(f"{name}={{{column}}}" for name, column in zip(self.channels, columns, strict=True)),
            left_out=(*lines, *nowhere, *lost),
        )

    def _fields(self, root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
        path = root / self.fields
        templates = (self.slide, *self.channels.values())
        named = [column for template in templates for column in columns_in(template)]
        published = read_text(path, needs=(self.field, *self.columns.values(), *named))
        table = pd.DataFrame({new: published[old] for new, old in self.columns.items()})
        paths = {f"{_FILE}{name}": fill(published, template, where=path) for name, template in self.channels.items()}
        table = table.assign(
            slide=fill(published, self.slide, where=path), **paths, **{"\0field": published[self.field]}
        )
        table = table.drop_duplicates("\0field")
        return self.join.beside(table, root) if self.join else (table, ())

    def _cells(self, root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
        table = read_text(root / self.cells)
        found = {}
        for name, choices in (("\0field", self.cell_field), ("x", self.x), ("y", self.y)):
            column = next((choice for choice in choices if choice in table.columns), None)
            if column is None:
                raise InputError(
                    f"{root / self.cells}: no column {' or '.join(choices)}; it has {', '.join(table.columns)}"
                )
            found[name] = table[column]
        rows = pd.DataFrame(found)
        places = rows[["x", "y"]].apply(pd.to_numeric, errors="coerce")
        placed = places.notna().all(axis=1)
        lines = (f"{(~placed).sum()} rows of {self.cells} have no place",) if not placed.all() else ()
        return rows[["\0field"]].join(places)[placed], lines
