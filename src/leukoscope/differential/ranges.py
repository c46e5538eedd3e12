import csv
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from leukoscope.common.errors import InputError
from leukoscope.differential.leukocytes import kind_of

Unit = Literal["percent", "absolute"]


class Told(NamedTuple):
    """Which share of a class's row in ``differential.json`` a unit is of, and how many units are 1 of it."""

    key: Literal["leukocytes", "absolute"]
    scale: float


UNITS: dict[Unit, Told] = {"percent": Told("leukocytes", 100.0), "absolute": Told("absolute", 1.0)}
_COLUMNS = ("class", "low", "high", "unit")


class Range(NamedTuple):
    """A reference range: in per cent of the leukocytes, or in 10^9/L."""

    low: float
    high: float

    def flag(self, value: float) -> str | None:
        """``low`` or ``high`` where ``value`` lies outside."""
        return "low" if value < self.low else "high" if value > self.high else None


class ReferenceRanges:
    """A laboratory's reference ranges by class and unit."""

    def __init__(self, ranges: dict[tuple[str, Unit], Range]) -> None:
        self._ranges = ranges

    @classmethod
    def read(cls, path: Path | None = None) -> "ReferenceRanges":
        """Read a CSV of ``class,low,high,unit``; None takes the table that comes with Leukoscope.

        That table is of adults: percentages are those of one laboratory's manual differential (ARUP, test 0040005, 15
        years and over), absolute ones Henry's Clinical Diagnosis and Management by Laboratory Methods, 22nd edition, as
        another laboratory prints them (Labcorp). Every laboratory has its own, and should give them.

        Raises:
            InputError: when the file cannot be read, lacks a column, or a row is no range.
        """
        if path is None:
            text = resources.files("leukoscope.differential").joinpath("ranges.csv").read_text(encoding="utf-8")
        else:
            try:
                text = path.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path}: cannot be read as reference ranges ({error})") from None
        rows = csv.DictReader(text.splitlines())
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{path}: reference ranges need the columns class, low, high, unit; no {missing[0]}")
        ranges: dict[tuple[str, Unit], Range] = {}
        for line, row in enumerate(rows, start=2):
            (kind, unit), limits = _range(row, line, path)
            if (kind, unit) in ranges:
                raise InputError(f"{path}: line {line}: a second range ({unit}) for {kind}; keep one")
            ranges[kind, unit] = limits
        return cls(ranges)

    @property
    def table(self) -> dict[str, tuple[float, float]]:
        """Low and high of every range, by the kind and its unit."""
        return {f"{name} {unit}": (limits.low, limits.high) for (name, unit), limits in self._ranges.items()}

    @property
    def names(self) -> set[str]:
        """The kinds that have a range, by the name of the kind where it is known, else as they were written."""
        return {name for name, _ in self._ranges}

    def of(self, label: str, unit: Unit) -> Range | None:
        """The range of a class, which goes by any name of the kind of cell it means."""
        kind = kind_of(label)
        return self._ranges.get((kind.name if kind else label, unit))

    def of_class(self, label: str) -> dict[Unit, Range]:
        """The ranges of a class by unit, those that it has."""
        found = ((unit, self.of(label, unit)) for unit in UNITS)
        return {unit: limits for unit, limits in found if limits is not None}


def flags(row: Mapping[str, Any], ranges: Mapping[Unit, Range]) -> list[dict[str, Any]]:
    """Where a class lies outside its reference ranges; ``certain`` where all of its interval does.

    Args:
        row: of the class: ``leukocytes``, its share of them, and ``absolute``, its number, each with ``value``, ``low``
            and ``high``, or None.
        ranges: of the class, by unit.
    """
    found = []
    for unit, limits in ranges.items():
        told = UNITS[unit]
        share = row[told.key]
        flag = limits.flag(share["value"] * told.scale) if share else None
        if share and flag:
            far_end = share["high"] if flag == "low" else share["low"]
            certain = limits.flag(far_end * told.scale) == flag
            found.append({"unit": unit, "flag": flag, "certain": certain, "range": list(limits)})
    return found


def _range(row: dict[str, str], line: int, path: Path | None) -> tuple[tuple[str, Unit], Range]:
    where = f"{path}: line {line}"
    try:
        low, high = float(row["low"]), float(row["high"])
    except (TypeError, ValueError):
        raise InputError(f"{where}: low and high are to be numbers, not {row['low']!r} and {row['high']!r}") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"{where}: low and high are to be finite; write a number above all that occur")
    if not low <= high:
        raise InputError(f"{where}: low ({low:g}) lies above high ({high:g})")
    for unit in UNITS:
        if row["unit"] == unit:
            kind = kind_of(row["class"])
            return (kind.name if kind else row["class"], unit), Range(low, high)
    raise InputError(f"{where}: unit {row['unit']!r}; give percent (of the leukocytes) or absolute (10^9/L)")
