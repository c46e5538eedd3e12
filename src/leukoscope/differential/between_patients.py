"""How differently the cells of different patients are called."""

from dataclasses import dataclass

import numpy as np

ROW_PRIOR = 2.0
"""Pseudo-counts of a whole row of the confusion, so that what was never said of a class may be said."""

_TRACY_WIDOM = 0.9793  # its 95 % point, for real matrices


def intraclass_correlation(counts: np.ndarray) -> float:
    r"""How much more alike the cells of one patient are called than those of different patients.

    The estimate by moments of the correlation :math:`\rho` of the Dirichlet-multinomial distribution (Weir and Hill
    2002, doi:10.1146/annurev.genet.36.050802.093940, for alleles and populations): with mean squares between and
    within patients, summed over the answers, and :math:`n_c` the mean number of cells, less what its spread takes
    off,

    .. math:: \hat\rho = \frac{MS_b - MS_w}{MS_b + (n_c - 1) MS_w}

    Args:
        counts: how many cells of each patient got each answer ``(G, C)``; patients without a cell take no part.

    Returns:
        0 to 1; 0 where it cannot be told: fewer than two patients, or no patient with two cells.
    """
    counts = counts[counts.sum(axis=1) > 0].astype(np.float64)
    n = counts.sum(axis=1)
    patients, cells = len(n), n.sum()
    if patients < 2 or cells == patients:
        return 0.0
    share, mean = counts / n[:, None], counts.sum(axis=0) / cells
    between = float((n[:, None] * (share - mean) ** 2).sum()) / (patients - 1)
    within = float((n[:, None] * share * (1 - share)).sum()) / (cells - patients)
    whole = between + (_usual_cells(n) - 1) * within
    return float(np.clip((between - within) / whole, 0.0, 1.0)) if whole > 0 else 0.0


def effective_cells(counts: np.ndarray) -> np.ndarray:
    r"""For how many cells each row of a confusion counts, where it is to tell how a new patient's cells are called.

    A patient's cells are called a little otherwise than those of others. The row of a new one differs from the mean by
    :math:`\rho\, m (1 - m)` in each answer, and the mean itself, of N cells of several patients, is known to
    :math:`(1 + (n_c - 1) \rho)\, m (1 - m) / N`. A Dirichlet distribution of S cells has the sum of both where
    :math:`1 / (S + 1) = \rho + (1 + (n_c - 1) \rho) / (N + 1)`: N cells where patients do not differ.

    Args:
        counts: cross-validated cells by patient, true class and answer ``(G, K, C)``.

    Returns:
        S of each class ``(K,)`` float64: 1 at least, its cells at most; 0 for a class without cells.
    """
    found = np.zeros(counts.shape[1])
    for k in np.flatnonzero(counts.sum(axis=(0, 2))):
        rho, cells = intraclass_correlation(counts[:, k]), counts[:, k].sum(axis=1)
        n = cells[cells > 0]
        of_mean = 1 + max(_usual_cells(n) - 1, 0.0) * rho
        found[k] = max(1.0, 1 / (rho + of_mean / (n.sum() + 1)) - 1)
    return found


@dataclass(frozen=True)
class Axis:
    """Along what so many ``patients`` were seen to differ in all rows of a confusion together.

    The rows of a patient one standard deviation along it differ from the mean by ``deviation`` ``(K, C)``.
    """

    deviation: np.ndarray
    patients: int


def joint_axis(counts: np.ndarray) -> Axis | None:
    r"""Along what patients differ most in all rows of a confusion together, if they do beyond chance.

    Where one patient's neutrophils are taken for monocytes more often than others', its monocytes are taken for
    neutrophils less often, as when cells are a little smaller or the lamp a little brighter. It is the first principal
    component of the patients' rows, each entry in units of its counting error. Where patients do not differ, it has
    a variance :math:`\ell` that noise alone can have, by the distribution of Tracy and Widom (Johnstone 2001,
    doi:10.1214/aos/1009210544; at 5 %). Beyond, it is that of an axis with the variance :math:`\lambda`, of which noise
    makes :math:`\ell = (\lambda + 1)(1 + \gamma / \lambda)`, with :math:`\gamma` the number of free entries to that of
    patients less one (Baik and Silverstein 2006, doi:10.1016/j.jmva.2005.08.003).

    Args:
        counts: cross-validated cells by patient, true class and answer ``(G, K, C)``.

    Returns:
        None where no component has more than noise may have.
    """
    n, answers = counts.sum(axis=2), counts.shape[2]
    mean = (counts.sum(axis=0) + ROW_PRIOR / answers) / (n.sum(axis=0) + ROW_PRIOR)[:, None]
    rows = counts / np.maximum(n, 1)[:, :, None]
    in_noise = np.sqrt(n[:, :, None] / mean) * (rows - mean)
    # A single cell cannot differ from the others of its patient.
    present = in_noise[n.sum(axis=1) > 1]
    free, others = mean.shape[0] * (answers - 1), len(present) - 1
    if others < 1:
        return None
    _, spread, components = np.linalg.svd(present.reshape(len(present), -1) / np.sqrt(others), full_matrices=False)
    gamma, variance = free / others, spread[0] ** 2
    if variance <= _most_of_noise(free, others):
        return None
    beyond = variance - 1 - gamma
    own = (beyond + np.sqrt(beyond**2 - 4 * gamma)) / 2
    usual = np.array([max(_usual_cells(n[:, k]), 1.0) for k in range(len(mean))])
    return Axis(np.sqrt(own) * components[0].reshape(mean.shape) * np.sqrt(mean / usual[:, None]), len(present))


def _most_of_noise(free: int, others: int) -> float:
    """The variance that the first component of noise with ``free`` entries stays below in 95 of 100 times."""
    edge = np.sqrt(others) + np.sqrt(free)
    scale = edge * np.cbrt(1 / np.sqrt(others) + 1 / np.sqrt(free))
    return float(edge**2 + _TRACY_WIDOM * scale) / others


def _usual_cells(n: np.ndarray) -> float:
    """Cells of a patient, n_c: the mean of ``n`` ``(G,)``, less what its spread takes off; 0 for a single patient."""
    cells = max(n.sum(), 1)
    return float(cells - (n**2).sum() / cells) / max(len(n) - 1, 1)
