from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import select

from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.learn import learn
from leukoscope.review.opened import Opened
from leukoscope.review.said import State, state_of
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import CellRow

FEWEST = 5
_CANDIDATES = 400


@dataclass(frozen=True)
class Learned:
    """A head that learned from a review, and what it would say of the sample's cells that nobody has seen.

    ``state`` tells which labels there were: of the ``reviewed`` cells that count, as people settled on them, it learned
    from those ``cells`` that are of a class. ``moved`` ``(K, K)`` counts the cells that nobody has seen by what
    they were called (row) and would be called; ``changed`` int64 are the rows that would change, the surest first;
    ``proposed`` int64 the rows most worth a look.
    """

    classifier: Classifier
    state: State
    cells: int
    reviewed: int
    moved: np.ndarray
    changed: np.ndarray
    proposed: np.ndarray


def learn_from_review(store: Store, opened: Opened, *, propose: int = 60) -> Learned:
    """Fit the sample's head anew with the cells that count and that people settled on; nothing of the sample changes.

    A cell that was set aside teaches nothing, whatever people call it: its image is not as the classifier's cells are.
    The labels are read at once, before the fit, which holds up nobody who labels meanwhile.

    Raises:
        InputError: when fewer than five cells are settled, or the classifier keeps no reference cells.
    """
    with store.reading() as session:
        state = state_of(session, opened.id)
        wanted = (CellRow.sample_id == opened.id, CellRow.opinions > 0)
        seen = session.execute(select(CellRow.row, CellRow.label).where(*wanted).order_by(CellRow.row)).all()
    settled = [(row, label) for row, label in seen if label is not None and opened.counted[row]]
    of_class = [(row, label) for row, label in settled if label < len(opened.classes)]
    if len(of_class) < FEWEST:
        raise InputError(f"{opened.name}: review at least {FEWEST} cells of its classes to learn from")
    rows, labels = np.array(of_class, dtype=np.int64).T
    x = opened.sample.features.x
    classifier = learn(opened.sample.classifier, x[rows], labels)
    probabilities = classifier.probabilities(x)
    unseen = opened.counted.copy()
    unseen[[row for row, _ in seen]] = False
    called, would_be = opened.predicted, probabilities.argmax(axis=1)
    moved = np.zeros((len(opened.classes),) * 2, dtype=np.int64)
    np.add.at(moved, (called[unseen], would_be[unseen]), 1)
    changed = np.flatnonzero(unseen & (called != would_be))
    changed = changed[np.argsort(-probabilities[changed].max(axis=1), kind="stable")]
    proposed = _worth_a_look(x, probabilities, np.flatnonzero(unseen), propose)
    return Learned(classifier, state, len(rows), len(settled), moved, changed, proposed)


def keep(learned: Learned, opened: Opened) -> Path:
    """Save the classifier beside the sample, under the next free name, for samples to come; once, and return where."""
    kept = opened.sample.path.glob("learned-*")
    if (same := next((path for path in kept if _holds(path, learned.classifier)), None)) is not None:
        return same
    number = 1
    while (path := opened.sample.path / f"learned-{number}").exists():
        number += 1
    learned.classifier.save(path)
    return path


def _holds(path: Path, classifier: Classifier) -> bool:
    try:
        return Classifier.load(path).fingerprint == classifier.fingerprint
    except InputError:  # of another version, or no classifier at all
        return False


def _worth_a_look(x: np.ndarray, probabilities: np.ndarray, rows: np.ndarray, most: int) -> np.ndarray:
    """The most uncertain cells, spread out: each next one is farthest from those taken (Sener and Savarese 2018).

    Uncertainty is the margin between the two likeliest classes; arXiv:1708.00489 has the spreading.
    """
    if not len(rows):
        return rows
    top = np.partition(probabilities[rows], -2, axis=1)
    doubtful = rows[np.argsort(top[:, -1] - top[:, -2], kind="stable")[:_CANDIDATES]]
    points = x[doubtful]
    taken = [0]
    distance = np.linalg.norm(points - points[0], axis=1)
    while len(taken) < min(most, len(doubtful)):
        taken.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[taken[-1]], axis=1))
        distance[taken] = -1.0
    return doubtful[taken]
