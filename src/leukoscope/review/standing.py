from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from leukoscope.differential.audited import AuditedCount, audited_count, cells_needed
from leukoscope.differential.audited_leukocytes import half_width
from leukoscope.review.agreement import Agreement, agreement
from leukoscope.review.leukocytes import LeukocyteCount
from leukoscope.review.opened import Opened
from leukoscope.review.said import Said
from leukoscope.review.store.models import Action, Reviewer


@dataclass(frozen=True)
class Standing:
    """How far the review of a sample has come.

    ``raw`` ``(K,)`` counts the cells by what they were called, ``current`` ``(K + 1,)`` by what people call them where
    they do, the last for none of the classes; ``seen`` ``(K,)`` of those called each class, ``reviewed`` all that were
    seen. Only cells that count take part in all of these. Shares of ``audited`` are of all of them, those of
    ``leukocytes`` of the leukocytes, which is what laboratories report; ``needed`` cells of the audit would bring both
    to the precision asked for.
    """

    raw: np.ndarray
    current: np.ndarray
    seen: np.ndarray
    reviewed: int
    audited: AuditedCount
    leukocytes: LeukocyteCount
    needed: int
    disputed: int
    agreement: Agreement

    @property
    def half_width(self) -> float:
        """Of the widest interval for the cells imaged, among all of them and among their leukocytes."""
        return max(self.audited.half_width, half_width(self.leukocytes.audited))


def standing(session: Session, opened: Opened, said: Said | None = None) -> Standing:
    """How far the review has come, as labels stand now; for the audit see :func:`audit_of`.

    ``said`` is what people say as ``session`` sees it, where that is at hand; else all of it is read.
    """
    n_classes = len(opened.classes)
    said = said or Said.read(session, opened.id, len(opened.predicted))
    began = session.scalar(select(func.min(Action.id)).where(Action.sample_id == opened.id, Action.source == "audit"))
    truth, seen = said.label, said.seen_by >= 0
    early = seen & (True if began is None else said.seen_by < began)
    kept, audit = opened.counted, audit_of(opened.queue, truth, early)
    known = np.where(audit | early, truth, -1)[kept]
    predicted, truth, audit = opened.predicted[kept], truth[kept], audit[kept]
    count = audited_count(opened.said, known, audit)
    current = np.bincount(np.where(truth >= 0, truth, predicted), minlength=n_classes + 1)
    leukocytes = LeukocyteCount.of(opened.sample, current, opened.said, known, audit, opened.precision)
    return Standing(
        raw=np.bincount(predicted, minlength=n_classes),
        current=current,
        seen=np.bincount(predicted[truth >= 0], minlength=n_classes),
        reviewed=int((truth >= 0).sum()),
        audited=count,
        leukocytes=leukocytes,
        needed=max(cells_needed(count, opened.said, known, audit, opened.precision), leukocytes.needed),
        disputed=int((seen & (said.label < 0)).sum()),
        agreement=_agreement(session, opened, said),
    )


def audit_of(queue: np.ndarray, truth: np.ndarray, early: np.ndarray) -> np.ndarray:
    """Which cells are a random sample of those that nobody had seen when the audit began ``(N,)`` bool.

    Cells seen before, because they were doubtful, say, are known and take no part: of the others, those first in the
    random order, as far as it has been seen without a gap. Cells seen elsewhere once the audit has begun are of the
    audit when it reaches them and count for nothing until then: left out of the cells that the audit stands for, they
    would leave a rest that its first cells are no random sample of.

    Args:
        queue: rows of the cells counted, in random order.
        truth: the label that people gave each cell ``(N,)``, -1 for none.
        early: whether it was first seen before the audit began ``(N,)``.
    """
    order = queue[~(early & (truth >= 0))[queue]]
    gaps = np.flatnonzero(truth[order] < 0)
    audit = np.zeros(len(truth), dtype=bool)
    audit[order[: gaps[0] if len(gaps) else None]] = True
    return audit


def _agreement(session: Session, opened: Opened, said: Said) -> Agreement:
    names = {each.id: each.name for each in session.execute(select(Reviewer.id, Reviewer.name))}
    given = {names[reviewer]: labels for reviewer, labels in said.opinions.items() if (labels >= 0).any()}
    reviewers = sorted(given)
    opinions = np.stack([given[name] for name in reviewers], axis=1) if reviewers else np.full((0, 0), -1)
    # Cells of a single reviewer among several say nothing of how far they agree.
    together = (opinions >= 0).sum(axis=1) >= min(2, len(reviewers))
    return agreement(opinions[together], reviewers, len(opened.classes) + 1)
