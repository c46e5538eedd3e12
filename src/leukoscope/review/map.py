import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from matplotlib.path import Path as Outline

from leukoscope.common.errors import InputError
from leukoscope.differential.sample import Sample
from leukoscope.explain.discriminants import discriminant_plane

_MARGIN = 0.03
_OUTLINES = 1024
"""Outlines whose cells are kept in memory: a bit a cell and outline."""


@dataclass(frozen=True)
class CellMap:
    """Where the cells of a sample lie, float32 ``points`` ``(N, 2)``, on the map ``space``.

    The map is the plane that parts the classifier's training cells best. It depends on the classifier alone, so that a
    gate drawn on one sample holds for every other that the same classifier called, as in flow cytometry.

    ``corners`` are the lower left and the upper right one ``(x, y)`` of the part of the plane to draw: it holds the
    training cells and those of the sample, with a margin of 3 % on every side, and so may differ between samples.
    """

    space: str
    points: np.ndarray
    corners: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def of(cls, sample: Sample) -> "CellMap":
        """The map of ``sample``.

        Raises:
            InputError: when its classifier keeps no cells that it learned from.
        """
        reference = sample.classifier.reference
        if reference is None:
            raise InputError(f"{sample.path}: its classifier keeps no training cells, which a map is made of")
        known, new = discriminant_plane(reference, sample.features.x)
        low, high = np.concatenate([known, new]).min(axis=0), np.concatenate([known, new]).max(axis=0)
        margin = _MARGIN * (high - low)
        digest = hashlib.sha256(reference.x.tobytes() + reference.y.tobytes())
        corners = tuple((float(x), float(y)) for x, y in (low - margin, high + margin))
        return cls(digest.hexdigest(), new.astype(np.float32), (corners[0], corners[1]))

    def inside(self, outline: Sequence[Sequence[float]]) -> np.ndarray:
        """Rows of the cells inside an outline, int64 ``(n,)``; found once for each of the last outlines."""
        packed = self._found(tuple((float(x), float(y)) for x, y in outline))
        found: np.ndarray = np.flatnonzero(np.unpackbits(packed, count=len(self.points)))
        return found

    @cached_property
    def _found(self) -> Callable[[tuple[tuple[float, float], ...]], np.ndarray]:
        def find(corners: tuple[tuple[float, float], ...]) -> np.ndarray:
            # A bit a cell: many gates on many cells stay small.
            return np.packbits(Outline(np.asarray(corners)).contains_points(self.points))

        return lru_cache(maxsize=_OUTLINES)(find)
