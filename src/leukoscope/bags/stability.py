"""Whether models that were trained on other patients, or from another start, look at the same cells."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from leukoscope.bags.bags import Bags

TOP = 0.1
"""The share of a bag's cells that counts as its top."""


def stability(attention: Mapping[tuple[int, int], np.ndarray], bags: Bags, columns: Sequence[str]) -> pd.DataFrame:
    """How alike the models of several folds and seeds rank the cells of each bag.

    All models judge all bags, those they were trained on too: this is about the ranking, not about how right it is.

    Args:
        attention: by seed and fold, of all cells ``(N, H)``, bag by bag.
        bags: all of them.
        columns: names of the H columns.

    Returns:
        ``bag, attention, between, spearman, overlap``: over all pairs of models of one seed (``between`` is ``folds``)
        or one fold (``seeds``), the mean Spearman correlation of the ranks, and the mean share of the top tenth of the
        cells that both have in theirs. A kind of pair that does not occur has no rows.
    """
    models = list(attention)
    pairs = {
        "folds": [(i, j) for i, a in enumerate(models) for j, b in enumerate(models[:i]) if a[0] == b[0]],
        "seeds": [(i, j) for i, a in enumerate(models) for j, b in enumerate(models[:i]) if a[1] == b[1]],
    }
    stacked = np.stack([attention[model] for model in models])  # (M, N, H)
    found = []
    for name, rows in zip(bags.names, bags.rows(np.arange(len(bags.names))), strict=True):
        if len(rows) < 2:
            continue
        for place, column in enumerate(columns):
            ranks = rankdata(stacked[:, rows, place], axis=1)
            likeness = _correlations(ranks)
            top = ranks > len(rows) - max(1, round(TOP * len(rows)))
            shared = (top[:, None] & top[None]).sum(axis=2) / np.maximum(top.sum(axis=1), 1)[:, None]
            for between, which in pairs.items():
                if which:
                    i, j = np.array(which).T
                    told = {"spearman": float(likeness[i, j].mean()), "overlap": float(shared[i, j].mean())}
                    found.append({"bag": name, "attention": column, "between": between, **told})
    return pd.DataFrame(found, columns=["bag", "attention", "between", "spearman", "overlap"])


def _correlations(ranks: np.ndarray) -> np.ndarray:
    """Pearson's correlations ``(M, M)`` of the rows; 0 with a row that is constant."""
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    likeness: np.ndarray = unit @ unit.T
    return likeness
