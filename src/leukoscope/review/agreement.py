from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class PairAgreement:
    """How far two reviewers agree on the cells that both labelled; ``kappa`` is None where it is not defined."""

    first: str
    second: str
    cells: int
    same: float
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of each pair of reviewers, and Fleiss' of all on the cells that every one of them labelled."""

    pairs: tuple[PairAgreement, ...]
    fleiss: float | None
    fleiss_cells: int


def agreement(opinions: np.ndarray, reviewers: list[str], n_labels: int) -> Agreement:
    """How far reviewers agree.

    Args:
        opinions: the label index ``(n cells, R reviewers)`` that each gave, -1 where none.
        reviewers: their names.
        n_labels: how many labels there are.
    """
    pairs = []
    for a, b in combinations(range(len(reviewers)), 2):
        first, second = opinions[(opinions[:, [a, b]] >= 0).all(axis=1)][:, [a, b]].T
        if len(first):
            pairs.append(
                PairAgreement(reviewers[a], reviewers[b], len(first), float((first == second).mean()),
                              cohen_kappa(first, second))
            )  # fmt: skip
    by_all = opinions[(opinions >= 0).all(axis=1)]
    counts = np.stack([(by_all == k).sum(axis=1) for k in range(n_labels)], axis=1)
    return Agreement(tuple(pairs), fleiss_kappa(counts) if len(reviewers) > 1 else None, len(by_all))


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    """Cohen's kappa (Cohen 1960, doi:10.1177/001316446002000104) of two readings ``(n,)``, label indices from 0.

    None where both gave one and the same label throughout.
    """
    n_labels = int(max(first.max(initial=0), second.max(initial=0))) + 1
    counts = np.bincount(first.astype(np.int64) * n_labels + second, minlength=n_labels**2).reshape(n_labels, n_labels)
    by_chance = counts.sum(axis=1) @ counts.sum(axis=0) / max(len(first), 1)
    if by_chance == len(first):
        return None
    return float(1 - (len(first) - counts.trace()) / (len(first) - by_chance))


def fleiss_kappa(counts: np.ndarray) -> float | None:
    """Fleiss' kappa (Fleiss 1971, doi:10.1037/h0031619) of ``(n, K)`` counts of ratings a cell, the same number each.

    None where there are no cells, a single rating each, or one label throughout.
    """
    raters = counts.sum(axis=1)
    if not len(counts) or raters[0] < 2:
        return None
    shares = counts.sum(axis=0) / counts.sum()
    by_chance = float((shares**2).sum())
    if np.isclose(by_chance, 1.0):
        return None
    same = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    return float((same.mean() - by_chance) / (1 - by_chance))
