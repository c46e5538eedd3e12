from typing import Any

import numpy as np

from leukoscope.differential.classifier import Classifier
from leukoscope.differential.novelty import SAMPLE_FALSE_ALARM, NoveltyLimits, sample_p


def novelty_of(x: np.ndarray, classifier: Classifier) -> dict[str, np.ndarray]:
    """How unlike all that was learned from cells are, by features ``(n, D)``: columns for ``cells.csv``.

    ``novelty`` and ``mahalanobis`` are distances in units of their limits, NaN where it knows none; ``novel`` says
    whether the first is passed.
    """
    limits, reference = classifier.info.novelty, classifier.reference
    if limits is None or reference is None:
        nothing = np.full(len(x), np.nan)
        return {"novelty": nothing, "mahalanobis": nothing, "novel": np.zeros(len(x), dtype=bool)}
    distance = reference.knn_distance(x) / limits.knn
    mahalanobis = reference.mahalanobis_distance(x) / limits.mahalanobis
    return {"novelty": distance.round(4), "mahalanobis": mahalanobis.round(4), "novel": distance > 1}


def novelty_of_sample(novel: np.ndarray, limits: NoveltyLimits | None) -> dict[str, Any] | None:
    """Whether a sample's counted cells ``(n,)`` bool hold more novel ones than known kinds alone would give."""
    if limits is None:
        return None
    found, n = int(novel.sum()), len(novel)
    p = sample_p(found, n, limits)
    return {"cells": found, "expected": limits.false_alarm * n, "p": p, "flag": p < SAMPLE_FALSE_ALARM}
