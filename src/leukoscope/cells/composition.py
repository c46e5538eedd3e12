import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from leukoscope.common.errors import InputError

Ranges = Mapping[str, tuple[float, float]]
"""Per cents of kinds, lowest and highest."""
MIXED = "mixed"
_CHANGE = re.compile(
    r"\+(?P<kind>[^+~=]+)=(?P<percent>[^+~]+)|~(?P<shifted>[^+~=]+)\.(?P<trait>\w+)=(?P<factor>[^+~]+)"
)


@dataclass(frozen=True)
class PatientType:
    """What patients of a type have: a composition, kinds added to it, and kinds that look a little different.

    Attributes:
        name: as it was written.
        base: a type of :class:`Compositions`, or ``mixed``, one of them drawn for each patient.
        added: per cent of all cells, by kind; the rest keep their proportions to each other.
        shifted: factors on the traits of a kind, by kind and trait.
    """

    name: str
    base: str
    added: dict[str, float]
    shifted: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Compositions:
    """What patients are made of: reference ranges, and by type of patient the ranges that it changes."""

    reference: Ranges
    types: Mapping[str, Ranges]

    def parse(self, text: str, kinds: Collection[str], traits: Collection[str] = ()) -> PatientType:
        """Read a type: ``healthy``, ``healthy+HL60=5`` (5 % of the cells), ``healthy~NEU.granules=1.3`` (times).

        Raises:
            InputError: when the type, a kind or a trait is unknown, or an amount is no positive number.
        """
        base = re.split(r"[+~]", text, maxsplit=1)[0]
        if base != MIXED and base not in self.types:
            known = ", ".join(self.types)
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
                kind = known_kind(change["kind"], kinds)
                added[kind] = positive(change["percent"], f"{change[0]!r} is not +KIND=PERCENT")
            elif change["trait"] in traits:
                kind = known_kind(change["shifted"], kinds)
                factor = positive(change["factor"], f"{change[0]!r} is not ~KIND.TRAIT=FACTOR")
                shifted.setdefault(kind, {})[change["trait"]] = factor
            else:
                known = ", ".join(traits) or "none: only simulated cells have traits"
                raise InputError(f"--composition: no trait {change['trait']!r}; choose from {known}")
        if sum(added.values()) > 100:
            raise InputError(f"--composition: {text!r} adds more than 100 per cent")
        return PatientType(text, base, added, shifted)

    def kinds(self, chosen: PatientType) -> list[str]:
        """The kinds that patients of a type may have."""
        bases = list(self.types) if chosen.base == MIXED else [chosen.base]
        changed = [kind for base in bases for kind in self.types[base]]
        return list(dict.fromkeys([*self.reference, *changed, *chosen.added]))

    def draw(self, chosen: PatientType, rng: np.random.Generator) -> tuple[str, dict[str, float]]:
        """The name of one patient's type and its per cents by kind, drawn within the ranges, which sum to 100."""
        mixed = chosen.base == MIXED
        base = str(rng.choice(list(self.types))) if mixed else chosen.base
        name = chosen.name.replace(MIXED, base, 1) if mixed else chosen.name
        return name, _with_added(_within({**self.reference, **self.types[base]}, rng), chosen.added)


def known_kind(kind: str, kinds: Collection[str]) -> str:
    """``kind``, where it is one of ``kinds``.

    Raises:
        InputError: where it is not.
    """
    if kind not in kinds:
        raise InputError(f"--composition: unknown kind {kind!r}; choose from {', '.join(kinds)}")
    return kind


def positive(text: str, message: str) -> float:
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


def _within(ranges: Ranges, rng: np.random.Generator) -> dict[str, float]:
    """Per cents that sum to 100, each within its range."""
    low, high = np.array(list(ranges.values())).T
    while True:
        drawn = rng.uniform(low, high, (256, len(ranges)))
        drawn *= 100 / drawn.sum(axis=1, keepdims=True)
        fitting = drawn[((low <= drawn) & (drawn <= high)).all(axis=1)]
        if len(fitting):
            return dict(zip(ranges, map(float, fitting[0]), strict=True))


def _with_added(amounts: Mapping[str, float], added: Mapping[str, float]) -> dict[str, float]:
    """Per cents with those of ``added`` kinds as given; the others share the rest as before."""
    rest = sum(amount for kind, amount in amounts.items() if kind not in added)
    left = (100 - sum(added.values())) / rest if rest else 0.0
    return {**{kind: amount * left for kind, amount in amounts.items()}, **added}
