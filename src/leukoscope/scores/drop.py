from collections.abc import Mapping
from typing import Any

import pandas as pd

from leukoscope.scores.summary import summarise

METRICS = ("log_loss", "accuracy", "balanced_accuracy", "f1_macro")


def part_scores(
    parts: Mapping[str, pd.DataFrame],
    *,
    groups: Mapping[str, str] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Loss and accuracies of one network on several parts of the cells: ``n``, and METRIC with ``value, low, high``.

    Args:
        parts: by name, the predictions of one encoder and head.
        groups: the group (patient, slide) of each ``cell_id``, which is then resampled instead of cells; else None.
        n_bootstrap: how many resamples the 95 % intervals rest on.
        seed: of the resamples.

    Raises:
        InputError: when the predictions are not valid.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, table in parts.items():
        summary = summarise(table, groups=groups, n_bootstrap=n_bootstrap, seed=seed)
        ((heads,),) = (list(encoder.values()) for encoder in summary.scores.values())
        scores = {metric: heads[metric] for metric in METRICS}
        values = {metric: {"value": s["mean"], "low": s["low"], "high": s["high"]} for metric, s in scores.items()}
        found[name] = {"n": len(table), **values}
    return found


def drop(
    parts: Mapping[str, Mapping[str, Any]], before: str, after: str = "test"
) -> dict[str, dict[str, float | None]]:
    """How far each metric moves from the part ``before`` to the part ``after``, of :func:`part_scores`.

    ``difference`` is after minus before: below zero where an accuracy drops, above where the loss rises. ``relative``
    is the difference by the value before, as hairy-cells-supcon reports its drops: from 0.9057 to 0.8821 is "2.6%"
    (section 6.2, table 5.1). None where it is not defined.
    """
    found = {}
    for metric in METRICS:
        old, new = parts[before][metric]["value"], parts[after][metric]["value"]
        known = old is not None and new is not None
        difference = new - old if known else None
        relative = difference / old if known and old else None
        found[metric] = {"difference": difference, "relative": relative}
    return found
