from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from leukoscope.scores.summary import Scores

PAPER_METRICS = ("accuracy", "precision_macro", "recall_macro", "f1_macro")
# Networks trained from scratch stand under this encoder name; their head is the network's name.
SUPERVISED = "supervised"
# Encoders that were trained on with their head stand under a name of their own and this head's.
FINETUNED = "finetuned"


def frozen(encoder: str, head: str) -> bool:
    """Whether a head was fitted on the features of an encoder that the fold's labels did not change."""
    return encoder != SUPERVISED and head != FINETUNED


def compare(scores: Scores, folds: pd.DataFrame, metrics: Sequence[str] = PAPER_METRICS) -> list[dict[str, Any]]:
    """Test the differences between heads of one encoder, encoders under one head, both against networks trained whole.

    Two tests stand beside each other: the paired t-test over folds that papers give, and the same with the
    Nadeau-Bengio correction. The first takes folds for independent although they share training cells, and so finds
    too much. ``p_corrected`` is Holm's, over all comparisons of one metric by one test.

    Args:
        scores: of :func:`~leukoscope.scores.summary.summarise`; its ``folds`` are paired.
        folds: ``cell_id, repeat, fold, role``, for the numbers of training and test cells.
        metrics: which metrics are compared.

    Returns:
        ``a, b, metric, test, difference, p, p_corrected``: a and b are ENCODER/HEAD, the difference is a minus b.
    """
    roles = folds["role"].value_counts()
    ratio = float(roles["test"] / roles["train"])
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        differences = [(a, b, _paired(scores, a, b, metric)) for a, b in _pairs(scores)]
        differences = [(a, b, values) for a, b, values in differences if len(values) > 1]
        for test, correction in (("paired_t", 0.0), ("corrected_resampled_t", ratio)):
            p = [t_test(values, test_to_train=correction) for _, _, values in differences]
            for (a, b, values), raw, adjusted in zip(differences, p, holm(p), strict=True):
                found = {"difference": float(values.mean()), "p": raw, "p_corrected": adjusted}
                rows.append({"a": "/".join(a), "b": "/".join(b), "metric": metric, "test": test, **found})
    return rows


def t_test(differences: np.ndarray, *, test_to_train: float = 0.0) -> float:
    """The two-sided p of a t-test that paired differences ``(k,)`` have mean zero.

    With ``test_to_train`` (test cells by training cells) the variance of the mean is var * (1/k + test_to_train)
    instead of var / k: the corrected resampled t-test of Nadeau & Bengio 2003 (Machine Learning 52:239-281, section 3),
    also for repeated cross-validation (Bouckaert & Frank 2004). Differences that are all zero give 1.
    """
    k = len(differences)
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    t = mean / (spread * (1 / k + test_to_train) ** 0.5)
    return float(2 * stats.t.sf(abs(t), df=k - 1))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values, in their order (Holm 1979, Scand. J. Statist. 6:65-70)."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]


def _pairs(scores: Scores) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    every = [(encoder, head) for encoder, heads in scores.items() for head in heads]
    for a, b in combinations(every, 2):
        if a[0] == b[0] or a[1] == b[1] or not (frozen(*a) and frozen(*b)):
            yield a, b


def _paired(scores: Scores, a: tuple[str, str], b: tuple[str, str], metric: str) -> np.ndarray:
    """The differences of the folds in which both are defined."""
    values = zip(scores[a[0]][a[1]][metric]["folds"], scores[b[0]][b[1]][metric]["folds"], strict=True)
    return np.array([x - y for x, y in values if x is not None and y is not None])
