import math

import numpy as np
import pandas as pd
from scipy.stats import binom

from leukoscope.common.runs import log
from leukoscope.differential.quality import JUDGED, LOW, QualityLimits, badness, reasons

_FOLDS = 5
_HARDLY_CHANCE = 0.01
_ROUNDING = 1e-9


def learn_quality(
    measures: pd.DataFrame, classes: np.ndarray | None = None, *, false_alarm: float = 0.01
) -> QualityLimits:
    """Limits beyond which at most about ``false_alarm`` of cells like these lie, all measures together, in every class.

    Limits start at the worst cell of each measure and move inwards by one cell a measure in turn, as long as no more
    than ``false_alarm (n + 1)`` of the n cells are at or beyond any, and no more than that of the n cells of each
    class. Cells at a limit are counted, as each would be beyond it if it were new. For one measure and class this is
    the conformal rank ``ceil((n + 1) (1 - false_alarm))`` (Vovk et al. 2005, Algorithmic Learning in a Random World,
    chapter 2, and chapter 4 for classes apart), for measures that never agree Bonferroni's; where they agree, limits
    are tighter than his. The turns are taken on the cells themselves, so that more of a class may be lost than counted:
    five-fold cross-validation tells how many, and that many fewer are allowed. The rate is kept nearly, not by a
    theorem: see docs/differential.md.

    No limit lies beyond the worst cell. A class of few cells that holds the worst of several measures therefore loses
    more than the rate: ``lost`` says how much, and a warning names it where that is hardly chance.

    Args:
        measures: one row a cell that is fit to be counted; NaN where a measure cannot be told.
        classes: the class of each cell ``(n,)`` str objects; None takes all as of one.
        false_alarm: the share of good cells of a class that may be set aside, on average over draws of training cells.

    Returns:
        Limits; none of them, with a warning, where the cells are too few for the rate.
    """
    values, n = badness(measures), len(measures)
    names, of_class = np.unique(np.full(n, "") if classes is None else classes.astype(str), return_inverse=True)
    fewer = np.zeros(len(names))
    if len(names) > 1 and (lost := _lost(values, of_class, false_alarm, fewer)) is not None:
        fewer = np.maximum(0, lost - false_alarm * np.bincount(of_class))
    columns, spent = _moved_inwards(values, of_class, false_alarm, fewer)
    if spent.left < 0:
        log.warning(
            "%d cells are too few to set aside no more than %.3g %% of good ones by mistake: no quality limits; label "
            "more, or allow %.2g %% (--false-alarm)",
            n, 100 * false_alarm, 100 * (int(spent.taken.sum()) + 1) / (n + 1),
        )  # fmt: skip
        return QualityLimits(limits={}, false_alarm=false_alarm, cells=n, alarms=0.0)
    limits = {
        name: float(-column.limit if name in LOW else column.limit)
        for name, column in zip(JUDGED, columns, strict=True)
        if n and np.isfinite(column.limit)
    }
    told: dict[str, float] = {}
    if len(names) > 1 and (lost := _lost(values, of_class, false_alarm, fewer)) is not None:
        told = _told(names, lost, np.bincount(of_class), false_alarm)
    found = QualityLimits(limits=limits, false_alarm=false_alarm, cells=n, alarms=0.0, lost=told)
    return found.model_copy(update={"alarms": float((reasons(measures, found) != "").mean()) if n else 0.0})


def _moved_inwards(
    values: np.ndarray, of_class: np.ndarray, rate: float, fewer: np.ndarray
) -> tuple[list["_Inwards"], "_Spent"]:
    """Limits of ``(n, k)`` as far in as they may be, with so many ``fewer`` cells ``(K,)`` beyond than the rate."""
    columns, spent = [_Inwards(column) for column in values.T], _Spent(of_class, rate, fewer)
    for column in columns:
        spent.take(column.counted())
    moving = columns if spent.left >= 0 else []
    while moving:
        moving = [column for column in moving if column.moved(spent)]
    return columns, spent


