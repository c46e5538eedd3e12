import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, select

from leukoscope.review.serve import open_desk
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.events import label_cells
from leukoscope.review.store.models import Action
from leukoscope.review.web.desk import Desk


@pytest.fixture
def desk(store, run) -> Desk:
    return open_desk(store, [run], reviewer="ann")


def reviewed(desk: Desk) -> int:
    (sample_id,) = desk.samples
    with desk.store.reading() as session:
        return desk.standing(session, sample_id).reviewed


def say(desk: Desk, name: str, row: int) -> int:
    (sample_id,) = desk.samples
    who = local_reviewer(desk.store, name)
    return label_cells(desk.store, sample_id, who, key=f"{name}-{row:04}", rows=[row], label=1, source="gallery").action


def test_a_standing_is_computed_once_for_each_state_of_the_labels(desk):
    (sample_id,) = desk.samples
    with desk.store.reading() as session:
        first = desk.standing(session, sample_id)
        assert desk.standing(session, sample_id) is first
    say(desk, "ann", 0)
    assert reviewed(desk) == 1


def test_a_standing_is_of_the_state_that_its_page_sees(desk):
    (sample_id,) = desk.samples
    with desk.store.reading() as session:
        session.scalar(select(Action.id))
        say(desk, "ann", 0)
        assert desk.standing(session, sample_id).reviewed == 0
    assert reviewed(desk) == 1


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_label_that_is_committed_after_a_later_one_is_seen(desk):
    """Ann's action has the smaller number, and is committed when Bob's has been seen."""
    numbered, go_on = threading.Event(), threading.Event()

    def wait(_connection, _cursor, statement, *_rest) -> None:
        if threading.current_thread().name.startswith("ann") and statement.startswith("INSERT INTO events"):
            numbered.set()
            assert go_on.wait(30)

    event.listen(desk.store.engine, "before_cursor_execute", wait)
    with ThreadPoolExecutor(1, thread_name_prefix="ann") as pool:
        ann = pool.submit(say, desk, "ann", 0)
        assert numbered.wait(30)
        bob = say(desk, "bob", 1)
        assert reviewed(desk) == 1
        go_on.set()
        assert ann.result() < bob
    assert reviewed(desk) == 2
