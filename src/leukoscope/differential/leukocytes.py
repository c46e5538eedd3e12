import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

from leukoscope.common.errors import InputError

_COLUMNS = ("class", "leukocyte")


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
    return _byas_word().get(as_word(label))


class Leukocytes:
    """Which classes are leukocytes: by what a laboratory says of its own, and else by the kinds of cells known here."""

    def __init__(self, said: dict[str, bool] | None = None) -> None:
        self.said = {as_word(name): is_leukocyte for name, is_leukocyte in (said or {}).items()}

    @classmethod
    def read(cls, path: Path) -> "Leukocytes":
        """Read a CSV of ``class,leukocyte``, the latter yes or no; what it says goes before what is known here.

        Raises:
            InputError: when the file cannot be read, lacks a column, or says neither yes nor no.
        """
        try:
            rows = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as a table of leukocytes ({error})") from None
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{path}: a table of leukocytes needs the columns class, leukocyte; no {missing[0]}")
        said = {}
        for line, row in enumerate(rows, start=2):
            if row["leukocyte"] not in ("yes", "no"):
                raise InputError(f"{path}: line {line}: leukocyte {row['leukocyte']!r}; give yes or no")
            said[row["class"]] = row["leukocyte"] == "yes"
        return cls(said)

    def kind_of(self, label: str) -> CellKind | None:
        """As :func:`kind_of`; a class that only the laboratory knows is a kind of its own, without a code."""
        kind, said = kind_of(label), self.said.get(as_word(label))
        if said is None:
            return kind
        return replace(kind, is_leukocyte=said) if kind else CellKind(label, said, None, None)

    def assumed(self, labels: Iterable[str]) -> list[str]:
        """Those of the classes that nobody said anything of, and that are taken to be leukocytes."""
        return [label for label in labels if self.kind_of(label) is None]


@cache
def _byas_word() -> dict[str, CellKind]:
    text = resources.files("leukoscope.differential").joinpath("leukocytes.csv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(text.splitlines()):
        kind = CellKind(row["name"], row["leukocyte"] == "yes", row["loinc"] or None, row["display"] or None)
        for word in (row["name"], *row["synonyms"].split("|")):
            found[as_word(word)] = kind
    return found


def as_word(label: str) -> str:
    """A class name as names are compared: small letters and digits, all else one space."""
    return re.sub(r"[^a-z0-9]+", " ", label.lower()).strip()
