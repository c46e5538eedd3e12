"""What a classifier says of cells, finer than their class, and how often each class is told so."""

from typing import Any

import numpy as np
import pandas as pd
from pydantic import model_validator
from sklearn.cluster import KMeans

from leukoscope.common.settings import Settings
from leukoscope.differential.between_patients import Axis, effective_cells, joint_axis

# More tell of a composition what fewer hide, and need more cells to be known: see docs/differential.md.
_A_CLASS = 2
# Decimals that the order in which threads add up does not reach.
_DECIMALS = 4


class Answers(Settings):
    """The C answers of a classifier, and its confusion by them.

    "Surely a neutrophil" and "a neutrophil, or perhaps a monocyte" are two answers that the class alone does not tell
    apart; a composition is known the better for them. An answer is a place among the probabilities: that of ``centres``
    ``(C, K)`` which is nearest (by the distance of Hellinger). ``counts`` ``(K, C)`` are of cross-validated cells by
    true class (row) and answer. Where it is known whose the cells are, ``effective`` ``(K,)`` says for how many cells
    each row counts in a new patient (:func:`~leukoscope.differential.between_patients.effective_cells`), and ``axis``
    ``(K, C)`` along what so many ``patients`` differ in all rows together, if they do
    (:func:`~leukoscope.differential.between_patients.joint_axis`).
    """

    centres: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    effective: tuple[float, ...] | None = None
    axis: tuple[tuple[float, ...], ...] | None = None
    patients: int | None = None

    @classmethod
    def learn(
        cls, truth: np.ndarray, probabilities: np.ndarray, patient: np.ndarray | None = None, *, seed: int = 0
    ) -> "Answers":
        """From what is said of cells that were not learned from.

        Two answers a class, found by k-means, where it is not known whose the cells are or an axis shows along which
        patients differ. Elsewhere each class is one answer: how sure a classifier is differs from patient to patient,
        which finer answers would be taken in by.

        Args:
            truth: class indices ``(n,)``.
            probabilities: calibrated ``(n, K)``.
            patient: whose each cell is ``(n,)``; None where it is not known.
            seed: of k-means.
        """
        classes = probabilities.shape[1]
        plain = np.eye(classes)
        fine = _centres(truth, probabilities, seed)
        if patient is None:
            counts = _tabulated(fine, truth, probabilities, np.zeros(len(truth), np.int64))
            return cls(centres=_rows(fine), counts=_rows(counts[0]))
        whose = np.unique(patient, return_inverse=True)[1]
        by_patient = _tabulated(fine, truth, probabilities, whose)
        axis, centres = joint_axis(by_patient), fine
        if axis is None:
            centres, by_patient = plain, _tabulated(plain, truth, probabilities, whose)
        return cls(
            centres=_rows(centres),
            counts=_rows(by_patient.sum(axis=0)),
            effective=tuple(effective_cells(by_patient).tolist()),
            axis=_rows(axis.deviation) if axis else None,
            patients=axis.patients if axis else None,
        )

    @model_validator(mode="after")
    def _of_one_shape(self) -> "Answers":
        classes, answers = len(self.counts), len(self.centres)
        for told in (self.counts, self.axis or self.counts):
            if [len(row) for row in told] != [answers] * classes:
                raise ValueError(f"counts and axis need {classes} rows of {answers} answers")
        if {len(centre) for centre in self.centres} | {len(self.effective or self.counts)} != {classes}:
            raise ValueError(f"centres and effective need one entry for each of the {classes} classes")
        return self

    def tally(self, probabilities: np.ndarray) -> np.ndarray:
        """How many of the cells with these calibrated probabilities ``(n, K)`` got each answer ``(C,)``."""
        centres = np.array(self.centres)
        return np.bincount(_nearest(centres, probabilities), minlength=len(centres))

    @property
    def confusion(self) -> np.ndarray:
        """``counts`` ``(K, C)`` float64, each row in as many cells as it counts for in a new patient's sample."""
        counts = np.array(self.counts, dtype=np.float64)
        if self.effective is None:
            return counts
        scaled: np.ndarray = counts * (np.array(self.effective) / np.maximum(counts.sum(axis=1), 1))[:, None]
        return scaled

    @property
    def patients_axis(self) -> Axis | None:
        """Along what patients differ in all rows together, where that is known."""
        if self.axis is None or self.patients is None:
            return None
        return Axis(np.array(self.axis), self.patients)


def whose_are(predictions: pd.DataFrame, cells: pd.DataFrame, group: str | None) -> np.ndarray | None:
    """Whose each cell of ``predictions`` is ``(n,)``, by the column ``group`` of ``cells``; None where there is none.

    Cells without a patient are each of their own.
    """
    if group is None:
        return None
    known = predictions["cell_id"].map(cells.set_index("cell_id")[group]).astype("string")
    return known.fillna(predictions["cell_id"].astype("string")).to_numpy(dtype=object)


def _centres(truth: np.ndarray, probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Where the probabilities of cells lie, rare classes counting as much as frequent ones ``(C, K)``."""
    roots = np.sqrt(probabilities.astype(np.float64))
    places = min(_A_CLASS * probabilities.shape[1], len(np.unique(roots.round(_DECIMALS), axis=0)))
    weight = 1 / np.bincount(truth)[truth]
    found = KMeans(places, n_init=4, random_state=seed).fit(roots, sample_weight=weight).cluster_centers_
    squares: np.ndarray = (found**2).round(_DECIMALS)
    # By class, so that an answer's number says something.
    return squares[np.lexsort((-squares.max(axis=1), squares.argmax(axis=1)))]


def _nearest(centres: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The answer of each cell ``(n,)``."""
    c, p = np.sqrt(centres), np.sqrt(probabilities.astype(np.float64))
    found: np.ndarray = ((c**2).sum(axis=1) - 2 * p @ c.T).argmin(axis=1)
    return found


def _tabulated(centres: np.ndarray, truth: np.ndarray, probabilities: np.ndarray, whose: np.ndarray) -> np.ndarray:
    """Cells by patient, true class and answer ``(G, K, C)``."""
    table = np.zeros((whose.max() + 1, probabilities.shape[1], len(centres)), dtype=np.int64)
    np.add.at(table, (whose, truth, _nearest(centres, probabilities)), 1)
    return table


def _rows(table: np.ndarray) -> tuple[tuple[Any, ...], ...]:
    return tuple(map(tuple, table.tolist()))
