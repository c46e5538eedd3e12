import numpy as np


def intraclass_correlation(counts: np.ndarray) -> float:
    r"""How much more alike the cells of one patient are called than those of different patients.

    The estimate by moments of the correlation :math:`\rho` of the Dirichlet-multinomial distribution (Weir and Hill
    2002, doi:10.1146/annurev.genet.36.050802.093940, for alleles and populations): with mean squares between and
    within patients, summed over the classes that cells are called, and :math:`n_c` the mean number of cells, less what
    its spread takes off,

    .. math:: \hat\rho = \frac{MS_b - MS_w}{MS_b + (n_c - 1) MS_w}

    Args:
        counts: how many cells of each patient were called each class ``(G, K)``; patients without a cell take no part.

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


def effective_cells(truth: np.ndarray, predicted: np.ndarray, patient: np.ndarray, n_classes: int) -> np.ndarray:
    r"""For how many cells each row of a confusion counts, where it is to tell how a new patient's cells are called.

    A patient's cells are called a little otherwise than those of others. The row of a new one differs from the mean by
    :math:`\rho\, m (1 - m)` in each class, and the mean itself, of N cells of several patients, is known to
    :math:`(1 + (n_c - 1) \rho)\, m (1 - m) / N`. A Dirichlet distribution of S cells has the sum of both where
    :math:`1 / (S + 1) = \rho + (1 + (n_c - 1) \rho) / (N + 1)`: N cells where patients do not differ.

    Args:
        truth: class indices of cross-validated cells ``(n,)``.
        predicted: what they were called ``(n,)``.
        patient: whose each is ``(n,)``.
        n_classes: K.

    Returns:
        S of each class ``(K,)`` float64: 1 at least, its cells at most; 0 for a class without cells.
    """
    found = np.zeros(n_classes)
    for k in np.unique(truth):
        own = truth == k
        whose = np.unique(patient[own], return_inverse=True)[1]
        counts = np.zeros((whose.max() + 1, n_classes))
        np.add.at(counts, (whose, predicted[own]), 1)
        rho, n = intraclass_correlation(counts), counts.sum(axis=1)
        of_mean = 1 + max(_usual_cells(n) - 1, 0.0) * rho
        found[k] = max(1.0, 1 / (rho + of_mean / (n.sum() + 1)) - 1)
    return found


def _usual_cells(n: np.ndarray) -> float:
    """Cells of a patient, n_c: the mean of ``n`` ``(G,)``, less what its spread takes off; 0 for a single patient."""
    return float(n.sum() - (n**2).sum() / n.sum()) / max(len(n) - 1, 1)
