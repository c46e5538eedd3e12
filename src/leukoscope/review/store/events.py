from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from leukoscope.common.errors import InputError, LeukoscopeError
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import Action, CellRow, Event, Opinion, SampleRow, Signature

Source = Literal["gallery", "audit", "similar", "map", "proposal", "dispute"]
MOST_CELLS = 5_000
"""Cells that one action may label."""
_ATTEMPTS = 3
T = TypeVar("T")


class Conflict(LeukoscopeError):
    """What is asked for was possible, and is not as things stand now: the sample is signed, say."""


@dataclass(frozen=True)
class Outcome:
    """What an action came to: its id, and the label that the reviewer now gives each of its cells."""

    action: int
    labels: dict[int, int | None]


class _Change(NamedTuple):
    row: int
    to: int | None
    decision: bool
    undoes: int | None = None


def label_cells(
    store: Store, sample_id: int, reviewer_id: int, *, key: str, rows: Sequence[int], label: int | None, source: Source
) -> Outcome:
    """Record that a reviewer calls the cells ``rows`` by one label, or confirms what each was called by the classifier.

    It is on disk when this returns. The same ``key`` again changes nothing and answers as the first time did. Where a
    reviewer has decided a dispute, each later label of theirs decides it anew, wherever in the page it is given.

    Args:
        store: the store.
        sample_id: the sample.
        reviewer_id: who says so.
        key: drawn by the client, one for each action.
        rows: cells of the sample, 5,000 at most.
        label: a class index; the number of classes for none of them; None confirms the predictions.
        source: where in the page; ``audit`` for cells in the order drawn, ``dispute`` for a third reader's decision.

    Raises:
        InputError: when there is no such sample, cell or label.
        Conflict: when the sample is signed, or a decision is asked of somebody who is a party to the dispute, or of a
            cell that is not disputed.
    """
    if not 0 < len(rows) <= MOST_CELLS:
        raise InputError(f"rows: label between 1 and {MOST_CELLS:,} cells at once")

    def act(session: Session) -> Outcome:
        sample = _open_for_labels(session, sample_id)
        if (done := _done(session, reviewer_id, key)) is not None:
            return done
        _refuse_signed(session, sample)
        if label is not None and not 0 <= label <= len(sample.classes):
            raise InputError(f"label: {label} is none of the {len(sample.classes) + 1} there are")
        cells = _locked(session, sample_id, rows)
        decided = _decided(session, sample_id, reviewer_id, rows)
        if source == "dispute":
            _refuse_undisputed(cells)
            _refuse_parties(session, sample_id, reviewer_id, rows)
            decided = set(rows)
        changes = [_Change(row, cell.predicted if label is None else label, row in decided)
                   for row, cell in cells.items()]  # fmt: skip
        return _record(session, cells, _action(session, sample_id, reviewer_id, key, source), changes)

    return _retried(store, act)


def undo(store: Store, sample_id: int, reviewer_id: int, *, key: str) -> Outcome | None:
    """Take back the reviewer's latest action on the sample that is not taken back yet; None when there is none.

    Raises:
        InputError: when there is no such sample.
        Conflict: when the sample is signed.
    """

    def act(session: Session) -> Outcome | None:
        sample = _open_for_labels(session, sample_id)
        if (done := _done(session, reviewer_id, key)) is not None:
            return done
        _refuse_signed(session, sample)
        latest = _latest(session, sample_id, reviewer_id)
        if latest is None:
            return None
        events = session.scalars(select(Event).where(Event.action_id == latest.id)).all()
        cells = _locked(session, sample_id, [event.row for event in events])
        action = _action(session, sample_id, reviewer_id, key, "undo", undoes=latest.id)
        changes = [_Change(event.row, event.label_from, event.decision, event.id) for event in events]
        return _record(session, cells, action, changes)

    return _retried(store, act)


def _retried(store: Store, act: Callable[[Session], T]) -> T:
    """Do it again where the same request, sent twice, was done beside it: the second time it finds the first."""
    for _ in range(_ATTEMPTS - 1):
        try:
            with store.writing() as session:
                return act(session)
        except IntegrityError:
            continue
    with store.writing() as session:
        return act(session)


def _open_for_labels(session: Session, sample_id: int) -> SampleRow:
    """The sample, which nobody can sign until this transaction ends."""
    sample = session.scalar(select(SampleRow).where(SampleRow.id == sample_id).with_for_update(read=True))
    if sample is None:
        raise InputError(f"sample {sample_id}: there is none")
    return sample


def _refuse_signed(session: Session, sample: SampleRow) -> None:
    if session.get(Signature, sample.id) is not None:
        raise Conflict(f"{sample.name} is signed: its labels cannot change any more")


def _refuse_undisputed(cells: dict[int, CellRow]) -> None:
    settled = [row for row, cell in cells.items() if cell.opinions < 2 or cell.label is not None]
    if settled:
        raise Conflict(f"cell {settled[0]} is not disputed, or no more; load the page again")


