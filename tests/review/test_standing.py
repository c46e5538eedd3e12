import numpy as np

from leukoscope.differential.audited import audited_count
from leukoscope.review.standing import standing
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.events import label_cells


def now(store, opened):
    with store.reading() as session:
        return standing(session, opened)


def say(store, opened, rows, label, source, name="ann") -> None:
    key = f"{name}-{source}-{rows[0]}-{label}"
    label_cells(store, opened.id, local_reviewer(store, name), key=key, rows=rows, label=label, source=source)


def test_nothing_is_proved_before_anybody_looked(store, opened):
    found = now(store, opened)
    assert found.audited.reviewed == 0
    assert found.needed > 0
    assert found.raw.sum() == opened.counted.sum() == found.current.sum()


def test_the_audit_is_what_was_seen_in_its_turn_without_a_gap(store, opened):
    queue = opened.queue.tolist()
    say(store, opened, queue[:5], None, "audit")
    say(store, opened, [queue[5]], None, "gallery")
    say(store, opened, queue[6:8], None, "audit")
    say(store, opened, queue[9:12], None, "audit")  # after a gap
    assert now(store, opened).audited.audited == 7
    assert now(store, opened).audited.reviewed == 11


def test_the_audited_count_is_that_of_the_differential(store, opened, sample):
    queue = opened.queue
    say(store, opened, queue[:24].tolist(), None, "audit")
    say(store, opened, queue[24:26].tolist(), 3, "audit")
    truth, audit = np.full(len(opened.predicted), -1), np.zeros(len(opened.predicted), bool)
    truth[queue[:24]], truth[queue[24:26]], audit[queue[:26]] = opened.predicted[queue[:24]], 3, True
    kept = sample.counted
    assert now(store, opened).audited == audited_count(opened.predicted[kept], truth[kept], audit[kept], 3)
    assert now(store, opened).current[-1] == 2


def test_labels_of_cells_set_aside_do_not_count(store, opened, sample):
    aside = np.flatnonzero(~sample.counted).tolist()
    say(store, opened, aside, 0, "gallery")
    assert now(store, opened).audited.reviewed == 0


def test_a_disputed_cell_counts_as_not_reviewed(store, opened):
    row = [int(opened.queue[0])]
    say(store, opened, row, 0, "audit")
    say(store, opened, row, 1, "audit", name="bob")
    found = now(store, opened)
    assert (found.disputed, found.audited.reviewed, found.audited.audited) == (1, 0, 0)
    assert found.agreement.pairs[0].same == 0.0
