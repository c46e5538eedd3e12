"""Which cells of a sample are set aside before it is counted, and why."""

import numpy as np

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.measures import measure
from leukoscope.cells.spoiling.plan import NORMAL
from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.quality import reasons

_AS_LIKELY_AS_NOT = 0.5


class NothingToCount(InputError):
    """Every cell of a sample was set aside."""


def set_aside(
    cellset: CellSet, features: np.ndarray, classifier: Classifier, quality: Classifier | None, *, jobs: int = 0
) -> np.ndarray:
    """Why each cell is set aside ``(N,)`` str objects; nothing where it is to be counted.

    The limits that the classifier learned from its training cells come first. Where they find nothing, a classifier of
    quality sets a cell aside that is less likely normal than not, with its most likely other class as the reason.

    Args:
        cellset: the sample.
        features: of its cells ``(N, D)``, through the encoder of both classifiers.
        classifier: whose limits are used, where it has any.
        quality: a classifier with a class ``normal``, or None.
        jobs: threads that measure; 0 takes one a core.

    Raises:
        NothingToCount: when no cell is left.
    """
    limits = classifier.info.quality
    found: np.ndarray = np.full(len(cellset), "", dtype=object)
    if limits is not None and limits.limits:
        found = reasons(measure(cellset, jobs=jobs), limits)
    if quality is not None:
        found = np.where(found == "", _judged(quality, features), found)
    if (found != "").all():
        told = ", ".join(f"{reason} {count}" for reason, count in tally(found).items())
        raise NothingToCount(f"{cellset.path}: all {len(cellset)} cells were set aside ({told}); none is left to count")
    return found


def tally(found: np.ndarray) -> dict[str, int]:
    """How many cells were set aside for each reason, the most frequent first."""
    names, counts = np.unique(found[found != ""].astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[place]): int(counts[place]) for place in order}


def refuse_without_normal(quality: Classifier, classifier: Classifier) -> None:
    """Refuse a classifier of quality that cannot judge what ``classifier`` counts.

    Raises:
        InputError: when it has no class ``normal``, or reads other features of the encoder.
    """
    if NORMAL not in quality.info.classes:
        raise InputError(
            f"--quality: a classifier of {', '.join(quality.info.classes)}, and none of these is {NORMAL!r}; fit one "
            "with --label quality on cells that 'leukoscope spoil' made"
        )
    if quality.info.readout != classifier.info.readout:
        raise InputError(
            "--quality: was fitted on features that were read out of the encoder in another way than those of the "
            "classifier; embed both alike and fit it anew"
        )


def _judged(quality: Classifier, features: np.ndarray) -> np.ndarray:
    """What a classifier of quality says is wrong with each cell ``(N,)``."""
    probabilities = quality.probabilities(features)
    normal = quality.info.classes.index(NORMAL)
    good = probabilities[:, normal] >= _AS_LIKELY_AS_NOT
    probabilities[:, normal] = -1
    names = np.array(quality.info.classes, dtype=object)
    said: np.ndarray = np.where(good, "", names[probabilities.argmax(axis=1)])
    return said
