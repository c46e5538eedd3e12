from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.scores.intervals import interval
from leukoscope.scores.metrics import METRICS
from leukoscope.scores.summary import number_or_none

Replicates = Mapping[tuple[str, str], np.ndarray]
SHOWN = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "roc_auc_macro", "ece")


def drops(known: Replicates, new: Replicates) -> dict[str, dict[str, dict[str, dict[str, float | None]]]]:
    """What is lost between cells of a known kind and new ones: ``known - new`` by encoder, head and metric.

    Both are means over the folds whose heads predicted both; a positive drop of ``ece`` means that calibration is
    better on the new cells. The interval is that of two sets resampled independently of each other, so the
    replicates of the two must be of different seeds.

    Args:
        known: :func:`~leukoscope.scores.summary.replicates` of held-out cells of the set that heads were fitted on.
        new: of the new cells by the same heads; an encoder may occur here alone as ``NAME + REMEDY``.

    Returns:
        ``found[ENCODER][HEAD][METRIC]`` with ``known``, ``new``, ``drop``, ``low`` and ``high`` of the drop.
    """
    found: dict[str, dict[str, dict[str, dict[str, float | None]]]] = {}
    for (encoder, head), values in new.items():
        reference = known[encoder.partition(REMEDIED)[0], head]
        found.setdefault(encoder, {})[head] = {
            name: _drop(reference[:, METRICS.index(name)], values[:, METRICS.index(name)]) for name in SHOWN
        }
    return found


REMEDIED = " + "
"""Between the name of an encoder and what was done about the new cells."""


def drop_table(found: dict[str, dict[str, dict[str, dict[str, float | None]]]]) -> pd.DataFrame:
    """The same as one row for each encoder, head and metric."""
    return pd.DataFrame(
        [
            {"encoder": encoder, "head": head, "metric": metric, **values}
            for encoder, heads in found.items()
            for head, metrics in heads.items()
            for metric, values in metrics.items()
        ]
    )


def _drop(known: np.ndarray, new: np.ndarray) -> dict[str, Any]:
    """Of scores ``(folds, 1 + B)`` of both sets."""
    a, b = np.nanmean(known, axis=0), np.nanmean(new, axis=0)
    low, high = interval(float(a[0] - b[0]), (a - b)[1:])
    values = {"known": a[0], "new": b[0], "drop": a[0] - b[0], "low": low, "high": high}
    return {name: number_or_none(value) for name, value in values.items()}