def _lost(values: np.ndarray, of_class: np.ndarray, rate: float, fewer: np.ndarray) -> np.ndarray | None:
    """How many of each class ``(K,)`` are beyond limits that other cells taught, in five folds; None if too few."""
    lost, fold = np.zeros(len(fewer)), np.random.default_rng(0).permutation(len(values)) % _FOLDS
    for held_out in (fold == each for each in range(_FOLDS)):
        columns, spent = _moved_inwards(values[~held_out], of_class[~held_out], rate, fewer * (1 - 1 / _FOLDS))
        if spent.left < 0:
            return None
        limits = np.array([column.limit for column in columns])
        beyond = np.any(values[held_out] > limits, axis=1)
        lost += np.bincount(of_class[held_out][beyond], minlength=len(fewer))
    return lost


def _told(names: np.ndarray, lost: np.ndarray, sizes: np.ndarray, rate: float) -> dict[str, float]:
    """The share of each class that is lost, with a warning of those that lose more than ``rate`` but for chance."""
    shares = {str(name): float(share) for name, share in zip(names, lost / sizes, strict=True)}
    over = np.asarray(binom.sf(lost - 1, sizes, rate)) < _HARDLY_CHANCE
    if over.any():
        log.warning(
            "more than %.3g %% of good cells are set aside by mistake in some classes: %s; label more of them",
            100 * rate, ", ".join(f"{name} {100 * shares[str(name)]:.2g} %" for name in names[over]),
        )  # fmt: skip
    return shares


class _Spent:
    """Cells that are at or beyond a limit: how many more there may be, in all and of each class ``(n,)``."""

    def __init__(self, of_class: np.ndarray, rate: float, fewer: np.ndarray) -> None:
        self.of_class, self.taken = of_class, np.zeros(len(of_class), bool)
        self.left = math.floor(rate * (len(of_class) + 1) + _ROUNDING)
        sizes = np.bincount(of_class, minlength=len(fewer))
        self.left_of_each = np.floor(rate * (sizes + 1) - fewer + _ROUNDING).astype(np.int64)

    def take(self, cells: np.ndarray) -> None:
        """Take these cells, whether there is room for them or not."""
        new, of_each = self._new(cells)
        self.taken[new] = True
        self.left -= len(new)
        self.left_of_each -= of_each

    def has_room(self, cells: np.ndarray) -> bool:
        """Whether these cells may be taken; those that are already need none."""
        new, of_each = self._new(cells)
        return len(new) <= self.left and not ((of_each > 0) & (of_each > self.left_of_each)).any()

    def _new(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        new = cells[~self.taken[cells]]
        return new, np.bincount(self.of_class[new], minlength=len(self.left_of_each))


class _Inwards:
    """A limit that moves from the worst value ``(n,)`` to the next ones."""

    def __init__(self, values: np.ndarray) -> None:
        self.order = np.argsort(-values, kind="stable")
        self.values, counts = np.unique(-values, return_counts=True)
        self.ends = np.concatenate([[0], np.cumsum(counts)])
        self.at = 0

    @property
    def limit(self) -> float:
        """The value that a cell may have and not go beyond."""
        return -float(self.values[self.at])

    def counted(self) -> np.ndarray:
        """Cells that would be beyond the limit if they were new: a value that several share stays one without each."""
        if not len(self.order):
            return self.order
        start, end = self.ends[self.at], self.ends[self.at + 1]
        return self.order[: end if end - start == 1 and np.isfinite(self.limit) else start]

    def moved(self, spent: _Spent) -> bool:
        """Move on by one value and take its cells; stay, and say so, where there is no room for them."""
        if self.at + 2 >= len(self.ends):
            return False
        before = len(self.counted())
        self.at += 1
        new = self.counted()[before:]
        if not spent.has_room(new):
            self.at -= 1
            return False
        spent.take(new)
        return True
