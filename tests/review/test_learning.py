import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from leukoscope.common.errors import InputError
from leukoscope.differential.classifier import Classifier
from leukoscope.differential.learn import learn
from leukoscope.differential.sample import Sample
from leukoscope.review.learning import keep, learn_from_review
from leukoscope.review.opened import Opened
from leukoscope.review.serve import open_desk
from leukoscope.review.standing import standing
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.database import Store
from leukoscope.review.store.events import label_cells
from leukoscope.review.web.desk import Desk, local_visitor

from .conftest import Browserless, answering


@pytest.fixture
def store(tmp_path):
    opened = Store.open(f"sqlite:///{tmp_path / 'review.db'}")
    yield opened
    opened.engine.dispose()


def review(store, opened, rows, truth) -> None:
    ann = local_reviewer(store, "ann")
    for k in range(3):
        of_class = [int(row) for row in rows if truth[row] == k]
        label_cells(store, opened.id, ann, key=f"key-000{k}", rows=of_class, label=k, source="audit")


def test_sixty_reviewed_cells_teach_a_classifier_the_sample_it_erred_on(store, shifted, truth):
    opened = Opened.of(store, Sample.open(shifted), seed=0)
    review(store, opened, opened.queue[:60], truth)
    learned = learn_from_review(store, opened)
    unseen = opened.queue[60:]
    before = (opened.predicted[unseen] == truth[unseen]).mean()
    after = (learned.classifier.probabilities(opened.sample.features.x[unseen]).argmax(1) == truth[unseen]).mean()
    assert before < 0.75
    assert after > before + 0.1
    assert learned.moved.sum() == len(unseen)
    assert learned.moved.sum() - np.trace(learned.moved) == len(learned.changed)
    assert set(learned.proposed) <= set(unseen)
    assert len(set(learned.proposed)) == 60


def test_what_was_learned_is_kept_beside_the_sample_and_nothing_else_changes(store, shifted, truth, tmp_path):
    shifted = shutil.copytree(shifted, tmp_path / "sample", ignore=shutil.ignore_patterns("learned-*"))
    opened = Opened.of(store, Sample.open(shifted))
    review(store, opened, opened.queue[:30], truth)
    before = (shifted / "cells.csv").read_bytes()
    learned = learn_from_review(store, opened)
    (shifted / "learned-1").mkdir()
    first = keep(learned, opened)
    assert first.name == "learned-2"
    x = opened.sample.features.x
    np.testing.assert_array_equal(Classifier.load(first).probabilities(x), learned.classifier.probabilities(x))
    assert (shifted / "cells.csv").read_bytes() == before
    assert keep(learn_from_review(store, opened), opened) == first
    row = int(opened.queue[30])
    label_cells(store, opened.id, local_reviewer(store, "ann"), key="key-0009", rows=[row], label=0, source="audit")
    assert keep(learn_from_review(store, opened), opened).name == "learned-3"


def test_cells_that_were_set_aside_teach_nothing_and_the_page_says_the_same_number(serving, store, shifted, truth):
    sample = Sample.open(shifted)
    sample.table.loc[:2, "set_aside"] = "blurred"
    opened = Opened.of(store, sample)
    ann = local_reviewer(store, "ann")
    label_cells(store, opened.id, ann, key="key-0001", rows=list(range(9)), label=1, source="gallery")
    label_cells(store, opened.id, ann, key="key-0002", rows=[9], label=3, source="gallery")
    learned = learn_from_review(store, opened)
    assert (learned.cells, learned.reviewed) == (6, 7)
    assert len(learned.classifier.reference.y) == len(sample.classifier.reference.y) + 6
    with store.reading() as session:
        assert standing(session, opened).reviewed == learned.reviewed
    desk = Desk(store, {1: opened}, local_visitor(store, ann))
    with answering(desk) as address:
        browser = Browserless(address)
        browser.http.post("/samples/1/learn", data={"csrf": browser.token()})
        page = browser.http.get("/samples/1/learned").text
    assert "Learned from 6 of 7 reviewed cells, the rest being none of the classes." in page


