from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from leukoscope.scores.intervals import interval
from leukoscope.scores.metrics import METRICS
from leukoscope.scores.summary import replicates

SHOWN = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "roc_auc_macro", "ece")


def drops(
    known: pd.DataFrame,
    new: pd.DataFrame,
    *,
    groups: tuple[Mapping[str, str] | None, Mapping[str, str] | None] = (None, None),
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, dict[str, float | None]]]]:
    """What is lost between cells of a known kind and new ones: ``known - new`` by encoder, head and metric.

    Both are means over the folds whose heads predicted both. The interval resamples the cells (or groups) of the two
    sets independently of each other; a positive drop of ``ece`` means that calibration is better on the new cells.

    Args:
        known: predictions of held-out cells of the set that the heads were fitted on.
        new: predictions of the new cells by the same heads; an encoder may occur here alone as ``NAME + REMEDY``.
        groups: the group of each ``cell_id`` of the known and the new cells, which is then resampled instead of cells.
        n_bootstrap: resamples of the intervals.
        seed: of the resamples.

    Returns:
        ``found[ENCODER][HEAD][METRIC]`` with ``known``, ``new``, ``drop``, ``low`` and ``high`` of the drop.
    """
    a = replicates(known, groups=groups[0], n_bootstrap=n_bootstrap, seed=seed)
    b = replicates(new, groups=groups[1], n_bootstrap=n_bootstrap, seed=seed + 1)
    found: dict[str, dict[str, dict[str, dict[str, float | None]]]] = {}
    for (encoder, head), values in b.items():
        reference = a[encoder.partition(REMEDIED)[0], head]
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
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
