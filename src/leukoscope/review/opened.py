import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from leukoscope.differential.sample import Sample
from leukoscope.report.drawing import png
from leukoscope.report.galleries import visible
from leukoscope.review.attention import Attention
from leukoscope.review.contrast import with_contrast
from leukoscope.review.heat import drawn_heat
from leukoscope.review.map import CellMap
from leukoscope.review.store.cells import SET_ASIDE, import_sample
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import CellRow, SampleRow

PRECISION = 0.02
"""The half width of every share's interval at which a count may be signed, unless another is asked for: two points."""
NONE_OF_THEM = "none of these"
"""The label of what is no cell of any class: an artefact, or no leukocyte."""
_KEYS = "123456789abcdefgijklmnopqrtvwyz"  # h, s, u and x have another meaning
_THUMBNAILS = 8192  # kept in memory, a few KiB each


@dataclass(frozen=True)
class Opened:
    """A sample that this server has at hand: what the store does not keep, which is pixels, features and arrays.

    ``predicted`` int64 ``(N,)``, ``counted`` bool ``(N,)``; ``queue`` int64: rows of the cells counted, in the order
    that was drawn for the audit. ``precision`` is the half width to which the audit must know every share.
    ``attention`` float64 ``(N,)`` is what a model of patients gave each cell, NaN where it has not looked, and None
    where no cell of the sample was looked at.
    """

    id: int
    sample: Sample
    predicted: np.ndarray
    counted: np.ndarray
    queue: np.ndarray
    precision: float = PRECISION
    attention: np.ndarray | None = None
    _explaining: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(
        cls,
        store: Store,
        sample: Sample,
        *,
        seed: int | None = None,
        precision: float = PRECISION,
        attention: Attention | None = None,
    ) -> "Opened":
        """Open ``sample`` on ``store``, which takes its cells in where it has not.

        Raises:
            InputError: when its pixels or features are not where they were.
        """
        sample.cellset  # noqa: B018 (refuses now what no page could show)
        sample_id = import_sample(store, sample, seed=seed)
        with store.reading() as session:
            wanted = select(CellRow.row).where(CellRow.sample_id == sample_id, CellRow.gallery >= 0)
            queue = np.array(session.scalars(wanted.order_by(CellRow.shuffled)).all(), dtype=np.int64)
        looked = None if attention is None else attention.of(sample.table["cell_id"])
        if looked is not None and np.isnan(looked).all():
            looked = None
        return cls(sample_id, sample, sample.predicted, sample.counted, queue, precision, looked)

    @property
    def name(self) -> str:
        """What the sample's folder is called."""
        return self.sample.path.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that cells were called by."""
        return self.sample.classes

    @cached_property
    def knows_novelty(self) -> bool:
        """Whether its classifier told how novel each cell is."""
        return bool(self.sample.table["novelty"].notna().any())

    @cached_property
    def novelty(self) -> Mapping[str, Any] | None:
        """Whether more of its cells are novel than known kinds would give, as its count says; None where it does not.

        For what it holds see :func:`~leukoscope.differential.novel_cells.novelty_of_sample`.
        """
        counted = (self.sample.path / "differential.json").is_file()
        found: Mapping[str, Any] | None = self.sample.differential.get("novelty") if counted else None
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """What a person may call a cell: the classes, and none of them."""
        return (*self.classes, NONE_OF_THEM)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of the keyboard for each label; empty where there are more labels than keys."""
        keys = [*_KEYS[: len(self.classes)], *[""] * (len(self.classes) - len(_KEYS))]
        return (*keys, "0")

    @cached_property
    def pixels_mark(self) -> str:
        """What the addresses of its images hold, so that a browser never shows another sample's from its cache."""
        return hashlib.sha256(f"{self.sample.cellset.pixels_fingerprint}".encode()).hexdigest()[:12]

    def thumbnail(self, row: int, low: float, high: float, zoom: int = 1) -> bytes:
        """A PNG of a cell, with what lies between two percentages of its set's intensity range spread out.

        It has the pixels that a page shows which enlarges cells by ``zoom``: of large images a part, else all.
        """
        return self._thumbnails(row, low, high, zoom)

    @cached_property
    def _thumbnails(self) -> Callable[[int, float, float, int], bytes]:
        def draw(row: int, low: float, high: float, zoom: int) -> bytes:
            cellset = with_contrast(self.sample.cellset, low, high)
            return png(visible(cellset.read([row])[0], cellset, enlarged=zoom))

        return lru_cache(maxsize=_THUMBNAILS)(draw)

    def heat(self, row: int) -> bytes:
        """A PNG of a cell under the heat of where the evidence for its predicted class lies (Grad-CAM).

        Raises:
            InputError: when the encoder is not where it was.
        """
        with self._explaining:  # gradients take the memory of many cells; one explanation at a time
            return self._heats(row)

    @cached_property
    def _heats(self) -> Callable[[int], bytes]:
        return lru_cache(maxsize=256)(lambda row: drawn_heat(self.sample, row))

    @cached_property
    def said(self) -> np.ndarray:
        """How probably each cell that counts is of each class ``(n, K)``, as it was classified."""
        said: np.ndarray = self.sample.probabilities[self.counted]
        return said

    @property
    def looked_at(self) -> int:
        """How many of its cells a model of patients has looked at."""
        return 0 if self.attention is None else int(np.isfinite(self.attention).sum())

    def attention_of(self, row: int) -> float | None:
        """The attention that a cell was given; None where it is not known."""
        given = float("nan") if self.attention is None else float(self.attention[row])
        return None if math.isnan(given) else given

    def by_attention(self, gallery: int | None) -> np.ndarray:
        """Rows of the cells of a gallery, int64, those with most attention first and those without last.

        Args:
            gallery: a class index, :data:`~leukoscope.review.store.cells.SET_ASIDE`, or None for all cells.
        """
        order = self._by_attention
        return order if gallery is None else order[np.where(self.counted, self.predicted, SET_ASIDE)[order] == gallery]

    @cached_property
    def _by_attention(self) -> np.ndarray:
        given = np.full(len(self.predicted), np.nan) if self.attention is None else self.attention
        order: np.ndarray = np.argsort(-given, kind="stable")  # NaN comes last
        return order

    @cached_property
    def map(self) -> CellMap:
        """Where its cells lie on the map of its classifier.

        Raises:
            InputError: when the classifier keeps no cells that it learned from.
        """
        return CellMap.of(self.sample)

    @cached_property
    def _lengths(self) -> np.ndarray:
        lengths: np.ndarray = np.linalg.norm(self.sample.features.x, axis=1)
        return lengths.clip(min=np.finfo(np.float32).tiny)

    def similar(self, row: int, most: int) -> list[int]:
        """The ``most`` cells nearest to ``row`` by the cosine of their features, itself first."""
        x = self.sample.features.x
        nearness = x @ x[row] / self._lengths
        nearness[row] = np.inf
        most = min(most, len(nearness))
        nearest = np.argpartition(-nearness, most - 1)[:most]
        return [int(each) for each in nearest[np.argsort(-nearness[nearest], kind="stable")]]


def samples_of(session: Session) -> list[SampleRow]:
    """Every sample that the store knows, by name."""
    return list(session.scalars(select(SampleRow).order_by(SampleRow.name, SampleRow.id)))
