import numpy as np
import pytest

from leukoscope.differential.audited import audited_count
from leukoscope.review.standing import audit_of, standing
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
    assert found.reviewed == 0
    assert found.needed > 0
    assert found.raw.sum() == opened.counted.sum() == found.current.sum()


def test_the_audit_is_what_was_seen_in_its_order_without_a_gap(store, opened):
    queue = opened.queue.tolist()
    say(store, opened, [queue[1]], None, "gallery")  # known before the audit began, and no part of it
    say(store, opened, [queue[0], *queue[2:5]], None, "audit")
    say(store, opened, [queue[5]], None, "gallery")  # of the audit all the same, since the order has come to it
    say(store, opened, queue[6:8], None, "audit")
    say(store, opened, queue[9:12], None, "gallery")  # after a gap
    found = now(store, opened)
    assert (found.audited.audited, found.audited.reviewed, found.reviewed) == (7, 8, 11)
    say(store, opened, [queue[8]], None, "audit")
    assert now(store, opened).audited.audited == 11


def test_without_an_audit_nothing_is_of_it(store, opened):
    say(store, opened, opened.queue[:30].tolist(), None, "gallery")
    assert now(store, opened).audited.audited == 0


@pytest.mark.parametrize("doubtful_first", [True, False])
def test_intervals_cover_whenever_the_doubtful_cells_are_reviewed(doubtful_first):
    """A classifier that errs on the cells that it doubts; 300 of them are reviewed before or after the audit."""
    random, n, missed = np.random.default_rng(4), 1500, 0
    for _ in range(400):
        predicted = (random.random(n) < 0.3).astype(int)
        doubt = random.random(n)
        wrong = random.random(n) < np.where((doubt > 0.7) & (predicted == 1), 0.6, 0.02)
        true = np.where(wrong, 1 - predicted, predicted)
        queue, doubtful = random.permutation(n), np.argsort(-doubt)[:300]
        seen = np.zeros(n, bool)
        seen[doubtful] = True
        turns = queue[~seen[queue]][:150] if doubtful_first else queue[:150]
        seen[turns] = True
        truth, early = np.where(seen, true, -1), np.zeros(n, bool)
        early[doubtful] = doubtful_first
        audit = audit_of(queue, truth, early)
        assert audit.sum() >= 150
        low, high = (
            audited_count(np.eye(2)[predicted], np.where(audit | early, truth, -1), audit).classes[1].composition
        )
        missed += not low <= (true == 1).mean() <= high
    assert missed / 400 <= 0.08


def test_the_audited_count_is_that_of_the_differential(store, opened, sample):
    queue = opened.queue
    say(store, opened, queue[:24].tolist(), None, "audit")
    say(store, opened, queue[24:26].tolist(), 3, "audit")
    truth, audit = np.full(len(opened.predicted), -1), np.zeros(len(opened.predicted), bool)
    truth[queue[:24]], truth[queue[24:26]], audit[queue[:26]] = opened.predicted[queue[:24]], 3, True
    kept = sample.counted
    assert now(store, opened).audited == audited_count(opened.said, truth[kept], audit[kept])
    assert now(store, opened).current[-1] == 2


def test_labels_of_cells_set_aside_do_not_count(store, opened, sample):
    aside = np.flatnonzero(~sample.counted).tolist()
    say(store, opened, aside, 0, "gallery")
    assert now(store, opened).reviewed == 0


def test_a_disputed_cell_counts_as_not_reviewed(store, opened):
    row = [int(opened.queue[0])]
    say(store, opened, row, 0, "audit")
    say(store, opened, row, 1, "audit", name="bob")
    found = now(store, opened)
    assert (found.disputed, found.reviewed, found.audited.audited) == (1, 0, 0)
    assert found.agreement.pairs[0].same == 0.0
