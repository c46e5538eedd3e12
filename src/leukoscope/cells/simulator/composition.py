import math
import re
from dataclasses import dataclass, fields

from leukoscope.cells.simulator.kinds import KINDS, Kind
from leukoscope.common.errors import InputError

# Relative differential counts of adults in per cent: the reference ranges that haematology textbooks print.
# Laboratories differ by a few per cent.
REFERENCE_RANGES: dict[str, tuple[float, float]] = {
    "NEU": (40.0, 75.0),
    "LYM": (20.0, 45.0),
    "MON": (2.0, 10.0),
    "EOS": (1.0, 6.0),
    "BAS": (0.0, 1.0),
}

# What a type of patient changes. The cell lines stand in for blasts, as in the paper's third task: Jurkat for
# lymphoblasts, HL60 for promyelocytes, K562 for the blasts of chronic myeloid leukaemia. These ranges are typical
# magnitudes, not epidemiology.
PATIENT_TYPES: dict[str, dict[str, tuple[float, float]]] = {
    "healthy": {},
    "left_shift": {"NEU": (72.0, 88.0), "LYM": (6.0, 18.0), "HL60": (1.0, 6.0)},
    "eosinophilia": {"EOS": (12.0, 40.0)},
    "basophilia": {"BAS": (3.0, 12.0), "NEU": (55.0, 75.0)},
    "lymphocytosis": {"LYM": (55.0, 85.0), "NEU": (12.0, 35.0)},
    "monocytosis": {"MON": (12.0, 30.0)},
    "neutropenia": {"NEU": (5.0, 25.0), "LYM": (50.0, 75.0), "MON": (6.0, 18.0)},
    "lymphoblastic_leukaemia": {"Jurkat": (30.0, 85.0), "NEU": (4.0, 30.0), "LYM": (5.0, 35.0)},
    "promyelocytic_leukaemia": {"HL60": (30.0, 85.0), "NEU": (4.0, 30.0), "LYM": (5.0, 35.0)},
    "myeloid_leukaemia": {"K562": (20.0, 60.0), "BAS": (2.0, 8.0), "NEU": (25.0, 50.0), "LYM": (5.0, 25.0)},
}


_CHANGE = re.compile(r"\+(?P<kind>\w+)=(?P<percent>[^+~]+)|~(?P<shifted>\w+)\.(?P<trait>\w+)=(?P<factor>[^+~]+)")
_TRAITS = tuple(field.name for field in fields(Kind) if field.name not in ("name", "spread"))


@dataclass(frozen=True)
class PatientType:
    """What patients of a type have: a composition, kinds added to it, and kinds that look a little different.

    Attributes:
        name: as it was written.
        base: a key of ``PATIENT_TYPES``, or ``mixed``, one of them drawn for each patient.
        added: per cent of all cells, by kind; the rest keep their proportions to each other.
        shifted: factors on the traits of a kind, by kind and trait.
    """

    name: str
    base: str
    added: dict[str, float]
    shifted: dict[str, dict[str, float]]


def parse_composition(text: str) -> PatientType | dict[str, float]:
    """Read ``--composition``: a patient type, or ``NEU=60,LYM=30,...`` in any unit.

    A type is a key of ``PATIENT_TYPES`` or ``mixed``, and what differs from it: ``healthy+HL60=5`` (5 % of the cells
    are HL60), ``healthy~NEU.granules=1.3`` (neutrophils with 1.3 times as many granules), any number of both.

    Raises:
        InputError: when a type, kind or trait is unknown, or an amount is no positive number.
    """
    if "=" not in text or re.match(r"[^=,]*[+~]", text):
        return _parse_type(text)
    amounts: dict[str, float] = {}
    for part in text.split(","):
        kind, _, amount = part.partition("=")
        amounts[_known(kind)] = _positive(amount, f"{part!r} is not KIND=AMOUNT with an amount of at least 0")
    return amounts


def _parse_type(text: str) -> PatientType:
    base = re.split(r"[+~]", text, maxsplit=1)[0]
    if base != "mixed" and base not in PATIENT_TYPES:
        known = ", ".join(PATIENT_TYPES)
        raise InputError(f"--composition: unknown patient type {base!r}; choose mixed, {known}, or NEU=60,LYM=40")
    added: dict[str, float] = {}
    shifted: dict[str, dict[str, float]] = {}
    place = len(base)
    while place < len(text):
        change = _CHANGE.match(text, place)
        if change is None:
            raise InputError(f"--composition: {text[place:]!r} is neither +KIND=PERCENT nor ~KIND.TRAIT=FACTOR")
        place = change.end()
        if change["kind"]:
            added[_known(change["kind"])] = _positive(change["percent"], f"{change[0]!r} is not +KIND=PERCENT")
        else:
            if change["trait"] not in _TRAITS:
                raise InputError(f"--composition: no trait {change['trait']!r}; choose from {', '.join(_TRAITS)}")
            factor = _positive(change["factor"], f"{change[0]!r} is not ~KIND.TRAIT=FACTOR")
            shifted.setdefault(_known(change["shifted"]), {})[change["trait"]] = factor
    if sum(added.values()) > 100:
        raise InputError(f"--composition: {text!r} adds more than 100 per cent")
    return PatientType(text, base, added, shifted)


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise InputError(f"--composition: unknown kind {kind!r}; choose from {', '.join(KINDS)}")
    return kind


def _positive(text: str, message: str) -> float:
    """The number that ``text`` writes.

    Raises:
        InputError: with ``message``, when it is none or below 0.
    """
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not (amount >= 0 and math.isfinite(amount)):
        raise InputError(f"--composition: {message}")
    return amount
