from dataclasses import fields

from leukoscope.cells.composition import Compositions, PatientType, known_kind, positive
from leukoscope.cells.simulator.kinds import KINDS, Kind

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
COMPOSITIONS = Compositions(REFERENCE_RANGES, PATIENT_TYPES)
_TRAITS = tuple(field.name for field in fields(Kind) if field.name not in ("name", "spread"))


def parse_composition(text: str) -> PatientType | dict[str, float]:
    """Read ``--composition``: a patient type, or ``NEU=60,LYM=30,...`` in any unit.

    A type is a key of ``PATIENT_TYPES`` or ``mixed``, and what differs from it: see
    :meth:`~leukoscope.cells.composition.Compositions.parse`.

    Raises:
        InputError: when a type, kind or trait is unknown, or an amount is no positive number.
    """
    first = text.partition("=")[0]
    if first == text or "+" in first or "~" in first:
        return COMPOSITIONS.parse(text, KINDS, _TRAITS)
    amounts: dict[str, float] = {}
    for part in text.split(","):
        kind, _, amount = part.partition("=")
        message = f"{part!r} is not KIND=AMOUNT with an amount of at least 0"
        amounts[known_kind(kind, KINDS)] = positive(amount, message)
    return amounts
