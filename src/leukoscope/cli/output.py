import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def say(text: str) -> None:
    """Print one line for a person."""
    print(text, flush=True)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, text: Sequence[str] = ()) -> None:
    """Print a plain aligned table; the first column and those named in ``text`` are set to the left."""
    cells = [list(map(str, columns)), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    left = [number == 0 or name in text for number, name in enumerate(columns)]
    for row in cells:
        placed = (v.ljust(w) if is_text else v.rjust(w) for v, w, is_text in zip(row, widths, left, strict=True))
        print("  ".join(placed).rstrip())
    sys.stdout.flush()


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal, or a dash where it is not defined."""
    return "-" if value is None else f"{100 * value:.1f}"


def interval(low: float | None, high: float | None) -> str:
    """The two ends of an interval of a share, as percentages."""
    return f"[{percent(low)}, {percent(high)}]"


def say_json(wanted: bool, answer: Mapping[str, Any]) -> None:
    """Print ``answer`` as the last line of JSON when ``--json`` was given."""
    if wanted:
        print(json.dumps(answer, ensure_ascii=False), flush=True)
