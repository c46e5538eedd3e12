from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from leukoscope.differential.audited import AuditedCount, audited_count, cells_needed
from leukoscope.differential.audited_leukocytes import half_width
from leukoscope.review.agreement import Agreement, agreement
from leukoscope.review.leukocytes import LeukocyteCount
from leukoscope.review.opened import Opened
from leukoscope.review.store.models import Action, CellRow, Opinion, Reviewer


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


def standing(session: Session, opened: Opened) -> Standing:
    """How far the review has come, as labels stand now; for the audit see :func:`audit_of`."""
    n_classes, n = len(opened.classes), len(opened.predicted)
    columns = (CellRow.row, CellRow.label, CellRow.seen_by)
    wanted = (CellRow.sample_id == opened.id, CellRow.opinions > 0)
    seen = session.execute(select(*columns).where(*wanted)).all()
    began = session.scalar(select(func.min(Action.id)).where(Action.sample_id == opened.id, Action.source == "audit"))
    truth, early = np.full(n, -1), np.zeros(n, dtype=bool)
    for row, label, seen_by in seen:
        truth[row] = -1 if label is None else label
        early[row] = began is None or (seen_by or 0) < began
    kept, audit = opened.counted, audit_of(opened.queue, truth, early)
    known = np.where(audit | early, truth, -1)[kept]
    predicted, truth, audit = opened.predicted[kept], truth[kept], audit[kept]
    count = audited_count(predicted, known, audit, n_classes)
    current = np.bincount(np.where(truth >= 0, truth, predicted), minlength=n_classes + 1)
    leukocytes = LeukocyteCount.of(opened.sample, current, predicted, known, audit, opened.precision)
    return Standing(
        raw=np.bincount(predicted, minlength=n_classes),
        current=current,
        seen=np.bincount(predicted[truth >= 0], minlength=n_classes),
        reviewed=int((truth >= 0).sum()),
        audited=count,
        leukocytes=leukocytes,
        needed=max(cells_needed(count, predicted, known, audit, opened.precision), leukocytes.needed),
        disputed=sum(label is None for _, label, _ in seen),
        agreement=_agreement(session, opened),
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


class State(NamedTuple):
    """Which actions on a sample a session sees: how many, and the greatest number that one of them has.

    What was computed from the labels of a sample holds for every session that sees the same state. The greatest number
    alone would not tell: of two people who label at once on PostgreSQL, the one with the smaller number may be later.
    """

    actions: int
    latest: int


def state_of(session: Session, sample_id: int) -> State:
    """Which actions on a sample ``session`` sees; actions are only ever added."""
    wanted = select(func.count(Action.id), func.max(Action.id)).where(Action.sample_id == sample_id)
    actions, latest = session.execute(wanted).one()
    return State(actions, latest or 0)


def _agreement(session: Session, opened: Opened) -> Agreement:
    wanted = (Opinion.sample_id == opened.id, Opinion.decision.is_(False), Opinion.label.is_not(None))
    given = session.execute(
        select(Opinion.row, Reviewer.name, Opinion.label)
        .join(Reviewer, Reviewer.id == Opinion.reviewer_id)
        .where(*wanted)
    ).all()
    rows = sorted({row for row, _, _ in given})
    names = sorted({name for _, name, _ in given})
    row_at, name_at = ({each: i for i, each in enumerate(values)} for values in (rows, names))
    opinions = np.full((len(rows), len(names)), -1)
    for row, name, label in given:
        opinions[row_at[row], name_at[name]] = label
    return agreement(opinions, names, len(opened.classes) + 1)
