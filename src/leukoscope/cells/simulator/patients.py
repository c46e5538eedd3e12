from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leukoscope.cells.simulator.composition import PATIENT_TYPES, REFERENCE_RANGES, PatientType
from leukoscope.cells.simulator.kinds import KINDS, Kind
from leukoscope.common.errors import InputError


@dataclass(frozen=True)
class Patient:
    """A simulated patient: its type, its kinds as they look in it, and the proportion of each, summing to 1."""

    patient_type: str
    kinds: tuple[Kind, ...]
    proportions: tuple[float, ...]


def draw_patient(
    composition: PatientType | Mapping[str, float], kinds: Sequence[Kind], rng: np.random.Generator
) -> Patient:
    """Draw the true proportions of one patient's ``kinds``, within the ranges of its type, or as given amounts.

    Raises:
        InputError: when the composition holds none of the kinds.
    """
    if isinstance(composition, PatientType):
        mixed = composition.base == "mixed"
        base = str(rng.choice(list(PATIENT_TYPES))) if mixed else composition.base
        name = composition.name.replace("mixed", base, 1) if mixed else composition.name
        amounts = _with_added(_within({**REFERENCE_RANGES, **PATIENT_TYPES[base]}, rng), composition.added)
        kinds = [replace(kind, **_scaled(kind, composition.shifted.get(kind.name, {}))) for kind in kinds]
    else:
        name, amounts = "given", {kind: composition.get(kind, 0.0) for kind in KINDS}
    total = sum(amounts[kind.name] for kind in kinds)
    if not 0 < total < float("inf"):
        names = ", ".join(kind.name for kind in kinds)
        raise InputError(f"--composition: it holds none of {names}; add one of its kinds to --classes")
    return Patient(name, tuple(kinds), tuple(amounts[kind.name] / total for kind in kinds))


def _with_added(amounts: Mapping[str, float], added: Mapping[str, float]) -> dict[str, float]:
    """Per cents with those of ``added`` kinds as given; the others share the rest as before."""
    rest = sum(amount for kind, amount in amounts.items() if kind not in added)
    left = (100 - sum(added.values())) / rest if rest else 0.0
    return {kind: added.get(kind, amount * left) for kind, amount in amounts.items()}


def _scaled(kind: Kind, factors: Mapping[str, float]) -> dict[str, Any]:
    return {trait: getattr(kind, trait) * factor for trait, factor in factors.items()}


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
