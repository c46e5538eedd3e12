"""Cells that a classifier has not learned from, to draw samples of known composition from."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import contents_of
from leukoscope.cells.folds import split
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.encoders.features import Features


@dataclass(frozen=True)
class Pool:
    """Cells that a classifier has not learned from: what it says of them ``(m, K)``, and what they are ``(m,)``."""

    probabilities: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, classifier: Classifier, features: Features, labels: np.ndarray) -> "Pool":
        """The cells whose label ``(N,)`` is one of the classifier's classes."""
        y = pd.Index(classifier.info.classes).get_indexer(pd.Index(labels))
        return cls(classifier.probabilities(features.x[y >= 0]), y[y >= 0])

    def sample(self, share: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of n cells of a patient with these proportions ``(K,)``; none twice, where the pool has enough."""
        rows = []
        for k, drawn in enumerate(rng.multinomial(n, share)):
            own = np.flatnonzero(self.y == k)
            if drawn and not len(own):
                raise InputError(f"no cell is left of class {k} to draw samples from; label more")
            rows.append(rng.choice(own, drawn, replace=drawn > len(own)))
        return np.concatenate(rows).astype(np.int64)


@dataclass(frozen=True)
class Dealt:
    """Labelled cells to fit a classifier on, and by condition cells and labels ``(N,)`` that it has not seen."""

    training: tuple[Features, np.ndarray]
    unseen: dict[str, tuple[Features, np.ndarray]]

    @classmethod
    def of(
        cls,
        cells: tuple[Features, np.ndarray],
        shifted: tuple[Features, np.ndarray] | None,
        *,
        train_share: float,
        group: str | None,
        seed: int,
    ) -> "Dealt":
        """``cells`` in two parts that no group is on both sides of, and of ``shifted`` what is not the same images."""
        features, labels = cells
        shares = {"fit": train_share, "pool": 1 - train_share}
        part = split(features.cells, labels, shares, group=group, seed=seed).to_numpy()
        training, rest = ((features.select(part == name), labels[part == name]) for name in shares)
        unseen = {"as trained": rest}
        if shifted is not None:
            new = ~np.isin(contents_of(shifted[0].cells), contents_of(training[0].cells))
            unseen["shifted"] = shifted[0].select(new), shifted[1][new]
        return cls(training, unseen)
