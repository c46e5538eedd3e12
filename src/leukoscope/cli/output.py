import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def say(text: str) -> None:
    """Print one line for a person."""
    print(text, flush=True)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a plain aligned table; the first column is text, the others are set to the right."""
    cells = [list(map(str, columns)), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    for row in cells:
        first, *others = (
            value.ljust(w) if i == 0 else value.rjust(w) for i, (value, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())
    sys.stdout.flush()


def say_json(wanted: bool, answer: Mapping[str, Any]) -> None:
    """Print ``answer`` as the last line of JSON when ``--json`` was given."""
    if wanted:
        print(json.dumps(answer, ensure_ascii=False), flush=True)
