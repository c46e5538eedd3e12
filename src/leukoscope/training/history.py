import csv
from collections.abc import Mapping
from pathlib import Path

from leukoscope.common.files import whole_file


class History:
    """A CSV that grows by a row at a time and survives a kill: rows at or after ``start`` are cut off on opening.

    Args:
        path: the file; it is made where missing.
        key: the column that counts, such as ``epoch``.
        columns: the other columns; a row may lack some of them.
        start: the first value of ``key`` that is still to be written.
    """

    def __init__(self, path: Path, key: str, columns: tuple[str, ...], start: int) -> None:
        self.path, self.columns = path, (key, *columns)
        kept = [row for row in read_history(path) if int(row[key]) < start] if path.exists() else []
        with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(kept)

    def add(self, row: Mapping[str, float | int | None]) -> None:
        """Append one row."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow({key: _text(value) for key, value in row.items()})


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of a history; a last row that a kill cut short is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and None not in row]


def histories(bundles: Mapping[str, Path]) -> dict[str, Path]:
    """``history.csv`` beside each encoder bundle, by the same names; one that was not trained here has none."""
    beside = {name: bundle.parent / "history.csv" for name, bundle in bundles.items()}
    return {name: path for name, path in beside.items() if path.is_file()}


def _text(value: float | int | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"
