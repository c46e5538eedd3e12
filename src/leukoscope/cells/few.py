from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from leukoscope.common.errors import InputError
from leukoscope.common.settings import Settings


class FewLabels(Settings):
    """How heads are tried on few labelled cells: so many of each training fold, drawn several times.

    ``counts`` are cells in all, each class by its share of the training fold but at least one, or with ``per_class``
    cells of every class. The default counts are those of the paper on screening (its table 2). ``finetune`` names
    fine-tuned networks that are trained on the few cells, too.
    """

    counts: tuple[int, ...] = Field(default=(350, 100, 50, 25, 10), min_length=1)
    per_class: bool = False
    draws: int = Field(default=5, ge=1)
    heads: tuple[str, ...] = Field(default=("linear", "knn"), min_length=1)
    finetune: tuple[str, ...] = ()


def few_labels(
    folds: pd.DataFrame,
    labels: Mapping[str, Any],
    count: int,
    *,
    per_class: bool = False,
    draws: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Folds whose training cells are ``count`` of those of ``folds``; the test cells stay what they are.

    Every draw is a repeat of its own: repeat r becomes the repeats ``r * draws`` to ``r * draws + draws - 1``. Cells of
    a smaller count are among those of a larger one, so that a curve over counts varies by the labels added.

    Args:
        folds: ``cell_id, repeat, fold, role`` and perhaps ``group``.
        labels: the class of every training cell, by ``cell_id``.
        count: training cells in all, or of every class.
        per_class: whether ``count`` is of every class; a class with fewer gives all of them.
        draws: how often cells are drawn for each fold.
        seed: of the draws.

    Raises:
        InputError: when there are fewer training cells than ``count``, or fewer counted than classes.
    """
    parts = []
    for (repeat, fold), part in folds.groupby(["repeat", "fold"], sort=True):
        train, test = (part[part["role"] == role] for role in ("train", "test"))
        classes = pd.factorize(train["cell_id"].map(labels), sort=True)[0]
        for draw in range(draws):
            order = np.random.default_rng((seed, int(str(repeat)), int(str(fold)), draw)).permutation(len(train))
            taken = _first(classes[order], count, per_class=per_class)
            drawn = pd.concat([train.iloc[np.sort(order[taken])], test])
            parts.append(drawn.assign(repeat=int(str(repeat)) * draws + draw))
    return pd.concat(parts, ignore_index=True)


def _first(classes: np.ndarray, count: int, *, per_class: bool) -> np.ndarray:
    """Places ``(n,)`` of the cells that are taken, of cells in the order in which they were drawn."""
    sizes = np.bincount(classes)
    wanted = np.full(len(sizes), count) if per_class else _by_share(sizes, count)
    rank = np.empty(len(classes), dtype=np.int64)
    for number, size in enumerate(sizes):
        rank[classes == number] = np.arange(size)
    return np.flatnonzero(rank < wanted[classes])


def _by_share(sizes: np.ndarray, count: int) -> np.ndarray:
    """Cells of each class, ``count`` in all: one each, the rest by Webster's divisors, so that more never take away."""
    if count > sizes.sum():
        raise InputError(f"few labels: {count} cells are asked for, a training fold has {sizes.sum()}")
    if count < len(sizes):
        raise InputError(f"few labels: {count} cells cannot show {len(sizes)} classes; ask for {len(sizes)} or more")
    wanted = np.ones(len(sizes), dtype=np.int64)
    for _ in range(count - len(sizes)):
        wanted[int(np.argmax(np.where(wanted < sizes, sizes / (wanted + 0.5), 0)))] += 1
    return wanted
