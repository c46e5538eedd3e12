from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leukoscope.cells.simulator.kinds import KINDS
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


@dataclass(frozen=True)
class Patient:
    """A simulated patient: its type and the proportion of each kind in its sample, summing to 1."""

    patient_type: str
    proportions: dict[str, float]


def draw_patient(composition: str | Mapping[str, float], kinds: Sequence[str], rng: np.random.Generator) -> Patient:
    """Draw the true proportions of one patient's ``kinds``, within the ranges of its type.

    ``composition`` is a patient type; ``mixed`` for a type drawn at random; or given amounts of kinds.

    Raises:
        InputError: when the composition holds none of the kinds.
    """
    if isinstance(composition, str):
        name = str(rng.choice(list(PATIENT_TYPES))) if composition == "mixed" else composition
        amounts = _within({**REFERENCE_RANGES, **PATIENT_TYPES[name]}, rng)
    else:
        name, amounts = "given", {kind: composition.get(kind, 0.0) for kind in KINDS}
    total = sum(amounts[kind] for kind in kinds)
    if not 0 < total < float("inf"):
        raise InputError(f"--composition: it holds none of {', '.join(kinds)}; add one of its kinds to --classes")
    return Patient(name, {kind: amounts[kind] / total for kind in kinds})


def _within(ranges: Mapping[str, tuple[float, float]], rng: np.random.Generator) -> dict[str, float]:
    """Per cents that sum to 100, each within its range.

    Every kind of the ranges is drawn, so that leaving a class out does not move the others.
    """
    low, high = np.array(list(ranges.values())).T
    while True:
        drawn = rng.uniform(low, high, (256, len(ranges)))
        drawn *= 100 / drawn.sum(axis=1, keepdims=True)
        fitting = drawn[((low <= drawn) & (drawn <= high)).all(axis=1)]
        if len(fitting):
            return {**dict.fromkeys(KINDS, 0.0), **dict(zip(ranges, map(float, fitting[0]), strict=True))}


def parse_composition(text: str) -> str | dict[str, float]:
    """Read ``--composition``: a patient type, ``mixed``, or ``NEU=60,LYM=30,...`` in any unit.

    Raises:
        InputError: when a type or kind is unknown or an amount is no positive number.
    """
    if "=" not in text:
        if text != "mixed" and text not in PATIENT_TYPES:
            known = ", ".join(PATIENT_TYPES)
            raise InputError(f"--composition: unknown patient type {text!r}; choose mixed, {known}, or NEU=60,LYM=40")
        return text
    amounts: dict[str, float] = {}
    for part in text.split(","):
        kind, _, amount = part.partition("=")
        if kind not in KINDS:
            raise InputError(f"--composition: unknown kind {kind!r}; choose from {', '.join(KINDS)}")
        try:
            amounts[kind] = float(amount)
        except ValueError:
            amounts[kind] = -1.0
        if not amounts[kind] >= 0:
            raise InputError(f"--composition: {part!r} is not KIND=AMOUNT with an amount of at least 0")
    return amounts
