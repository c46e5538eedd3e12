import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class CellKind:
    """A kind of blood cell as laboratories name it; ``loinc`` is the code of its share of the leukocytes, or None."""

    name: str
    is_leukocyte: bool
    loinc: str | None
    display: str | None


def kind_of(label: str) -> CellKind | None:
    """The kind of cell that a class name means, such as ``NEU`` or ``Neutrophils``; None where it is not known.

    Codes are LOINC's of the panel 69738-3 (Differential panel, method unspecified - Blood; loinc.org). They name no
    method: this count is neither an automated counter's nor a person's.
    """
    return _by_word().get(_word(label))


@cache
def _by_word() -> dict[str, CellKind]:
    text = resources.files("leukoscope.differential").joinpath("leukocytes.csv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(text.splitlines()):
        kind = CellKind(row["name"], row["leukocyte"] == "yes", row["loinc"] or None, row["display"] or None)
        for word in (row["name"], *row["synonyms"].split("|")):
            found[_word(word)] = kind
    return found


def _word(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", label.lower()).strip()
