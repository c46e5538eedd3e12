from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.stats import binomtest

from leukoscope.common.runs import log

# Above this condition number a cell more or less in a class moves the corrected counts by many.
_HARDLY_INVERTIBLE = 100.0
_WEIGHT_OF_SUM = 1e3


def count(predicted: np.ndarray, classes: tuple[str, ...], confusion: np.ndarray) -> dict[str, Any]:
    """The differential of one sample, raw and corrected for the classifier's confusions.

    The raw proportions come with two 95 % intervals that cover counting error only: what another draw of as many
    cells, called by the same classifier, would give. ``wilson`` covers 95 % on average, ``clopper_pearson`` at least
    95 % always, and is wider. Neither knows of the classifier's errors; ``adjusted`` corrects for these, and has no
    interval yet.

    Args:
        predicted: the class index of each cell ``(n,)``.
        classes: names of the K classes.
        confusion: cross-validated counts ``(K, K)`` by true and predicted class.

    Returns:
        ``n`` and, for each class, ``count``, ``proportion``, ``wilson`` and ``clopper_pearson`` ``[low, high]``,
        ``adjusted_count`` and ``adjusted_proportion``.
    """
    n = len(predicted)
    counts = np.bincount(predicted, minlength=len(classes))
    adjusted = adjusted_proportions(counts, confusion)
    table = {}
    for k, name in enumerate(classes):
        test = binomtest(int(counts[k]), n)
        table[name] = {
            "count": int(counts[k]),
            "proportion": counts[k] / n,
            "wilson": list(test.proportion_ci(0.95, "wilson")),
            "clopper_pearson": list(test.proportion_ci(0.95, "exact")),
            "adjusted_count": adjusted[k] * n,
            "adjusted_proportion": adjusted[k],
        }
    return {"n": n, "classes": table}


def adjusted_proportions(counts: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Proportions ``(K,)`` that explain ``counts`` ``(K,)`` of predictions, given how the classes are confused.

    Adjusted classify and count for many classes (Forman 2008, doi:10.1007/s10618-008-0097-y; Firat 2016,
    arXiv:1606.00868): the predictions of a sample are expected to be ``M p`` where column k of ``M`` says how cells of
    class k are called; p is the composition whose ``M p`` is nearest in least squares. It assumes that cells of a class
    look in this sample as they did in training, whatever their share.
    """
    observed = counts / counts.sum()
    calls = (confusion / confusion.sum(axis=1, keepdims=True)).T
    if np.linalg.cond(calls) > _HARDLY_INVERTIBLE:
        log.warning("some classes are hardly told apart; their adjusted counts say little")
    # Non-negative least squares, with "the proportions sum to one" as one more equation of great weight.
    proportions, _ = nnls(
        np.vstack([calls, np.full((1, len(counts)), _WEIGHT_OF_SUM)]), np.append(observed, _WEIGHT_OF_SUM)
    )
    normalised: np.ndarray = proportions / proportions.sum()
    return normalised
