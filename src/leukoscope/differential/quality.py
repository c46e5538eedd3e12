from collections.abc import Mapping

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from leukoscope.common.settings import Settings

REASONS = ("empty", "saturated", "out of focus", "cut off", "doublet")
"""Why a cell may be set aside, the most severe first; a cell is given the first that holds."""
LOW: Mapping[str, str] = {"foreground": "empty", "detail": "out of focus", "sharpness": "out of focus"}
_HIGH: Mapping[str, str] = {
    "saturated": "saturated",
    "white": "saturated",
    "cut": "cut off",
    "aside": "cut off",
    "second": "doublet",
    "beside": "doublet",
}
JUDGED = (*LOW, *_HIGH)


class QualityLimits(Settings):
    """How far each measure of :func:`~leukoscope.cells.measures.measure` may go before a cell is set aside.

    ``limits`` has an entry for each judged measure: no less than that for ``foreground``, ``detail`` and
    ``sharpness``, no more for the others. It is empty where the cells were too few for any. ``cells`` it was learned
    from, of which ``alarms`` (a share) go beyond a limit. ``lost`` is the share of each class that limits learned
    from other cells set aside, where there were classes, and cells enough to cross-validate.
    """

    limits: dict[str, float]
    false_alarm: float = Field(gt=0, lt=1)
    cells: int
    alarms: float
    lost: dict[str, float] = Field(default_factory=dict)

    @field_validator("limits")
    @classmethod
    def _known(cls, limits: dict[str, float]) -> dict[str, float]:
        strangers = [name for name in limits if name not in JUDGED]
        if strangers:
            raise ValueError(f"no measure {strangers[0]!r}; choose from {', '.join(JUDGED)}")
        return limits


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
            if {**LOW, **_HIGH}[name] == reason:
                found[where] = reason
    return found


def _beyond(values: np.ndarray, name: str, limit: float) -> np.ndarray:
    where: np.ndarray = values < limit if name in LOW else values > limit
    return where


def badness(measures: pd.DataFrame) -> np.ndarray:
    """The judged measures ``(n, k)`` float64, high where bad, and least of all where they cannot be told."""
    values = measures[list(JUDGED)].to_numpy(np.float64)
    signs = np.array([-1.0 if name in LOW else 1.0 for name in JUDGED])
    bad: np.ndarray = np.where(np.isnan(values), -np.inf, values * signs)
    return bad
