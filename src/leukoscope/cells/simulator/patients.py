from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from leukoscope.cells.composition import PatientType
from leukoscope.cells.simulator.composition import COMPOSITIONS
from leukoscope.cells.simulator.kinds import Kind
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
        name, amounts = COMPOSITIONS.draw(composition, rng)
        kinds = [_scaled(kind, composition.shifted.get(kind.name, {})) for kind in kinds]
    else:
        name, amounts = "given", dict(composition)
    own = [amounts.get(kind.name, 0.0) for kind in kinds]
    total = sum(own)
    if not 0 < total < float("inf"):
        names = ", ".join(kind.name for kind in kinds)
        raise InputError(f"--composition: it holds none of {names}; add one of its kinds to --classes")
    return Patient(name, tuple(kinds), tuple(amount / total for amount in own))


def _scaled(kind: Kind, factors: Mapping[str, float]) -> Kind:
    return replace(kind, **{trait: getattr(kind, trait) * factor for trait, factor in factors.items()})
