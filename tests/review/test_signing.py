from dataclasses import replace

import pytest
from sqlalchemy import text

from leukoscope.review.signing import checked, digest_of, holds, sign
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.events import Conflict, label_cells, undo
from leukoscope.review.store.models import Signature


@pytest.fixture
def ann(store, opened) -> int:
    """Has seen every cell that counts."""
    ann = local_reviewer(store, "ann")
    label_cells(store, opened.id, ann, key="key-0001", rows=opened.queue.tolist(), label=None, source="audit")
    return ann


def test_a_signed_sample_says_what_was_counted_and_by_whom(store, opened, ann):
    document = sign(store, opened, ann).document
    assert document["signed_by"] == "ann"
    assert document["proved"]
    assert document["audited"] == document["counted"] == len(opened.queue)
    assert document["differential"]["LYM"]["called"] == (opened.predicted[opened.counted] == 1).sum()


def test_a_signed_sample_takes_no_more_labels(store, opened, ann):
    sign(store, opened, ann)
    with pytest.raises(Conflict, match="sample-17 is signed: its labels cannot change any more"):
        label_cells(store, opened.id, ann, key="key-0002", rows=[0], label=0, source="gallery")
    with pytest.raises(Conflict, match="is signed"):
        undo(store, opened.id, ann, key="key-0003")
    with pytest.raises(Conflict, match="sample-17 is signed already"):
        sign(store, opened, ann)


def test_a_request_from_before_the_signature_is_still_answered(store, opened, ann):
    sign(store, opened, ann)
    again = label_cells(store, opened.id, ann, key="key-0001", rows=opened.queue.tolist(), label=None, source="audit")
    assert len(again.labels) == len(opened.queue)


def test_a_count_that_the_audit_has_not_proved_is_signed_only_as_such(store, opened):
    ann = local_reviewer(store, "ann")
    with pytest.raises(Conflict, match=r"review \d+ more cells of the audit to sign at \+-2 points, or sign it as"):
        sign(store, opened, ann)
    assert not sign(store, opened, ann, unproved=True).document["proved"]


def test_nobody_signs_over_a_dispute(store, opened, ann):
    bob = local_reviewer(store, "bob")
    other = (int(opened.predicted[opened.queue[0]]) + 1) % 3
    label_cells(store, opened.id, bob, key="key-0001", rows=[int(opened.queue[0])], label=other, source="gallery")
    with pytest.raises(Conflict, match="1 cells are disputed; a third reader must decide them first"):
        sign(store, opened, ann, unproved=True)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cells SET label = 0 WHERE row = (SELECT min(row) FROM cells WHERE label = 1)",
        "UPDATE reviewers SET name = 'bob'",
    ],
)
def test_a_change_behind_the_page_is_noticed(store, opened, ann, change):
    sign(store, opened, ann)
    with store.reading() as session:
        assert holds(session, session.get_one(Signature, opened.id))
    with store.writing() as session:
        session.execute(text(change))
    with store.reading() as session:
        assert not holds(session, session.get_one(Signature, opened.id))


def test_a_check_is_kept_for_the_state_that_it_is_of(store, opened, ann):
    signature = sign(store, opened, ann)
    with store.reading() as session:
        first = checked(session, signature)
        assert first.holds
        assert checked(session, signature, first) is first
        assert checked(session, signature, replace(first, of=("0" * 64, first.of[1]))) != first


def test_the_hash_does_not_depend_on_the_order_of_keys():
    assert digest_of({"b": 1, "a": [2.5, None]}) == digest_of({"a": [2.5, None], "b": 1})
