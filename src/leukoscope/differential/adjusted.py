"""Proportions of a sample corrected for the classifier's errors: the two standard point estimates."""

import numpy as np
from scipy.optimize import nnls

from leukoscope.common.runs import log

# Above this condition number a cell more or less in a class moves the corrected counts by many.
_HARDLY_INVERTIBLE = 100.0
_WEIGHT_OF_SUM = 1e3
_MOST_STEPS = 10_000
_STILL = 1e-6


def adjusted_proportions(counts: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Proportions ``(K,)`` that explain ``counts`` ``(K,)`` of predictions, given how the classes are confused.

    Adjusted classify and count for many classes (Forman 2008, doi:10.1007/s10618-008-0097-y; Firat 2016,
    arXiv:1606.00868): the predictions of a sample are expected to be ``M p`` where column k of ``M`` says how cells of
    class k are called; p is the composition whose ``M p`` is nearest in least squares. It assumes that cells of a class
    look in this sample as they did in training, whatever their share.

    Args:
        counts: of predictions by class.
        confusion: cross-validated counts ``(K, K)`` by true (row) and predicted class.
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


def em_proportions(probabilities: np.ndarray, prevalence: np.ndarray) -> np.ndarray:
    """Proportions ``(K,)`` under which calibrated probabilities agree with themselves, by expectation-maximisation.

    The classifier learned under ``prevalence``; each step weighs its probabilities by how much more or less frequent
    each class seems to be here, and takes their mean (Saerens, Latinne and Decaestecker 2002,
    doi:10.1162/089976602753284446, equations 2.8 and 2.9). The same assumption as of :func:`adjusted_proportions`, and
    that the probabilities are calibrated.

    Args:
        probabilities: calibrated ``(n, K)``.
        prevalence: each class's share of the training cells ``(K,)``, above 0.
    """
    share = prevalence.astype(np.float64)
    for _ in range(_MOST_STEPS):
        weighted = probabilities * (share / prevalence)
        after = (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
        moved, share = float(np.abs(after - share).max()), after
        if moved < _STILL:
            break
    return share
