from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leukoscope.cells.few import FewLabels, few_labels
from leukoscope.common.runs import log
from leukoscope.encoders.features import Features
from leukoscope.probes.crossval import ProbeSettings, cross_validate

TrainWhole = Callable[[int, pd.DataFrame], Sequence[pd.DataFrame]]
"""``(count, folds)`` to predictions of networks that learn from the images of so many training cells of each fold."""


@dataclass(frozen=True)
class FewLabelRun:
    """What heads fitted on few cells say of the test cells: predictions, and the folds with the cells drawn."""

    predictions: pd.DataFrame
    folds: pd.DataFrame


def try_few_labels(
    features: Mapping[str, Features],
    labels: np.ndarray,
    folds: pd.DataFrame,
    plan: FewLabels,
    *,
    settings: ProbeSettings | None = None,
    seed: int = 0,
    train_whole: TrainWhole | None = None,
) -> dict[int, FewLabelRun]:
    """Fit heads on few training cells of each fold, several draws of each count, and let them predict its test cells.

    All encoders and heads get the same draws. What a head chooses, it chooses inside the cells drawn.

    Args:
        features: by the encoder's name, all of the same cells in one order.
        labels: the class of each cell ``(N,)``.
        folds: ``cell_id, repeat, fold, role`` and perhaps ``group``.
        plan: counts, draws and heads.
        settings: of the heads.
        seed: of the draws and of the heads.
        train_whole: trains whole networks on the same draws.

    Returns:
        By count, from the largest.

    Raises:
        InputError: as :func:`~leukoscope.cells.few.few_labels` and :func:`~leukoscope.probes.crossval.cross_validate`.
    """
    ids = next(iter(features.values())).ids
    names = dict(zip(ids, labels, strict=True))
    every = {
        count: few_labels(folds, names, count, per_class=plan.per_class, draws=plan.draws, seed=seed)
        for count in sorted(plan.counts, reverse=True)
    }
    found = {}
    for count, drawn in every.items():
        log.info("few labels: %d%s", count, " a class" if plan.per_class else "")
        tables = [
            cross_validate(
                each, labels, drawn, heads=plan.heads, encoder=encoder, seeds=(seed,), settings=settings
            ).predictions
            for encoder, each in features.items()
        ]
        tables += train_whole(count, drawn) if train_whole else []
        found[count] = FewLabelRun(pd.concat(tables, ignore_index=True), drawn)
    return found
