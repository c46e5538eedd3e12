import csv
from pathlib import Path

import pandas as pd

from leukoscope.cells.readers.table import Template
from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings

_BEYOND = tuple(f"\0beyond {number}" for number in range(16))


class Join(Settings):
    """A file of the download whose columns are laid beside the cells; where it is absent, they are left out.

    Attributes:
        file: its path in the download; the first of several that is there.
        match: column of the cells to the column of the file that holds the same values.
        take: name of a column to the file's name of it.
        header: names of the file's columns, where its first line is data.
        blanks: whether blanks separate the columns, instead of commas.
        numbered: columns of ``match`` that are compared by the last number in them: ``image_7.tif`` and ``007.TIF`` are
            the same.
    """

    file: tuple[str, ...]
    match: dict[str, str]
    take: dict[str, str]
    header: tuple[str, ...] = ()
    blanks: bool = False
    numbered: tuple[str, ...] = ()

    def beside(self, table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """The table with the file's columns, and lines about the rows that the file does not know.

        Raises:
            InputError: when the file is no table, or lacks a column.
        """
        path = next((root / name for name in self.file if (root / name).is_file()), None)
        if path is None:
            return table, (f"no {' or '.join(self.file)}: the columns {', '.join(self.take)} are missing",)
        other = read_text(
            path, needs=(*self.match.values(), *self.take.values()), header=self.header, blanks=self.blanks
        )
        keys = [f"\0{name}" for name in self.match]
        mine = table.assign(
            **{key: self._comparable(table, name, name) for key, name in zip(keys, self.match, strict=True)}
        )
        theirs = pd.DataFrame({new: other[old] for new, old in self.take.items()})
        theirs[keys] = pd.DataFrame(
            {key: self._comparable(other, old, name) for key, (name, old) in zip(keys, self.match.items(), strict=True)}
        )
        joined = mine.merge(theirs.drop_duplicates(keys), on=keys, how="left", indicator="\0found")
        lost = int((joined["\0found"] == "left_only").sum())
        lines = (f"{lost} of {len(table)} cells are not in {path.name}: no {', '.join(self.take)}",) if lost else ()
        return joined.drop(columns=[*keys, "\0found"]), lines

    def _comparable(self, table: pd.DataFrame, column: str, name: str) -> pd.Series:
        values = table[column]
        return comparable(values.str.extract(r"(\d+)\D*$", expand=False) if name in self.numbered else values)


def read_text(
    path: Path, *, needs: tuple[str, ...] = (), header: tuple[str, ...] = (), blanks: bool = False
) -> pd.DataFrame:
    """Read a table whose columns all stay text.

    Raises:
        InputError: when it cannot be read, or lacks a column that it ``needs``.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            names = list(header) or next(csv.reader(file), [])
            table = pd.read_csv(
                file,
                sep=r"\s+" if blanks else ",",
                # Some published tables have a comma too many here and there: the fields beyond the last are dropped.
                names=[*names, *_BEYOND],
                index_col=False,
                dtype=str,
                keep_default_na=False,
                na_values=[""],
            )
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from None
    table = table.drop(columns=list(_BEYOND))
    missing = [name for name in needs if name not in table.columns]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
    return table


def columns_in(template: str) -> tuple[str, ...]:
    """The columns that ``template`` names."""
    return tuple(name for _, name, _, _ in Template().parse(template) if name)


def fill(table: pd.DataFrame, template: str, *, where: Path) -> list[str]:
    """``template``, such as ``{folder}/{number:03d}.bmp``, for each row of a table of text, read from ``where``.

    Raises:
        InputError: when a row has no number where the template asks for one.
    """
    formatter = Template()
    rows = ({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
    try:
        return [formatter.vformat(template, (), row) for row in rows]
    except ValueError as error:
        raise InputError(f"{where}: {template}: {error}") from None


def comparable(column: pd.Series) -> pd.Series:
    """The column's values so that 0.30 and 0.3 are the same; what is no number stays as it is."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column.where(numbers.isna(), numbers.map(repr))
