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

PRIOR_CELLS = 25
"""Audit cells that a forecast's first guess of the errors is worth."""

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


def audited_count(said: np.ndarray, truth: np.ndarray, audit: np.ndarray) -> AuditedCount:
    r"""Proportions of a sample by prediction-powered inference, from an audit drawn at random.

    Cells that a person looked at for any other reason, before the audit began, are counted as that person called them.
    (Those looked at later must be left out here until the audit comes to them: a rest from which doubtful cells were
    taken while they stay in the audit is not what the audit is a sample of.) For the others, m of whose N were drawn at
    random and seen, the share of class k is what the classifier says of all of them, rectified by how much it was wrong
    on those seen (Angelopoulos et al. 2023, doi:10.1126/science.adi6000, equation for a mean):

    .. math:: \frac1N \sum_{i \le N} f_{ik} + \frac1m \sum_{j \le m} (1[y_j = k] - f_{jk})

    What is said of a cell may be its class alone, 1 and else 0, or probabilities, whose errors are smaller: half a cell
    twice rather than one wholly. Of classes the rectifier is a difference of paired proportions, whose interval is that
    of Bonett and Price 2012 (doi:10.3102/1076998611411915): it adds one error of each direction, as the normal one has
    no width while no error was seen. Of probabilities it is the same, by their sums of squares. It is carried to the
    cells not seen, which are a finite number, so that the interval for the composition closes when all were seen.
    Nothing is assumed of the classifier; all rests on the audit's being random.

    Args:
        said: how probably each counted cell is of each class ``(n, K)``, fixed before anybody looked.
        truth: the class index a person gave ``(n,)``; -1 where nobody did, and K where it is none of them.
        audit: whether the cell was drawn for the audit ``(n,)`` bool, whatever it looks like. Those not seen yet take
            part as if they had not been drawn, which is right when they are seen in the order they were drawn in.
    """
    seen, drawn = truth >= 0, audit & (truth >= 0)
    still = (~seen).astype(np.float64) @ said
    errors = _errors(said, truth, drawn)
    tally = _Tally(n=len(truth), seen=int(seen.sum()), m=int(drawn.sum()))
    confirmed = np.bincount(truth[seen], minlength=said.shape[1] + 1)
    classes = tuple(_class_of(tally, int(confirmed[k]), float(still[k]), each) for k, each in enumerate(errors))
    return AuditedCount(classes, n=tally.n, reviewed=tally.seen, audited=tally.m)


def cells_needed(count: AuditedCount, said: np.ndarray, truth: np.ndarray, audit: np.ndarray, to: float) -> int:
    """How many more cells of the audit must be seen until the composition is known to within ``to`` (0.02: +-2 points).

    It expects errors to come as often as so far, and at first as often as the probabilities themselves say, half an
    error of each direction in 25 cells at least. It is a forecast: the count tells when it is reached.

    Args:
        count: of the cells as reviewed now.
        said: as in :func:`audited_count`.
        truth: as there.
        audit: as there.
        to: the half width to reach for every class.
    """
    if count.audited >= FEWEST and count.half_width <= to:
        return 0
    seen, drawn = truth >= 0, audit & (truth >= 0)
    errors, first = _errors(said, truth, drawn), _errors_at_first(said)
    m, n, rest = count.audited, count.n, int((~seen).sum())

    def reached(more: int) -> bool:
        share = more / (m + PRIOR_CELLS)
        grown = (
            _Errors(each.sum * (1 + share), each.squares + share * (each.squares + PRIOR_CELLS * expected))
            for each, expected in zip(errors, first, strict=True)
        )
        return all(_half_width(each, m + more, rest - more, n) <= to for each in grown)

    return fewest_more(reached, m, rest)


def fewest_more(reached: Callable[[int], bool], audited: int, rest: int) -> int:
    """The fewest cells to see beside the ``audited`` until the count is ``reached``, at most all of the ``rest``."""
    low = max(1, FEWEST - audited)
    return min(low + bisect_left(range(low, rest), True, key=reached), rest)


def _errors_at_first(said: np.ndarray) -> np.ndarray:
    """The squared error ``(K,)`` to expect of a cell before any was seen: what the probabilities say themselves."""
    expected: np.ndarray = np.maximum((said * (1 - said)).mean(axis=0), 1 / PRIOR_CELLS)
    return expected


class _Tally(NamedTuple):
    """How many cells there are, how many people have seen, and how many of these by the audit."""

    n: int
    seen: int
    m: int


class _Errors(NamedTuple):
    """What the audit cells add to a class beyond what was said of them: the sum, and that of the squares."""

    sum: float
    squares: float


def _class_of(tally: _Tally, confirmed: int, still: float, errors: _Errors) -> AuditedClass:
    """A class of which people ``confirmed`` so many cells, and of which those not seen are said to hold ``still``."""
    n, m, rest = tally.n, tally.m, tally.n - tally.seen
    # What people have called is known, whatever the rest may be.
    bounds = confirmed / n, 1 - (tally.seen - confirmed) / n
    rectifier = errors.sum / m if m else 0.0
    proportion = float(np.clip((confirmed + still + rest * rectifier) / n, *bounds))
    if m < FEWEST and rest:
        return AuditedClass(proportion, None, None, confirmed)
    # One error more of each direction: of Bonett and Price.
    centre = (confirmed + still + rest * errors.sum / (m + 2)) / n
    half = _half_width(errors, m, rest, n)
    composition = Interval(*(float(np.clip(centre + sign * half, *bounds)) for sign in (-1, 1)))
    # The cells imaged are a sample of the patient's: two more of each kind, as Agresti and Coull 1998 have it.
    share = float(np.clip((centre * n + 2) / (n + 4), 0.0, 1.0))
    whole = math.hypot(half, Z95 * math.sqrt(share * (1 - share) / (n + 4)))
    patient = Interval(max(0.0, share - whole), min(1.0, share + whole))
    return AuditedClass(proportion, composition, patient, confirmed)


def _errors(said: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> list[_Errors]:
    """Of each class, on the audit cells."""
    wrong = np.eye(said.shape[1] + 1)[truth[drawn], :-1] - said[drawn]
    return [_Errors(float(own.sum()), float(own @ own)) for own in wrong.T]


def _half_width(errors: _Errors, m: int, rest: int, n: int) -> float:
    """Of the interval for the composition of n cells, ``rest`` of which nobody has seen."""
    if rest <= 0:
        return 0.0
    spread = (errors.squares + 2) / (m + 2) - (errors.sum / (m + 2)) ** 2
    return rest / n * Z95 * math.sqrt(spread / (m + 2) + spread / rest)
