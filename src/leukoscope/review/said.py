from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from leukoscope.review.store.models import Action, CellRow, Event, Opinion

_MOST_ROWS = 10_000
"""Cells that are read one by one; where more have changed, all are."""


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


@dataclass(frozen=True)
class Said:
    """What people say of the N cells of a sample in one ``state``.

    ``label`` int64 ``(N,)`` is what they settled on, -1 where they differ or nobody has an opinion. ``seen_by`` int64
    ``(N,)`` is the action by which a cell was first seen, -1 where nobody has an opinion of it. ``opinions`` holds for
    each reviewer's id the labels int16 ``(N,)`` that this one gives, -1 where none, and decisions of disputes left out.
    """

    state: State
    label: np.ndarray
    seen_by: np.ndarray
    opinions: Mapping[int, np.ndarray]

    @classmethod
    def read(cls, session: Session, sample_id: int, n: int) -> "Said":
        """Of the ``n`` cells of a sample, as ``session`` sees them."""
        nothing = cls(state_of(session, sample_id), np.full(n, -1), np.full(n, -1), {})
        return nothing._with(session, sample_id, None)

    def brought_up(self, session: Session, sample_id: int) -> "Said":
        """The same as ``session`` sees them, for which only the cells that actions were on since are read."""
        state = state_of(session, sample_id)
        if state == self.state:
            return self
        newer = (Action.sample_id == sample_id, Action.id > self.state.latest)
        added = session.scalar(select(func.count(Action.id)).where(*newer))
        if state.actions - self.state.actions != added:  # it sees less, or an action that was committed late
            return Said.read(session, sample_id, len(self.label))
        touched = select(Event.row).join(Action, Action.id == Event.action_id).where(*newer).distinct()
        rows = session.scalars(touched.limit(_MOST_ROWS + 1)).all()
        if len(rows) > _MOST_ROWS:
            return Said.read(session, sample_id, len(self.label))
        kept = {reviewer: labels.copy() for reviewer, labels in self.opinions.items()}
        label, seen_by = self.label.copy(), self.seen_by.copy()
        for each in (label, seen_by, *kept.values()):
            each[rows] = -1
        return Said(state, label, seen_by, kept)._with(session, sample_id, rows)

    def _with(self, session: Session, sample_id: int, rows: Sequence[int] | None) -> "Said":
        """With what is said of ``rows``, or of all cells, written into the arrays."""
        cells = select(CellRow.row, func.coalesce(CellRow.label, -1), func.coalesce(CellRow.seen_by, 0))
        cells = cells.where(CellRow.sample_id == sample_id, CellRow.opinions > 0)
        given = select(Opinion.row, Opinion.reviewer_id, Opinion.label).where(
            Opinion.sample_id == sample_id, Opinion.decision.is_(False), Opinion.label.is_not(None)
        )
        if rows is not None:
            cells, given = cells.where(CellRow.row.in_(rows)), given.where(Opinion.row.in_(rows))
        row, label, seen_by = _columns(session.execute(cells).all())
        self.label[row], self.seen_by[row] = label, seen_by
        row, reviewer, label = _columns(session.execute(given).all())
        opinions = dict(self.opinions)
        for each in np.unique(reviewer).tolist():
            labels = opinions.setdefault(each, np.full(len(self.label), -1, dtype=np.int16))
            labels[row[reviewer == each]] = label[reviewer == each]
        return Said(self.state, self.label, self.seen_by, opinions)


def _columns(rows: Sequence[Iterable[Any]]) -> np.ndarray:
    """Rows of three numbers as three columns, int64 ``(3, n)``."""
    # np.array would ask every row of the database for an array interface, and take seconds.
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=3 * len(rows)).reshape(-1, 3).T
