import string
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from leukoscope.cells.agreement import agreed
from leukoscope.cells.pack_settings import PackSettings
from leukoscope.cells.readers.channels import ChannelPatterns
from leukoscope.common.errors import InputError

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
# Names and classes stay as written: 01 is no number, and a class may be called 1.
_TEXT_COLUMNS = ("path", "label", "patient", "slide", "batch", "split")
_RESERVED = ("cell_id", "source")
# What ``read_table`` adds where columns name the channels' files; no file has a column of this name.
CHANNEL_PATHS = "\0channel paths"


class Template(string.Formatter):
    """``{image ID:03d}.bmp`` filled from a table's row: plain column names, and whole numbers where ``d`` asks."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        """The column of that very name; attributes and indices are not looked up."""
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        """Tables are read as text, so ``03d`` makes the number first."""
        return format(int(value) if format_spec.endswith("d") else value, format_spec)


def read_table(source: Path, settings: PackSettings, *, needs: Sequence[str] = ()) -> tuple[pd.DataFrame, int]:
    """Read a manifest: renamed, with a column ``path``, experts agreed; and how many rows they did not agree on.

    Where columns name the files of the channels, their paths are the column ``CHANNEL_PATHS``, a tuple a row.

    Raises:
        InputError: when the table cannot be read, lacks a column, or the settings do not fit it.
    """
    table = _load(source)
    if table.empty:
        raise InputError(f"{source}: a table without rows; give one with a row for each image")
    table = _renamed(table, source, settings)
    if settings.path_template is not None:
        table["path"] = _paths(table, source, settings.path_template, option="--path-template ")
    if settings.channels and (channels := ChannelPatterns.of(settings)).by_columns:
        table = _with_channel_paths(table, source, channels)
    missing = [name for name in ("path", *needs) if name not in table.columns]
    if missing:
        raise InputError(
            f"{source}: no column {', '.join(missing)}; it has {', '.join(table.columns)} "
            "(name it with --column path=..., or give --path-template)"
        )
    if reserved := [name for name in _RESERVED if name in table.columns]:
        raise InputError(f"{source}: the column {reserved[0]!r} is made by packing; rename it with --column")
    empty = [row for row, missing in enumerate(table["path"].isna(), start=1) if missing]
    if empty:
        raise InputError(f"{source}: {len(empty)} rows without a path, the first is row {empty[0]}; fill or drop them")
    if settings.agree is None:
        return _typed(table), 0
    experts = [name for name in table.columns if fnmatchcase(name, settings.experts)]
    kept = agreed(table, experts, settings.agree, where=str(source), pattern=settings.experts)
    return _typed(kept), len(table) - len(kept)


def _load(source: Path) -> pd.DataFrame:
    try:
        if source.suffix.lower() == ".parquet":
            table = pd.read_parquet(source)
        else:
            separator = "\t" if source.suffix.lower() == ".tsv" else ","
            # A class may be called NA, so only an empty field is an unknown.
            table = pd.read_csv(
                source, sep=separator, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig"
            )
    except UnicodeDecodeError:
        raise InputError(f"{source}: is no UTF-8 text; save the table as CSV in UTF-8") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: cannot be read as a table ({str(error).splitlines()[0]})") from None
    if len(table.columns) == 1 and ";" in str(table.columns[0]):
        raise InputError(f"{source}: its columns are parted by semicolons; save it with commas, or with tabs as .tsv")
    return table.rename(columns=str)


def _renamed(table: pd.DataFrame, source: Path, settings: PackSettings) -> pd.DataFrame:
    for old, new in settings.renames.items():
        if old not in table.columns:
            raise InputError(f"{source}: --column {new}={old}: no column {old!r}; it has {', '.join(table.columns)}")
        if new in table.columns and new not in settings.renames:
            raise InputError(f"{source}: --column {new}={old}: there is a column {new!r} already; rename that one too")
    return table.rename(columns=settings.renames)


def _with_channel_paths(table: pd.DataFrame, source: Path, channels: ChannelPatterns) -> pd.DataFrame:
    """The table with the paths of each row's channels; the first stands for the image where no path does."""
    named = [
        _paths(table, source, template, option=f"--channels {name}=")
        for name, template in zip(channels.names, channels.patterns, strict=True)
    ]
    table = table if "path" in table.columns else table.assign(path=named[0])
    table[CHANNEL_PATHS] = pd.Series(list(zip(*named, strict=True)), index=table.index, dtype=object)
    return table


def _paths(table: pd.DataFrame, source: Path, template: str, *, option: str) -> list[str]:
    """The path of each row, from its columns after they were renamed."""
    fill = Template()
    try:
        rows = ({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
        return [fill.vformat(template, (), row) for row in rows]
    except KeyError as error:
        raise InputError(
            f"{source}: {option}{template}: no column {error.args[0]!r}; it has {', '.join(table.columns)}"
        ) from None
    except ValueError as error:
        raise InputError(f"{source}: {option}{template}: {error}") from None


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Columns that pass through become numbers where every value is one and nothing is lost by it."""
    table = table.copy()
    for name in table.columns:
        if name in _TEXT_COLUMNS:
            table[name] = table[name].map(_text)
        elif name == CHANNEL_PATHS:
            continue
        elif table[name].dtype == object or pd.api.types.is_string_dtype(table[name]):
            table[name] = _number_like(table[name])
    return table


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _number_like(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    known = column.dropna().astype(str)
    codes = known.str.match(r"[+-]?0\d").any()
    if known.empty or codes or numbers[known.index].isna().any():
        return column
    return numbers
