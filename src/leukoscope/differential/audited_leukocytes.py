"""The audited count as laboratories report it: of the leukocytes alone, and nucleated red cells beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leukoscope.differential.audited import FEWEST, PRIOR_CELLS, Z95, Interval, fewest_more
from leukoscope.differential.leukocytes import kind_of


@dataclass(frozen=True)
class AuditedShare:
    """A share that an audit proves, None where there is nothing that it could be a share of.

    ``composition`` and ``patient`` are as in :class:`~leukoscope.differential.audited.AuditedClass`: 95 % intervals for
    the cells that were imaged and for the patient's, None below :data:`~leukoscope.differential.audited.FEWEST` audit
    cells. ``of`` is ``leukocytes``, or ``per leukocyte`` for what is counted beside them, a ratio that may exceed 1.
    """

    of: str
    proportion: float | None
    composition: Interval | None
    patient: Interval | None


def audited_leukocytes(
    said: np.ndarray,
    truth: np.ndarray,
    audit: np.ndarray,
    classes: Sequence[str],
    is_leukocyte: Sequence[bool],
) -> list[AuditedShare | None]:
    r"""Shares of the leukocytes by the audit of :func:`~leukoscope.differential.audited.audited_count`.

    A share of the leukocytes is a ratio of two numbers that the audit estimates together, :math:`T_k / T_L`. For each
    value :math:`\theta` the cells' :math:`1[y = k] - \theta 1[y \in L]` sum to nothing where it is the right one, and
    prediction-powered inference of that sum holds as for a share of all cells; the interval is of the values that it
    does not refuse (Fieller 1954, doi:10.1111/j.2517-6161.1954.tb00159.x). One error of each direction is added as
    there (Bonett and Price 2012), and where every cell is a leukocyte the two counts are the same.

    Args:
        said: how probably each counted cell is of each class ``(n, K)``, as there.
        truth: the class index a person gave ``(n,)``; -1 where nobody did, and K where it is none of them.
        audit: whether the cell was drawn for the audit ``(n,)`` bool.
        classes: names of the K classes.
        is_leukocyte: which of them are leukocytes.

    Returns:
        For each class its share; for a class that is none of the leukocytes and yet reported by them, which nucleated
        red cells are, its number per leukocyte; None for every other.
    """
    counted = _Counted.of(said, truth, audit)
    leukocytes = np.array(is_leukocyte, dtype=bool)
    found: list[AuditedShare | None] = []
    for k, name in enumerate(classes):
        if leukocytes[k]:
            found.append(AuditedShare("leukocytes", *_share(counted, k, leukocytes)))
        elif (kind := kind_of(name)) is not None and kind.loinc is not None:
            found.append(_per_leukocyte(counted, k, leukocytes))
        else:
            found.append(None)
    return found


def half_width(shares: Sequence[AuditedShare | None]) -> float:
    """Of the widest interval for the composition of the leukocytes; 1 while one has none, 0 where there are none."""
    reported = [each for each in shares if each and each.of == "leukocytes" and each.proportion is not None]
    return max((each.composition.half_width if each.composition else 1.0 for each in reported), default=0.0)


def leukocyte_cells_needed(
    shares: Sequence[AuditedShare | None],
    said: np.ndarray,
    truth: np.ndarray,
    audit: np.ndarray,
    is_leukocyte: Sequence[bool],
    to: float,
) -> int:
    """How many more cells of the audit must be seen until every share of the leukocytes is known to within ``to``.

    As :func:`~leukoscope.differential.audited.cells_needed` it is a forecast. Numbers for each leukocyte take no part.

    Args:
        shares: of the cells as reviewed now, by :func:`audited_leukocytes`.
        said: as there.
        truth: as there.
        audit: as there.
        is_leukocyte: as there.
        to: the half width to reach for every class.
    """
    leukocytes = np.array(is_leukocyte, dtype=bool)
    counted = _Counted.of(said, truth, audit)
    ratios = [_Ratio.of(counted, int(k), leukocytes) for k in np.flatnonzero(leukocytes)]
    ratios = [each for each in ratios if each.proportion is not None]
    m, rest = len(counted.true), counted.rest

    def reached(more: int) -> bool:
        ends = [each.interval(more) for each in ratios]
        return all(each is not None and (each[1] - each[0]) / 2 <= to for each in ends)

    if not ratios or (m >= FEWEST and half_width(shares) <= to):
        return 0
    return fewest_more(reached, m, rest)


@dataclass(frozen=True)
class _Counted:
    """What is known of the cells.

    ``known`` ``(K,)`` people called each class; of the ``rest``, which nobody has seen, ``still`` ``(K,)`` are said to
    be of each. Of the audit's m cells ``true`` ``(m,)`` says what they are and ``said`` ``(m, K)`` what was said.
    ``first`` ``(K, K)`` are products of two classes' errors to expect of a cell before any was seen.
    """

    known: np.ndarray
    rest: int
    still: np.ndarray
    true: np.ndarray
    said: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, said: np.ndarray, truth: np.ndarray, audit: np.ndarray) -> "_Counted":
        seen = truth >= 0
        drawn = audit & seen
        first = np.diag(said.sum(axis=0)) - said.T @ said
        return cls(
            known=np.bincount(truth[seen], minlength=said.shape[1] + 1)[:-1],
            rest=int((~seen).sum()),
            still=(~seen).astype(np.float64) @ said,
            true=truth[drawn],
            said=said[drawn],
            first=first / max(len(said), 1),
        )


@dataclass(frozen=True)
class _Ratio:
    """Class k among some: how many cells of each are known or still said to be, and what the audit found wrong.

    ``missed`` ``(m,)`` is what each audit cell adds to class k beyond what was said; ``all_missed`` to them all.
    ``first`` ``(2, 2)`` are the products of both to expect of a cell before any was seen.
    """

    known: int
    still: float
    all_known: int
    all_still: float
    rest: int
    missed: np.ndarray
    all_missed: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, counted: _Counted, k: int, among: np.ndarray) -> "_Ratio":
        """Of class k among the classes ``among`` ``(K,)`` bool, of which it is one."""
        both = np.stack([np.arange(len(among)) == k, among]).astype(np.float64)
        member = np.append(among, False)
        return cls(
            known=int(counted.known[k]),
            still=float(counted.still[k]),
            all_known=int(counted.known[among].sum()),
            all_still=float(counted.still[among].sum()),
            rest=counted.rest,
            missed=(counted.true == k) - counted.said[:, k],
            all_missed=member[counted.true] - counted.said[:, among].sum(axis=1),
            first=both @ counted.first @ both.T,
        )

    @property
    def bounds(self) -> tuple[float, float]:
        """What people have called is known, whatever the rest may be."""
        whole = self.all_known + self.rest
        return self.known / whole, (self.known + self.rest) / whole

    @property
    def proportion(self) -> float | None:
        """The share; None where there is nothing that it could be a share of."""
        m = max(len(self.missed), 1)
        whole = self.all_known + self.all_still + self.rest * self.all_missed.sum() / m
        part = self.known + self.still + self.rest * self.missed.sum() / m
        return float(np.clip(part / whole, *self.bounds)) if whole > 0 else None

    def interval(self, more: int = 0) -> tuple[float, float, float] | None:
        """The ends for the cells imaged and how many cells all classes then hold; None where any share may be right.

        One error of each direction is added: a cell of the others that was called k, and one of k that was called
        another. With ``more`` audit cells it is a forecast, see :func:`~leukoscope.differential.audited.cells_needed`.
        """
        m = len(self.missed) + 2
        u, v, grown = self.missed, self.all_missed, more / (m - 2 + PRIOR_CELLS)
        squares = np.array([[u @ u, u @ v], [u @ v, v @ v]])
        # At least half an error of each direction in so many cells.
        first = PRIOR_CELLS * self.first + np.diag([max(0.0, 1 - PRIOR_CELLS * self.first[0, 0]), 0.0])
        squares = squares + np.diag([2.0, 0.0]) + grown * (squares + first)
        mean = np.array([u.sum(), v.sum()]) * (1 + grown) / (m + more)
        part = self.known + self.still + self.rest * mean[0]
        whole = float(self.all_known + self.all_still + self.rest * mean[1])
        spread = squares / (m + more) - np.outer(mean, mean)
        ends = _fieller(part, whole, spread, self.rest - more, m + more)
        return (*ends, whole) if ends else None


def _share(counted: _Counted, k: int, among: np.ndarray) -> tuple[float | None, Interval | None, Interval | None]:
    """The share of class k among the classes ``among`` ``(K,)`` bool, of which it is one, and its two intervals."""
    ratio = _Ratio.of(counted, k, among)
    proportion = ratio.proportion
    if proportion is None or (len(ratio.missed) < FEWEST and ratio.rest):
        return proportion, None, None
    found = ratio.interval()
    if found is None:
        return proportion, Interval(*ratio.bounds), Interval(0.0, 1.0)
    *ends, whole = found
    composition = Interval(*(float(np.clip(end, *ratio.bounds)) for end in ends))
    # The leukocytes imaged are a sample of the patient's: two more of each kind, as Agresti and Coull 1998 have it.
    share = float(np.clip((sum(ends) / 2 * whole + 2) / (whole + 4), 0.0, 1.0))
    half = math.hypot((ends[1] - ends[0]) / 2, Z95 * math.sqrt(share * (1 - share) / (whole + 4)))
    return proportion, composition, Interval(max(0.0, share - half), min(1.0, share + half))


def _fieller(part: float, whole: float, spread: np.ndarray, rest: int, m: int) -> tuple[float, float] | None:
    """The ratios that part and whole, of m audit cells carried to ``rest``, do not refuse; None where any may be."""
    if rest == 0:
        return part / whole, part / whole
    error = Z95**2 * rest**2 * (1 / m + 1 / rest)
    a = whole**2 - error * spread[1, 1]
    b = part * whole - error * spread[0, 1]
    c = part**2 - error * spread[0, 0]
    if whole <= 0 or a <= 0:
        return None
    root = math.sqrt(max(0.0, b**2 - a * c))
    return (b - root) / a, (b + root) / a


def _per_leukocyte(counted: _Counted, k: int, leukocytes: np.ndarray) -> AuditedShare:
    """Cells of class k for each leukocyte: the odds of its share among both."""
    both = leukocytes.copy()
    both[k] = True
    proportion, *intervals = _share(counted, k, both)
    # Where no leukocyte is proved to be there, no number for each is an upper end.
    odds = [None if each is None or each.high >= 1 else Interval(*map(_odds, each)) for each in intervals]
    return AuditedShare("per leukocyte", None if proportion in (None, 1.0) else _odds(float(proportion)), *odds)


def _odds(share: float) -> float:
    return share / (1 - share)
