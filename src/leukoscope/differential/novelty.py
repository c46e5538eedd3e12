"""How far a cell is from all that a classifier has learned from."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.stats import betabinom, binom
from sklearn.covariance import LedoitWolf

from leukoscope.common.runs import log
from leukoscope.common.settings import Settings
from leukoscope.encoders.weights import read_weights
from leukoscope.scores.neighbours import nearest

NEIGHBOURS = 10
FALSE_ALARM = 0.01
SAMPLE_FALSE_ALARM = 0.01
"""How often a sample of known kinds alone may be said to hold unknown ones."""

_MOST_REFERENCES = 20_000


class NoveltyLimits(Settings):
    """Distances beyond which a cell is novel, each passed by ``false_alarm`` of ``held_out`` known cells.

    Those were not in the reference that they were measured against.
    """

    knn: float
    mahalanobis: float
    false_alarm: float = FALSE_ALARM
    held_out: int


@dataclass(frozen=True)
class Reference:
    """What a head learned from: features ``x`` float32 ``(m, D)`` and class indices ``y`` int64 ``(m,)``."""

    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, *, seed: int) -> "Reference":
        """The reference of these cells, of at most 20,000 drawn at random."""
        if len(x) > _MOST_REFERENCES:
            rows = np.sort(np.random.default_rng(seed).choice(len(x), _MOST_REFERENCES, replace=False))
            x, y = x[rows], y[rows]
        return cls(np.ascontiguousarray(x, np.float32), y.astype(np.int64))

    @classmethod
    def read(cls, path: Path) -> "Reference":
        """Read a ``.safetensors`` file of :meth:`write`.

        Raises:
            InputError: when it cannot be read.
        """
        stored = read_weights(path)
        return cls(stored["x"].numpy(), stored["y"].numpy())

    def write(self, path: Path) -> None:
        """Write a ``.safetensors`` file."""
        save_file({"x": torch.from_numpy(self.x), "y": torch.from_numpy(self.y)}, path)

    def knn_distance(self, x: np.ndarray) -> np.ndarray:
        """One minus the cosine to the tenth nearest cell of the reference, float64 ``(n,)`` for features ``(n, D)``.

        Sun et al. 2022 (arXiv:2204.06507, section 3) take the Euclidean distance of features of length one, which
        ranks cells alike, and k = 50 for a thousand cells a class.
        """
        similarity, _ = nearest(torch.from_numpy(self.x), torch.from_numpy(np.ascontiguousarray(x)), NEIGHBOURS)
        distance: np.ndarray = 1.0 - similarity[:, -1].numpy().astype(np.float64)
        return distance

    def mahalanobis_distance(self, x: np.ndarray) -> np.ndarray:
        """To the nearest class's mean under the covariance within classes, float64 ``(n,)`` for features ``(n, D)``.

        Lee et al. 2018 (arXiv:1807.03888, equations 1 and 2); the covariance is shrunk (Ledoit and Wolf 2004), since
        there may be fewer cells than features.
        """
        whiten, centres = self._whitened
        whitened = x.astype(np.float64) @ whiten
        squared = np.stack([((whitened - centre) ** 2).sum(axis=1) for centre in centres])
        nearest_mean: np.ndarray = np.sqrt(squared.min(axis=0))
        return nearest_mean

    @cached_property
    def _whitened(self) -> tuple[np.ndarray, np.ndarray]:
        """What makes the distance Euclidean, a matrix ``(D, D)``, and the classes' means times it ``(K, D)``."""
        classes, place = np.unique(self.y, return_inverse=True)
        means = np.stack([self.x[self.y == k].mean(axis=0) for k in classes]).astype(np.float64)
        within = LedoitWolf(assume_centered=True).fit(self.x - means[place])
        whiten = np.linalg.cholesky(within.precision_)
        return whiten, means @ whiten


def learn_novelty(
    parts: Iterable[tuple[Reference, np.ndarray]], *, false_alarm: float = FALSE_ALARM
) -> NoveltyLimits | None:
    """Limits that a share ``false_alarm`` of known cells passes, from cells held out of each of several references.

    The limit is the smallest distance that is at least the conformal quantile (Vovk et al. 2005): a new known cell
    passes it with at most that probability. None where fewer cells were held out than the rate needs (99 for 1 %).

    Args:
        parts: a reference, and features ``(n, D)`` of cells that are not in it.
        false_alarm: the share of known cells that may be called novel.
    """
    knn, mahalanobis = [], []
    for reference, x in parts:
        knn.append(reference.knn_distance(x))
        try:
            mahalanobis.append(reference.mahalanobis_distance(x))
        except np.linalg.LinAlgError:
            log.warning("the features do not vary within classes; what is novel cannot be told")
            return None
    held_out = sum(map(len, knn))
    rank = _rank(held_out, false_alarm)
    if rank > held_out:
        return None
    limits = [float(np.sort(np.concatenate(found))[rank - 1]) for found in (knn, mahalanobis)]
    if min(limits) <= 0:
        log.warning("the features of many cells are the same; what is novel cannot be told")
        return None
    return NoveltyLimits(knn=limits[0], mahalanobis=limits[1], false_alarm=false_alarm, held_out=held_out)


def sample_p(novel: int, n: int, limits: NoveltyLimits) -> float:
    """How probable so many novel cells or more are among ``n``, if all are of known kinds.

    The limit is a cell of those held out, so that the share of known cells beyond it is itself known only as a beta
    distribution, and their number is beta-binomial. Cells of one patient are taken as independent, which they are not
    quite.
    """
    return float(_known_novel(n, limits).sf(novel - 1))


def cells_to_notice(n: int, limits: NoveltyLimits, detected: float, *, power: float = 0.95) -> int | None:
    """How many cells of an unknown kind among ``n`` raise the flag of a sample with probability ``power``.

    Args:
        n: cells of the sample.
        limits: of the classifier.
        detected: the share of the unknown kind's cells that are.
        power: of noticing it.

    Returns:
        The smallest number, or None where not even n do.
    """
    # The flag is raised from so many novel cells on.
    needed = int(_known_novel(n, limits).isf(SAMPLE_FALSE_ALARM)) + 1
    unknown, seen = np.arange(n + 1)[:, None], np.arange(needed)
    # Of the sum of two binomials, the share below what is needed, for every number at once: (n + 1, needed).
    among_known = _known_novel(n - unknown, limits).pmf(seen).cumsum(axis=1)[:, ::-1]
    unnoticed = (binom.pmf(seen, unknown, detected) * among_known).sum(axis=1)
    enough = np.flatnonzero(unnoticed <= 1 - power)
    return int(enough[0]) if enough.size else None


def _rank(held_out: int, false_alarm: float) -> int:
    """Which of the cells held out, the nearest first, is the limit."""
    return math.ceil((held_out + 1) * (1 - false_alarm))


def _known_novel(n: int | np.ndarray, limits: NoveltyLimits) -> Any:
    """How many of ``n`` known cells lie beyond the limit, as a distribution of scipy's."""
    rank = _rank(limits.held_out, limits.false_alarm)
    return betabinom(n, limits.held_out + 1 - rank, rank)
