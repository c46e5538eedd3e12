from collections.abc import Mapping

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from leukoscope.common.runs import log
from leukoscope.common.settings import Settings

REASONS = ("empty", "saturated", "out of focus", "cut off", "doublet")
"""Why a cell may be set aside, the most severe first; a cell is given the first that holds."""
_LOW: Mapping[str, str] = {"foreground": "empty", "detail": "out of focus", "sharpness": "out of focus"}
_HIGH: Mapping[str, str] = {
    "saturated": "saturated",
    "white": "saturated",
    "cut": "cut off",
    "aside": "cut off",
    "second": "doublet",
    "beside": "doublet",
}
JUDGED = (*_LOW, *_HIGH)


class QualityLimits(Settings):
    """How far each measure of :func:`~leukoscope.cells.measures.measure` may go before a cell is set aside.

    ``limits`` has an entry for each judged measure: no less than that for ``foreground``, ``detail`` and
    ``sharpness``, no more for the others. It is empty where the cells were too few for any. ``cells`` it was learned
    from, of which ``alarms`` (a share) go beyond a limit.
    """

    limits: dict[str, float]
    false_alarm: float = Field(gt=0, lt=1)
    cells: int
    alarms: float

    @field_validator("limits")
    @classmethod
    def _known(cls, limits: dict[str, float]) -> dict[str, float]:
        strangers = [name for name in limits if name not in JUDGED]
        if strangers:
            raise ValueError(f"no measure {strangers[0]!r}; choose from {', '.join(JUDGED)}")
        return limits


def learn_quality(measures: pd.DataFrame, *, false_alarm: float = 0.01) -> QualityLimits:
    """Limits beyond which about ``false_alarm`` of cells like these lie, all measures together.

    Limits start at the worst cell of each measure and move inwards by one cell a measure in turn, until
    ``false_alarm (n + 1)`` of the n cells are at or beyond any. Cells at a limit are counted, as each would be beyond
    it if it were new. For one measure this is the conformal rank ``ceil((n + 1) (1 - false_alarm))`` (Vovk et al. 2005,
    Algorithmic Learning in a Random World, chapter 2), for measures that never agree Bonferroni's; where they agree,
    limits are tighter than his. The turns are taken on the cells themselves, so the rate is kept nearly, not by a
    theorem: see docs/differential.md.

    Args:
        measures: one row a cell that is fit to be counted; NaN where a measure cannot be told.
        false_alarm: the share of good cells that may be set aside, on average over draws of training cells.

    Returns:
        Limits; none of them, with a warning, where the cells are too few for the rate.
    """
    values = _badness(measures)
    n, left = len(values), int(false_alarm * (len(values) + 1) + 1e-9)
    columns = [_Inwards(column) for column in values.T]
    taken = np.zeros(n, bool)
    for column in columns:
        taken[column.counted()] = True
    if taken.sum() > left:
        log.warning(
            "%d cells are too few to set aside no more than %.3g %% of good ones by mistake: no quality limits; label "
            "more, or allow %.2g %% (--false-alarm)",
            n, 100 * false_alarm, 100 * (int(taken.sum()) + 1) / (n + 1),
        )  # fmt: skip
        return QualityLimits(limits={}, false_alarm=false_alarm, cells=n, alarms=0.0)
    left -= int(taken.sum())
    moving = columns
    while moving:
        moving, tried = [], moving
        for column in tried:
            new = column.moved(taken, left)
            if new is not None:
                left -= new
                moving.append(column)
    limits = {
        name: float(-column.limit if name in _LOW else column.limit)
        for name, column in zip(JUDGED, columns, strict=True)
        if n and np.isfinite(column.limit)
    }
    found = QualityLimits(limits=limits, false_alarm=false_alarm, cells=n, alarms=0.0)
    return found.model_copy(update={"alarms": float((reasons(measures, found) != "").mean()) if n else 0.0})


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

    def moved(self, taken: np.ndarray, most: int) -> int | None:
        """Move on by one value, take its cells, and say how many are new; stay, and say None, if these are too many."""
        if self.at + 2 >= len(self.ends):
            return None
        before = len(self.counted())
        self.at += 1
        new = self.counted()[before:]
        new = new[~taken[new]]
        if len(new) > most:
            self.at -= 1
            return None
        taken[new] = True
        return len(new)


def reasons(measures: pd.DataFrame, limits: QualityLimits) -> np.ndarray:
    """Why each cell is set aside ``(n,)`` str objects: one of :data:`REASONS`, or nothing where it is not.

    A middle without contrast is empty, unless what stands out runs into the border by more than it may: then there is
    a cell, and it is cut off.

    Args:
        measures: one row a cell; what is NaN is beyond no limit.
        limits: as learned from good cells.
    """
    found = np.full(len(measures), "", dtype=object)
    beyond = {name: _beyond(measures[name].to_numpy(), name, limit) for name, limit in limits.limits.items()}
    if "foreground" in beyond and "cut" in beyond:
        beyond["foreground"] &= ~beyond["cut"]
    for reason in reversed(REASONS):
        for name, where in beyond.items():
            if {**_LOW, **_HIGH}[name] == reason:
                found[where] = reason
    return found


def _beyond(values: np.ndarray, name: str, limit: float) -> np.ndarray:
    where: np.ndarray = values < limit if name in _LOW else values > limit
    return where


def _badness(measures: pd.DataFrame) -> np.ndarray:
    """The judged measures ``(n, k)`` float64, high where bad, and least of all where they cannot be told."""
    values = measures[list(JUDGED)].to_numpy(np.float64)
    signs = np.array([-1.0 if name in _LOW else 1.0 for name in JUDGED])
    bad: np.ndarray = np.where(np.isnan(values), -np.inf, values * signs)
    return bad
