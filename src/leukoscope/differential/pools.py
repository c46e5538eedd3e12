"""Cells that a classifier has not learned from, to draw samples of known composition from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leukoscope.cells.cellset import contents_of
from leukoscope.cells.folds import split
from leukoscope.cells.groups import resolve_group
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


@dataclass(frozen=True)
class WholePatients:
    """Labelled cells of whole patients: their labels ``(N,)``, and whose each is ``(N,)``."""

    features: Features
    labels: np.ndarray
    whose: np.ndarray

    @classmethod
    def of(cls, features: Features, labels: np.ndarray, group: str | None) -> "WholePatients":
        """Cells of the patients that ``group`` names; None takes ``patient`` or else ``slide``.

        Raises:
            InputError: when it is not known whose the cells are.
        """
        column = resolve_group(features.cells, group)
        if column is None:
            raise InputError("whole patients: the cells have no column patient or slide; name one by --group")
        return cls(features, labels, _names(features.cells[column]))

    @property
    def cells(self) -> int:
        """Labelled cells of a patient, the mean."""
        labelled = np.array([label is not None for label in self.labels])
        return round(int(labelled.sum()) / len(set(self.whose[labelled])))

    def sizes(self, asked: Sequence[int]) -> list[int]:
        """Those ``asked`` that patients have as many cells for, in the mean; all their cells where there is none."""
        return [n for n in asked if n <= self.cells] or [self.cells]

    def unseen(
        self, classifier: Classifier, training: Features, group: str | None, rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each patient of whom ``classifier`` has learned from no cell: see :class:`Pool`; cells in random order."""
        seen = np.isin(contents_of(self.features.cells), contents_of(training.cells))
        if group is not None and group in training.cells.columns:
            seen |= np.isin(self.whose, _names(training.cells[group]))
        pool = Pool.of(classifier, self.features, self.labels)
        kept = np.isin(self.labels, classifier.info.classes)
        for patient in sorted(set(self.whose) - set(self.whose[seen]) - {""}):
            rows = rng.permutation(np.flatnonzero(self.whose[kept] == patient))
            if len(rows):
                yield pool.probabilities[rows], pool.y[rows]


def _names(column: pd.Series) -> np.ndarray:
    """Its values as text ``(N,)``, "" where there is none."""
    return np.array(["" if pd.isna(value) else str(value) for value in column], dtype=object)
