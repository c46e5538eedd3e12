from dataclasses import dataclass

import numpy as np
import pandas as pd

from leukoscope.scores.predictions import probabilities_of, stored_of, truth_of
from leukoscope.scores.ranking import ranking

AVERAGED = ("precision", "recall", "f1", "roc_auc", "pr_auc")
METRICS = (
    "accuracy",
    "balanced_accuracy",
    *(f"{name}_{average}" for name in AVERAGED for average in ("macro", "weighted")),
    "kappa",
    "log_loss",
    "ece",
)
PER_CLASS = ("support", *AVERAGED)
ECE_BINS = 15


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found: ``overall[METRIC]`` ``(B,)``, and ``per_class[NAME]`` ``(K, B)`` for PER_CLASS."""

    overall: dict[str, np.ndarray]
    per_class: dict[str, np.ndarray]


def score(block: pd.DataFrame) -> dict[str, float]:
    """Every metric of METRICS for one block of predictions (one encoder, head, seed, repeat and fold)."""
    ones: np.ndarray = np.ones((len(block), 1))
    measured = measure(truth_of(block), probabilities_of(block), ones, stored=stored_of(block))
    return {name: float(values[0]) for name, values in measured.overall.items()}


def measure(
    truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, *, stored: np.ndarray | None = None
) -> Measured:
    """Every metric, for many weightings of the same cells at once: a bootstrap resample is a weighting by counts.

    The predicted class is the most probable one, the first among equals. Macro averages run over the classes that
    occur among the (weighted) true labels, so a class that a fold lacks neither helps nor harms; ratios without a
    denominator are 0, as with scikit-learn's ``zero_division=0``. ROC and precision-recall areas are one-vs-rest, the
    latter as average precision. Log loss clips probabilities at the resolution of float32. ECE is the expected
    calibration error of the predicted class in 15 equal-width bins (Guo et al. 2017, arXiv:1706.04599, equation 3).
    What is undefined is NaN.

    Args:
        truth: ``(n,)`` class indices.
        probabilities: ``(n, K)``.
        weights: ``(n, B)``; ones of ``(n, 1)`` give the plain metrics. Sums are kept in its dtype.
        stored: ``(n, K)`` probabilities before they were scaled to sum to one, which parts equals by a rounding: cells
            are ranked and binned by these. None takes ``probabilities``.
    """
    stored = probabilities if stored is None else stored
    counts = _confusion(truth, probabilities.argmax(axis=1), probabilities.shape[1], weights)
    per_class = {**_threshold_scores(counts), **_ranking_scores(truth, stored, weights)}
    support, total = per_class["support"], weights.sum(axis=0)
    overall = {"accuracy": _ratio(np.einsum("kkb->b", counts), total), "balanced_accuracy": np.empty(0)}
    for name in AVERAGED:
        overall[f"{name}_macro"] = _average(per_class[name], (support > 0).astype(float))
        overall[f"{name}_weighted"] = _average(per_class[name], support)
    overall["balanced_accuracy"] = overall["recall_macro"]
    overall["kappa"] = _kappa(counts)
    overall["log_loss"] = _ratio(_log_losses(truth, probabilities).astype(weights.dtype) @ weights, total)
    overall["ece"] = _calibration_error(truth, probabilities, stored, weights)
    return Measured(overall, per_class)


def _confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int, weights: np.ndarray) -> np.ndarray:
    """Weighted counts ``(K, K, B)`` by true and predicted class."""
    cells: np.ndarray = np.zeros((n_classes**2, len(truth)), dtype=weights.dtype)
    cells[truth * n_classes + predicted, np.arange(len(truth))] = 1
    counts: np.ndarray = (cells @ weights).reshape(n_classes, n_classes, -1)
    return counts


def _threshold_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    right = np.einsum("kkb->kb", counts)
    support, called = counts.sum(axis=1), counts.sum(axis=0)
    present = support > 0
    scores = {
        "precision": _ratio(right, called, empty=0.0),
        "recall": _ratio(right, support),
        "f1": _ratio(2 * right, support + called, empty=0.0),
    }
    return {"support": support, **{name: np.where(present, values, np.nan) for name, values in scores.items()}}


def _ranking_scores(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    curves = [ranking(probabilities[:, k], truth == k, weights) for k in range(probabilities.shape[1])]
    return {
        "roc_auc": np.stack([area for area, _ in curves]),
        "pr_auc": np.stack([precision for _, precision in curves]),
    }


def _kappa(counts: np.ndarray) -> np.ndarray:
    """Cohen's kappa: agreement beyond what the two margins give by chance."""
    total = counts.sum(axis=(0, 1))
    agreed = _ratio(np.einsum("kkb->b", counts), total)
    chance = _ratio((counts.sum(axis=0) * counts.sum(axis=1)).sum(axis=0), total**2)
    return _ratio(agreed - chance, 1 - chance)


def _log_losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    own = probabilities[np.arange(len(truth)), truth]
    smallest = np.finfo(np.float32).eps
    losses: np.ndarray = -np.log(np.clip(own, smallest, 1 - smallest))
    return losses


def _calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, stored: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == truth) - confidence
    bins = np.clip(np.ceil(stored.max(axis=1) * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    gaps: np.ndarray = np.zeros((ECE_BINS, len(truth)), dtype=weights.dtype)
    gaps[bins, np.arange(len(truth))] = gap
    return _ratio(np.abs(gaps @ weights).sum(axis=0), weights.sum(axis=0))


def _average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean over classes (axis 0) of the defined values."""
    weights = np.where(np.isnan(values), 0.0, weights)
    return _ratio((np.nan_to_num(values) * weights).sum(axis=0), weights.sum(axis=0))


def _ratio(numerator: np.ndarray, denominator: np.ndarray, *, empty: float = np.nan) -> np.ndarray:
    defined = denominator > 0
    ratio: np.ndarray = np.where(defined, numerator / np.where(defined, denominator, 1.0), empty)
    return ratio