def test_what_was_learned_is_not_kept_after_signing(serving, store, shifted, truth, tmp_path):
    shifted = shutil.copytree(shifted, tmp_path / "sample", ignore=shutil.ignore_patterns("learned-*"))
    ann = Browserless(serving(shifted, store=store, reviewer="ann"))
    token = ann.token()
    ann.label(list(range(20)), 1, key="key-0001", token=token)
    ann.http.post("/samples/1/learn", data={"csrf": token})
    assert "Keep the new classifier" in ann.http.get("/samples/1/learned").text
    ann.http.post("/samples/1/sign", data={"csrf": token, "unproved": "true"})
    answer = ann.http.post("/samples/1/keep", data={"csrf": token, "actions": "1"})
    assert answer.status_code == 409
    assert "sample is signed: what was learned from its review is kept before that" in answer.text
    assert "Keep the new classifier" not in ann.http.get("/samples/1/learned").text
    assert not list(shifted.glob("learned-*"))


def test_learning_nothing_new_changes_next_to_nothing(shifted):
    classifier = Sample.open(shifted).classifier
    x = Sample.open(shifted).features.x
    again = learn(classifier, x[:0], np.zeros(0, np.int64))
    np.testing.assert_allclose(again.probabilities(x), classifier.probabilities(x), atol=0.02)


def test_what_cannot_be_learned_is_told(store, shifted):
    from dataclasses import replace

    opened = Opened.of(store, Sample.open(shifted))
    with pytest.raises(InputError, match="review at least 5 cells of its classes"):
        learn_from_review(store, opened)
    with pytest.raises(InputError, match="was fitted without reference cells and cannot learn"):
        learn(replace(opened.sample.classifier, reference=None), np.zeros((1, 2)), np.zeros(1))


def test_who_learns_at_once_learns_once_and_keeps_once(store, shifted, truth, tmp_path):
    shifted = shutil.copytree(shifted, tmp_path / "sample", ignore=shutil.ignore_patterns("learned-*"))
    desk = open_desk(store, [shifted], reviewer="ann")
    review(store, desk.samples[1], desk.samples[1].queue[:30], truth)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: desk.learn(1), range(4))
    assert all(other is first for other in others)
    with answering(desk) as address, ThreadPoolExecutor(4) as pool:
        ann = Browserless(address)
        form = {"csrf": ann.token(), "actions": str(first.state.actions)}
        answers = list(pool.map(lambda _: ann.http.post("/samples/1/keep", data=form), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert ["Kept as sample/learned-1;" in answer.text for answer in answers] == [True] * 4
    assert [path.name for path in shifted.glob("learned-*")] == ["learned-1"]


def test_who_labels_while_a_head_is_fitted_is_not_held_up_and_counts_the_next_time(store, shifted, truth, monkeypatch):
    desk = open_desk(store, [shifted], reviewer="ann")
    opened = desk.samples[1]
    review(store, opened, opened.queue[:30], truth)

    def meanwhile(*words):
        assert store.engine.pool.checkedout() == 0
        row = int(opened.queue[30])
        bob = local_reviewer(store, "bob")
        label_cells(store, 1, bob, key="key-0001", rows=[row], label=int(truth[row]), source="audit")
        return learn(*words)

    with monkeypatch.context() as patched:
        patched.setattr("leukoscope.review.learning.learn", meanwhile)
        assert desk.learn(1).cells == 30
    assert desk.learned[1].state != desk.state(1)
    assert desk.learn(1).cells == 31
    assert desk.learned[1].state == desk.state(1)


def test_the_page_shows_what_would_change_before_it_is_kept(serving, store, shifted, truth):
    ann = Browserless(serving(shifted, store=store, reviewer="ann"))
    token = ann.token()
    for row in range(40):
        ann.label([row], int(truth[row]), key=f"key-{row:04}", token=token)
    assert ann.http.post("/samples/1/learn", data={"csrf": token}).headers["location"] == "/samples/1/learned"
    page = ann.http.get("/samples/1/learned").text
    assert "Learned from 40 reviewed cells. Of 200 cells that nobody has seen," in page
    assert "Cells worth a look" in ann.http.get("/samples/1/learned/proposed").text
    assert ann.http.get("/samples/1/learned/changed").status_code == 200
    assert "Labels have changed since" not in page
    form = {"csrf": token, "actions": page.partition('name="actions" value="')[2].partition('"')[0]}
    assert "Kept as run/learned-" in ann.http.post("/samples/1/keep", data=form).text
    ann.label([40], int(truth[40]), key="key-0040", token=token)
    assert "Labels have changed since" in ann.http.get("/samples/1/learned").text
    ann.http.post("/samples/1/learn", data={"csrf": token})
    assert "Learned from 41 reviewed cells." in ann.http.get("/samples/1/learned").text
    assert ann.http.post("/samples/1/keep", data=form).status_code == 409
    assert ann.http.post("/samples/1/learn", data={"csrf": "forged"}).status_code == 403
