import pytest
from sqlalchemy import select

from leukoscope.common.errors import InputError
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.cells import disputes
from leukoscope.review.store.events import MOST_CELLS, Conflict, label_cells, undo
from leukoscope.review.store.models import Action, CellRow, Event


@pytest.fixture
def ann(store) -> int:
    return local_reviewer(store, "ann")


@pytest.fixture
def bob(store) -> int:
    return local_reviewer(store, "bob")


@pytest.fixture
def say(store, opened):
    """``say(who, row or rows, label)`` labels cells under a key of its own."""
    used = iter(range(1000))

    def call(who: int, rows: int | list[int], label: int | None, source: str = "gallery"):
        rows = [rows] if isinstance(rows, int) else rows
        return label_cells(store, opened.id, who, key=f"key-{next(used):04}", rows=rows, label=label, source=source)

    return call


def cell(store, opened, row: int) -> CellRow:
    with store.reading() as session:
        return session.get_one(CellRow, (opened.id, row))


def history(store) -> list[tuple]:
    with store.reading() as session:
        events = session.execute(select(Event.row, Event.label_from, Event.label_to).join(Action).order_by(Event.id))
        return [tuple(row) for row in events]


def test_every_change_is_kept_with_what_it_changed_from(store, opened, ann, say):
    say(ann, 4, 1)
    say(ann, 4, 2)
    assert history(store) == [(4, None, 1), (4, 1, 2)]
    assert cell(store, opened, 4).label == 2


def test_confirming_gives_each_cell_the_class_it_was_called(store, opened, ann, say):
    outcome = say(ann, [0, 1, 2], None)
    assert outcome.labels == {row: int(opened.predicted[row]) for row in range(3)}


def test_undo_goes_back_step_by_step_and_is_kept_too(store, opened, ann, say):
    say(ann, [3, 4], 0)
    say(ann, 4, 2)
    assert undo(store, opened.id, ann, key="undo-0001").labels == {4: 0}
    assert undo(store, opened.id, ann, key="undo-0002").labels == {3: None, 4: None}
    assert undo(store, opened.id, ann, key="undo-0003") is None
    assert history(store)[-3:] == [(4, 2, 0), (3, 0, None), (4, 0, None)]
    assert cell(store, opened, 4).opinions == 0


def test_one_does_not_undo_what_another_did(store, opened, ann, bob, say):
    say(bob, 5, 1)
    assert undo(store, opened.id, ann, key="undo-0001") is None
    assert cell(store, opened, 5).label == 1


def test_a_request_that_is_sent_twice_is_done_once(store, opened, ann):
    same = {"key": "key-same", "rows": [1, 2], "label": 2, "source": "gallery"}
    first = label_cells(store, opened.id, ann, **same)
    assert label_cells(store, opened.id, ann, **same) == first
    assert len(history(store)) == 2


def test_an_undo_that_is_sent_twice_undoes_once(store, opened, ann, say):
    say(ann, 1, 0)
    say(ann, 2, 0)
    first = undo(store, opened.id, ann, key="undo-0001")
    assert undo(store, opened.id, ann, key="undo-0001") == first
    assert cell(store, opened, 1).label == 0


def test_who_disagree_leave_a_cell_open_until_a_third_reader_decides(store, opened, ann, bob, say):
    say(ann, 6, 0)
    say(bob, 6, 2)
    with store.reading() as session:
        assert [each.row for each in disputes(session, opened.id, size=9)] == [6]
    with pytest.raises(Conflict, match="a third reader decides: you have labelled this cell yourself"):
        say(ann, 6, 0, "dispute")
    with pytest.raises(Conflict, match="cell 5 is not disputed, or no more"):
        say(local_reviewer(store, "cleo"), 5, 1, "dispute")
    say(local_reviewer(store, "cleo"), 6, 1, "dispute")
    assert cell(store, opened, 6).label == 1
    assert cell(store, opened, 6).opinions == 2
    with store.reading() as session:
        assert not disputes(session, opened.id, size=9)


def test_a_third_reader_decides_anew_by_a_later_label_and_undo_goes_back(store, opened, ann, bob, say):
    cleo = local_reviewer(store, "cleo")
    say(ann, 6, 0)
    say(bob, 6, 2)
    say(cleo, 6, 1, "dispute")
    assert say(cleo, [5, 6], 0).labels == {5: 0, 6: 0}
    assert (cell(store, opened, 6).label, cell(store, opened, 6).opinions) == (0, 2)
    assert (cell(store, opened, 5).label, cell(store, opened, 5).opinions) == (0, 1)
    assert history(store)[-2:] == [(5, None, 0), (6, 1, 0)]
    undo(store, opened.id, cleo, key="undo-0001")
    assert cell(store, opened, 6).label == 1
    undo(store, opened.id, cleo, key="undo-0002")
    assert cell(store, opened, 6).label is None
    # With the decision taken back, Cleo is a reader as any other.
    say(cleo, 6, 0)
    assert (cell(store, opened, 6).label, cell(store, opened, 6).opinions) == (None, 3)


def test_a_cell_remembers_by_which_action_it_was_first_seen(store, opened, ann, bob, say):
    first = say(ann, 7, 0).action
    say(bob, 7, 0, "audit")
    assert cell(store, opened, 7).seen_by == first
    undo(store, opened.id, ann, key="undo-0001")
    assert cell(store, opened, 7).seen_by == first
    undo(store, opened.id, bob, key="undo-0001")
    assert cell(store, opened, 7).seen_by is None
    assert say(ann, 7, 0).action == cell(store, opened, 7).seen_by


@pytest.mark.parametrize(
    ("rows", "label", "words"),
    [
        ([10_000], 0, "cell 10000: the sample has no such cell"),
        ([-1], 0, "cell -1: the sample has no such cell"),
        ([0], 4, "label: 4 is none of the 4 there are"),
        ([0], -1, "label: -1 is none of the 4 there are"),
        ([], 0, "label between 1 and 5,000 cells"),
        (list(range(MOST_CELLS + 1)), 0, "label between 1 and 5,000 cells"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_is_kept(store, opened, ann, rows, label, words):
    with pytest.raises(InputError, match=words):
        label_cells(store, opened.id, ann, key="key-0001", rows=rows, label=label, source="gallery")
    assert history(store) == []
