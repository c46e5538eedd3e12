import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leukoscope.cells.cellset import CellSet
from leukoscope.cells.labels import Labels, labels_of
from leukoscope.common.errors import InputError
from leukoscope.common.runs import log


@dataclass(frozen=True)
class Classes:
    """What a method that uses labels is told: the classes, sorted, and the number of each cell's, int64 ``(N,)``."""

    names: tuple[str, ...]
    codes: np.ndarray

    @property
    def fingerprint(self) -> str:
        """Of the classes and of which cell has which."""
        digest = hashlib.sha256(json.dumps(self.names).encode())
        digest.update(self.codes.astype(np.int64).tobytes())
        return digest.hexdigest()


def known_classes(
    sets: Sequence[CellSet], *, column: str, overlay: Labels | None = None
) -> tuple[list[CellSet], Classes]:
    """The labelled cells of ``sets`` and their classes.

    Raises:
        InputError: when there is no such column, or fewer than two classes.
    """
    labels = [labels_of(cellset, column=column, overlay=overlay) for cellset in sets]
    known = [np.array([label is not None for label in each]) for each in labels]
    left_out = sum(int((~keep).sum()) for keep in known)
    if left_out:
        log.info("%d cells without a label take no part", left_out)
    found = np.concatenate([each[keep] for each, keep in zip(labels, known, strict=True)]).astype(str)
    names, codes = np.unique(found, return_inverse=True)
    if len(names) < 2:
        raise InputError(f"label {column}: {len(names)} classes; a method that uses labels needs at least two")
    kept = [cellset if keep.all() else cellset.select(keep) for cellset, keep in zip(sets, known, strict=True)]
    return kept, Classes(tuple(map(str, names)), codes.astype(np.int64))
