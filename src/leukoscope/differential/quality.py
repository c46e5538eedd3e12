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


def learn_limits(measures: pd.DataFrame, *, false_alarm: float = 0.01) -> QualityLimits:
    """Limits beyond which at most ``false_alarm`` of cells like these lie, all measures together.

    Every measure's limit is its t-th worst value among the n cells, with one t for all: the largest at which no more
    than ``false_alarm (n + 1)`` cells are among the t worst of any measure. For one measure this is the conformal
    rank ``ceil((n + 1) (1 - false_alarm))`` (Vovk et al. 2005, Algorithmic Learning in a Random World, chapter 2), for
    measures that never agree Bonferroni's; where they agree, less is lost than by his. Cells at a limit are
    counted, as a new cell would be beyond it without them.

    Args:
        measures: one row a cell that is fit to be counted; NaN where a measure cannot be told.
        false_alarm: the share of good cells that may be set aside.

    Returns:
        Limits; none of them, with a warning, where the cells are too few for the rate.
    """
    values = _badness(measures)
    n = len(values)
    worst = np.full(n, n + 1)
    for column in values.T:
        # How many are as bad or worse, itself included; what cannot be told is nobody's worst.
        as_bad = n - np.searchsorted(np.sort(column), column, side="left")
        worst = np.minimum(worst, np.where(np.isneginf(column), n + 1, as_bad))
    allowed = int(false_alarm * (n + 1) + 1e-9)
    ordered = np.sort(worst)
    t = min(int(ordered[allowed]) - 1, n) if allowed < n else 0
    if t < 1:
        log.warning(
            "%d cells are too few to set aside no more than %.3g %% of good ones by mistake: no quality limits; label "
            "more, or allow %.2g %% (--false-alarm)",
            n, 100 * false_alarm, 100 * (int((worst <= 1).sum()) + 1) / (n + 1),
        )  # fmt: skip
        return QualityLimits(limits={}, false_alarm=false_alarm, cells=n, alarms=0.0)
    edges = np.sort(values, axis=0)[n - t]
    limits = {
        name: float(-edge if name in _LOW else edge)
        for name, edge in zip(JUDGED, edges, strict=True)
        if np.isfinite(edge)
    }
    found = QualityLimits(limits=limits, false_alarm=false_alarm, cells=n, alarms=0.0)
    return found.model_copy(update={"alarms": float((reasons(measures, found) != "").mean())})


def reasons(measures: pd.DataFrame, limits: QualityLimits) -> np.ndarray:
    """Why each cell is set aside ``(n,)`` str objects: one of :data:`REASONS`, or nothing where it is not.

    Args:
        measures: one row a cell; what is NaN is beyond no limit.
        limits: as learned from good cells.
    """
    found = np.full(len(measures), "", dtype=object)
    beyond = {name: _beyond(measures[name].to_numpy(), name, limit) for name, limit in limits.limits.items()}
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
