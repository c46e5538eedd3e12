"""The count that holds whatever the classifier does: predictions, rectified by cells that a person saw at random."""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

FEWEST = 20
"""Audit cells below which no interval is given."""

Z95 = float(norm.ppf(0.975))  # half of a 95 % interval, in standard errors


class Interval(NamedTuple):
    """A 95 % interval of a proportion."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class AuditedClass:
    """One class of an audited count; ``composition`` and ``patient`` are None below :data:`FEWEST` audit cells.

    ``composition`` is the interval for the share among the cells that were imaged, ``patient`` for the share in the
    patient's blood, of which the imaged cells are a sample; ``confirmed`` counts the cells a person called this class.
    """

    proportion: float
    composition: Interval | None
    patient: Interval | None
    confirmed: int


@dataclass(frozen=True)
class AuditedCount:
    """What a review proves of a sample: see :func:`audited_count`."""

    classes: tuple[AuditedClass, ...]
    n: int
    reviewed: int
    audited: int

    @property
    def half_width(self) -> float:
        """Of the widest interval for the composition; 1 while there is none."""
        return max((each.composition.half_width if each.composition else 1.0 for each in self.classes), default=1.0)


def audited_count(predicted: np.ndarray, truth: np.ndarray, audit: np.ndarray, n_classes: int) -> AuditedCount:
    r"""Proportions of a sample by prediction-powered inference, from an audit drawn at random.

    Cells that a person looked at for any other reason, before the audit began, are counted as that person called them.
    (Those looked at later must be left out here until the audit comes to them: a rest from which doubtful cells were
    taken while they stay in the audit is not what the audit is a sample of.) For the others, m of whose N were drawn at
    random and seen, the share of class k is what the classifier says of all of them, rectified by how much it was wrong
    on those seen (Angelopoulos et al. 2023, doi:10.1126/science.adi6000, equation for a mean):

    .. math:: \frac1N \sum_{i \le N} 1[f_i = k] + \frac1m \sum_{j \le m} (1[y_j = k] - 1[f_j = k])

    The rectifier is a difference of paired proportions. Its interval is that of Bonett and Price 2012
    (doi:10.3102/1076998611411915), which adds one error of each direction: the normal one has no width while no error
    was seen. It is carried to the cells not seen, which are a finite number, so that the interval for the composition
    closes when all were seen. Nothing is assumed of the classifier; all rests on the audit's being random.

    Args:
        predicted: the class index that each counted cell was called ``(n,)``.
        truth: the class index a person gave ``(n,)``; -1 where nobody did, and n_classes where it is none of them.
        audit: whether the cell was drawn for the audit ``(n,)`` bool, whatever it looks like. Those not seen yet take
            part as if they had not been drawn, which is right when they are seen in the order they were drawn in.
        n_classes: K.
    """
    seen, drawn = truth >= 0, audit & (truth >= 0)
    m = int(drawn.sum())
    classes = tuple(_class_of(predicted == k, truth == k, seen, drawn) for k in range(n_classes))
    return AuditedCount(classes, n=len(predicted), reviewed=int(seen.sum()), audited=m)


def cells_needed(count: AuditedCount, predicted: np.ndarray, truth: np.ndarray, audit: np.ndarray, to: float) -> int:
    """How many more cells of the audit must be seen until the composition is known to within ``to`` (0.02: +-2 points).

    It expects errors to come as often as so far, and at first as often as half an error of each direction in 25 cells.
    It is a forecast: the count tells when it is reached.

    Args:
        count: of the cells as reviewed now.
        predicted: as in :func:`audited_count`.
        truth: as there.
        audit: as there.
        to: the half width to reach for every class.
    """
    if count.audited >= FEWEST and count.half_width <= to:
        return 0
    seen, drawn = truth >= 0, audit & (truth >= 0)
    errors = [_errors(predicted == k, truth == k, drawn) for k in range(len(count.classes))]
    m, n, rest = count.audited, count.n, int((~seen).sum())

    def reached(more: int) -> bool:
        grown = [[each + more * (each + 0.5) / (m + 25) for each in pair] for pair in errors]
        return all(_half_width(missed, wrongly, m + more, rest - more, n) <= to for missed, wrongly in grown)

    return fewest_more(reached, m, rest)


def fewest_more(reached: Callable[[int], bool], audited: int, rest: int) -> int:
    """The fewest cells to see beside the ``audited`` until the count is ``reached``, at most all of the ``rest``."""
    low = max(1, FEWEST - audited)
    return min(low + bisect_left(range(low, rest), True, key=reached), rest)


def _class_of(called: np.ndarray, true: np.ndarray, seen: np.ndarray, drawn: np.ndarray) -> AuditedClass:
    n, m, rest = len(called), int(drawn.sum()), int((~seen).sum())
    confirmed, still_called = int((true & seen).sum()), int((called & ~seen).sum())
    missed, wrongly = _errors(called, true, drawn)
    rectifier = (missed - wrongly) / m if m else 0.0
    # What people have called is known, whatever the rest may be.
    bounds = confirmed / n, 1 - (int(seen.sum()) - confirmed) / n
    proportion = float(np.clip((confirmed + still_called + rest * rectifier) / n, *bounds))
    if m < FEWEST and rest:
        return AuditedClass(proportion, None, None, confirmed)
    # One error more of each direction: of Bonett and Price.
    centre = (confirmed + still_called + rest * (missed - wrongly) / (m + 2)) / n
    half = _half_width(missed, wrongly, m, rest, n)
    composition = Interval(*(float(np.clip(centre + sign * half, *bounds)) for sign in (-1, 1)))
    # The cells imaged are a sample of the patient's: two more of each kind, as Agresti and Coull 1998 have it.
    share = float(np.clip((centre * n + 2) / (n + 4), 0.0, 1.0))
    whole = math.hypot(half, Z95 * math.sqrt(share * (1 - share) / (n + 4)))
    patient = Interval(max(0.0, share - whole), min(1.0, share + whole))
    return AuditedClass(proportion, composition, patient, confirmed)


def _errors(called: np.ndarray, true: np.ndarray, drawn: np.ndarray) -> tuple[int, int]:
    """Audit cells of the class that were called another, and of others that were called the class."""
    return int((drawn & true & ~called).sum()), int((drawn & ~true & called).sum())


def _half_width(missed: float, wrongly: float, m: int, rest: int, n: int) -> float:
    """Of the interval for the composition of n cells, ``rest`` of which nobody has seen."""
    if rest <= 0:
        return 0.0
    more, less = (missed + 1) / (m + 2), (wrongly + 1) / (m + 2)
    spread = more + less - (more - less) ** 2
    return rest / n * Z95 * math.sqrt(spread / (m + 2) + spread / rest)