def _refuse_parties(session: Session, sample_id: int, reviewer_id: int, rows: Sequence[int]) -> None:
    opinions = select(Opinion.row).where(
        Opinion.sample_id == sample_id, Opinion.row.in_(rows), Opinion.reviewer_id == reviewer_id,
        Opinion.decision.is_(False), Opinion.label.is_not(None)
    )  # fmt: skip
    if session.scalars(opinions).first() is not None:
        raise Conflict("a third reader decides: you have labelled this cell yourself")


def _decided(session: Session, sample_id: int, reviewer_id: int, rows: Sequence[int]) -> set[int]:
    """Those of ``rows`` whose dispute the reviewer has decided, as a third reader."""
    wanted = (Opinion.sample_id == sample_id, Opinion.row.in_(rows), Opinion.reviewer_id == reviewer_id)
    return set(session.scalars(select(Opinion.row).where(*wanted, Opinion.decision, Opinion.label.is_not(None))))


def _done(session: Session, reviewer_id: int, key: str) -> Outcome | None:
    action = session.scalar(select(Action.id).where(Action.reviewer_id == reviewer_id, Action.key == key))
    if action is None:
        return None
    events = session.scalars(select(Event).where(Event.action_id == action))
    return Outcome(action, {event.row: event.label_to for event in events})


def _latest(session: Session, sample_id: int, reviewer_id: int) -> Action | None:
    taken_back = aliased(Action)
    wanted = (Action.sample_id == sample_id, Action.reviewer_id == reviewer_id, Action.undoes.is_(None))
    standing = ~select(taken_back.id).where(taken_back.undoes == Action.id).exists()
    return session.scalar(select(Action).where(*wanted, standing).order_by(Action.id.desc()).limit(1))


def _locked(session: Session, sample_id: int, rows: Sequence[int]) -> dict[int, CellRow]:
    """The cells ``rows``, which no other transaction changes until this one ends; in one order, against deadlocks."""
    wanted = (CellRow.sample_id == sample_id, CellRow.row.in_(rows))
    cells = session.scalars(select(CellRow).where(*wanted).order_by(CellRow.row).with_for_update())
    found = {cell.row: cell for cell in cells}
    if lacking := set(rows) - set(found):
        raise InputError(f"cell {min(lacking)}: the sample has no such cell")
    return found


def _action(
    session: Session, sample_id: int, reviewer_id: int, key: str, source: str, *, undoes: int | None = None
) -> Action:
    action = Action(
        sample_id=sample_id, reviewer_id=reviewer_id, key=key, time=datetime.now(UTC), source=source, undoes=undoes
    )
    session.add(action)
    session.flush()
    return action


def _record(session: Session, cells: dict[int, CellRow], action: Action, changes: Sequence[_Change]) -> Outcome:
    """Add the events, and bring the tables that follow from them up to date in the same transaction."""
    wanted = (Opinion.sample_id == action.sample_id, Opinion.row.in_(cells))
    opinions: dict[int, dict[tuple[int, bool], Opinion]] = defaultdict(dict)
    for each in session.scalars(select(Opinion).where(*wanted)):
        opinions[each.row][each.reviewer_id, each.decision] = each
    before = {change: opinions[change.row].get((action.reviewer_id, change.decision)) for change in changes}
    events = [
        Event(action_id=action.id, row=change.row, label_from=held.label if held else None, label_to=change.to,
              decision=change.decision, undoes=change.undoes)
        for change, held in before.items()
    ]  # fmt: skip
    session.add_all(events)
    session.flush()
    for event, held in zip(events, before.values(), strict=True):
        if held is None:
            held = Opinion(sample_id=action.sample_id, row=event.row, reviewer_id=action.reviewer_id,
                           decision=event.decision)  # fmt: skip
            opinions[event.row][action.reviewer_id, event.decision] = held
            session.add(held)
        held.label, held.event_id = event.label_to, event.id
        _conclude(cells[event.row], list(opinions[event.row].values()), action.id)
    return Outcome(action.id, {event.row: event.label_to for event in events})


def _conclude(cell: CellRow, opinions: Sequence[Opinion], action: int) -> None:
    """What the opinions of a cell come to: a decision, the label that all agree on, or none."""
    given = [each for each in opinions if each.label is not None]
    decisions = sorted((each for each in given if each.decision), key=lambda each: each.event_id)
    labels = {each.label for each in given if not each.decision}
    was_unseen = cell.opinions == 0
    cell.opinions = sum(not each.decision for each in given)
    if decisions:
        cell.label = decisions[-1].label
    else:
        cell.label = labels.pop() if len(labels) == 1 else None
    if cell.opinions == 0:
        cell.seen_by = None
    elif was_unseen:
        cell.seen_by = action
