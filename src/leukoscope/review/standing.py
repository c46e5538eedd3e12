from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from leukoscope.differential.audited import AuditedCount, audited_count, cells_needed
from leukoscope.review.agreement import Agreement, agreement
from leukoscope.review.opened import Opened
from leukoscope.review.store.models import Action, CellRow, Opinion, Reviewer

PRECISION = 0.02
"""The half width at which a count may be signed: two points."""


@dataclass(frozen=True)
class Standing:
    """How far the review of a sample has come.

    ``raw`` ``(K,)`` counts the cells by what they were called, ``current`` ``(K + 1,)`` by what people call them where
    they do, the last for none of the classes; ``seen`` ``(K,)`` of those called each class. Only cells that count take
    part in all of these.
    """

    raw: np.ndarray
    current: np.ndarray
    seen: np.ndarray
    audited: AuditedCount
    needed: int
    disputed: int
    agreement: Agreement


def standing(session: Session, opened: Opened) -> Standing:
    """How far the review has come, as labels stand now.

    The audit is the cells that were first seen in their turn, as far as the order has been seen without a gap: a cell
    that was looked at because it was doubtful is no random one.
    """
    n_classes, n = len(opened.classes), len(opened.predicted)
    columns = (CellRow.row, CellRow.label, CellRow.audited)
    wanted = (CellRow.sample_id == opened.id, CellRow.opinions > 0)
    seen = session.execute(select(*columns).where(*wanted)).all()
    truth, in_turn = np.full(n, -1), np.zeros(n, dtype=bool)
    for row, label, audited in seen:
        truth[row] = -1 if label is None else label
        in_turn[row] = audited
    known = truth[opened.queue] >= 0
    reached = len(known) if known.all() else int(known.argmin())
    audit: np.ndarray = np.zeros(n, dtype=bool)
    audit[opened.queue[:reached]] = True
    audit &= in_turn
    kept = opened.counted
    predicted, truth, audit = opened.predicted[kept], truth[kept], audit[kept]
    count = audited_count(predicted, truth, audit, n_classes)
    return Standing(
        raw=np.bincount(predicted, minlength=n_classes),
        current=np.bincount(np.where(truth >= 0, truth, predicted), minlength=n_classes + 1),
        seen=np.bincount(predicted[truth >= 0], minlength=n_classes),
        audited=count,
        needed=cells_needed(count, predicted, truth, audit, PRECISION),
        disputed=sum(label is None for _, label, _ in seen),
        agreement=_agreement(session, opened),
    )


def latest_action(session: Session, sample_id: int) -> int:
    """The number of the last action on a sample, by which what was computed from its labels is known to be current."""
    return session.scalar(select(func.max(Action.id)).where(Action.sample_id == sample_id)) or 0


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
