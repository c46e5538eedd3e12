from typing import NamedTuple

import numpy as np

BINS = 10


class Reliability(NamedTuple):
    """Cells by the probability of the class they were called, in ten bins of equal width, each ``(10,)``.

    ``cells`` counts them, ``said`` is the mean of their probabilities, ``right`` the share that was called rightly;
    NaN where a bin is empty. The diagram of Guo et al. 2017, arXiv:1706.04599, figure 1.
    """

    cells: np.ndarray
    said: np.ndarray
    right: np.ndarray


def reliability(probability: np.ndarray, right: np.ndarray) -> Reliability:
    """Bin cells by the probability of the class they were called ``(n,)``; ``right`` ``(n,)`` tells which was true."""
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    cells = np.bincount(bins, minlength=BINS)
    filled = np.where(cells > 0, cells, np.nan)
    said, share = (np.bincount(bins, values, BINS) / filled for values in (probability, right.astype(np.float64)))
    return Reliability(cells, said, share)
