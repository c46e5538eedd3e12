import numpy as np


def ranking(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision, for many weightings of the same cells at once.

    Equal scores share one threshold, as in scikit-learn. One sort serves all: only cumulative weights differ.

    Args:
        scores: ``(n,)``, higher is more positive.
        positive: ``(n,)`` bool.
        weights: ``(n, B)``, how often each cell counts in each of B weightings.

    Returns:
        Two arrays ``(B,)``: NaN where the curve is undefined (no positive; for the ROC curve also no negative).
    """
    order = np.argsort(-scores, kind="stable")
    sorted_scores = -scores[order]
    ranks = np.flatnonzero(positive[order])
    starts = np.searchsorted(sorted_scores, sorted_scores[ranks], side="left")
    ends = np.searchsorted(sorted_scores, sorted_scores[ranks], side="right")

    weights = weights[order]
    own = weights[ranks]
    called = _cumulative(weights)
    found = _cumulative(own)
    positives, negatives = found[-1], called[-1] - found[-1]

    # At the threshold of each positive cell, its equals included.
    true_positives = found[np.searchsorted(ranks, ends)]
    predicted = called[ends]
    false_before = called[starts] - found[np.searchsorted(ranks, starts)]
    false_after = predicted - true_positives

    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(predicted > 0, true_positives / predicted, 0.0)
        average_precision = (own * precision).sum(axis=0) / positives
        below = negatives - (false_before + false_after) / 2
        area = (own * below).sum(axis=0) / (positives * negatives)
    return area, average_precision


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """``(n + 1, B)``: row i is the sum of the first i rows."""
    sums: np.ndarray = np.zeros((len(weights) + 1, weights.shape[1]), dtype=weights.dtype)
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums
