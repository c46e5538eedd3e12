import numpy as np
import pytest
from sqlalchemy import event, select

from leukoscope.common.errors import InputError
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.cells import SET_ASIDE, Sort, audit_queue, gallery_page, import_sample
from leukoscope.review.store.database import Store
from leukoscope.review.store.events import label_cells
from leukoscope.review.store.models import CellRow


def walk(store, opened, **words) -> list[CellRow]:
    cells, after = [], None
    while True:
        with store.reading() as session:
            page = gallery_page(session, opened.id, size=7, after=after, **words)
        cells += page.cells
        after = page.after
        if after is None:
            return cells


def test_a_sample_is_taken_in_once(store, opened, sample):
    assert import_sample(store, sample) == opened.id
    with store.reading() as session:
        assert len(session.scalars(select(CellRow)).all()) == len(sample.table)


def test_the_order_of_the_audit_follows_the_recorded_seed(store, opened, sample):
    with store.reading() as session:
        cells = session.scalars(select(CellRow).order_by(CellRow.row)).all()
    expected = np.random.default_rng(7).permutation(len(sample.table))
    assert [cell.shuffled for cell in cells] == expected.tolist()
    assert sorted(opened.queue) == np.flatnonzero(sample.counted).tolist()


@pytest.mark.parametrize("sort", list(Sort))
def test_pages_show_every_cell_of_a_class_once_and_in_order(store, opened, sample, sort):
    cells = walk(store, opened, gallery=1, sort=sort)
    expected = np.flatnonzero(sample.counted & (sample.predicted == 1))
    assert sorted(cell.row for cell in cells) == expected.tolist()
    keys = [{"doubt": -c.doubt, "novelty": -c.novelty, "chance": c.shuffled}[sort.value] for c in cells]
    assert keys == sorted(keys)


def test_cells_that_are_set_aside_have_their_own_gallery(store, opened, sample):
    cells = walk(store, opened, gallery=SET_ASIDE, sort=Sort.DOUBT)
    assert sorted(cell.row for cell in cells) == np.flatnonzero(~sample.counted).tolist()
    assert {cell.set_aside for cell in cells} == {"blurred"}


@pytest.mark.parametrize("sort", list(Sort))
def test_all_cells_come_in_the_order_asked_for(store, opened, sample, sort):
    rows = [cell.row for cell in walk(store, opened, gallery=None, sort=sort)]
    key = np.random.default_rng(7).permutation(60) if sort is Sort.CHANCE else -sample.table[sort.value].to_numpy()
    assert sorted(rows) == list(range(60))
    assert (np.diff(key[rows]) >= 0).all()


def test_seen_cells_leave_the_unseen_gallery_and_the_audit(store, opened):
    first = int(opened.queue[0])
    label_cells(store, opened.id, local_reviewer(store, "ann"), key="key-0001", rows=[first], label=0, source="audit")
    with store.reading() as session:
        assert [cell.row for cell in audit_queue(session, opened.id, size=3)] == opened.queue[1:4].tolist()
    unseen = walk(store, opened, gallery=int(opened.predicted[first]), sort=Sort.DOUBT, unseen=True)
    assert first not in [cell.row for cell in unseen]


def test_who_reviews_blind_sees_the_whole_audit_whatever_others_have_seen(store, opened):
    ann, bob = local_reviewer(store, "ann"), local_reviewer(store, "bob")
    first = opened.queue[:3].tolist()
    label_cells(store, opened.id, ann, key="key-0001", rows=first, label=0, source="audit")
    with store.reading() as session:
        assert [cell.row for cell in audit_queue(session, opened.id, size=3, by=bob)] == first
        assert [cell.row for cell in audit_queue(session, opened.id, size=3, by=ann)] == opened.queue[3:6].tolist()
    of_bob = walk(store, opened, gallery=None, sort=Sort.CHANCE, unseen=True, by=bob)
    assert len(of_bob) == len(opened.predicted)


@pytest.mark.parametrize("after", ["x' OR 1=1", f"0.5:{10**20}", "0.5:-1", "nan:3", "inf:3", "0.5:" + "9" * 5000])
def test_a_page_that_nobody_gave_is_refused(store, opened, after):
    with store.reading() as session, pytest.raises(InputError, match="after: not the end of a page"):
        gallery_page(session, opened.id, gallery=0, sort=Sort.DOUBT, size=5, after=after)


@pytest.mark.parametrize("gallery", [None, 1])
@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("unseen", [True, False])
def test_a_gallery_page_is_found_by_an_index_whatever_it_is_of(tmp_path, sample, gallery, sort, unseen):
    store = Store.open(f"sqlite:///{tmp_path / 'review.db'}")
    sample_id = import_sample(store, sample)
    asked = []
    event.listen(store.engine, "before_cursor_execute", lambda _c, _cursor, *words: asked.append(words[:2]))
    with store.reading() as session:
        gallery_page(session, sample_id, gallery=gallery, sort=sort, size=60, after="0.5:3", unseen=unseen)
        statement, parameters = asked[-1]
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        told = " ".join(str(row[3]) for row in plan)
    assert "USING INDEX ix_cells" in told
    assert "TEMP B-TREE FOR ORDER BY" not in told
