import numpy as np
import pytest
from sqlalchemy import func, select

from leukoscope.differential.audited import audited_count, cells_needed
from leukoscope.review.agreement import agreement
from leukoscope.review.leukocytes import LeukocyteCount
from leukoscope.review.said import Said
from leukoscope.review.serve import open_desk
from leukoscope.review.standing import Standing, audit_of, standing
from leukoscope.review.store.accounts import local_reviewer
from leukoscope.review.store.events import Conflict, label_cells, undo
from leukoscope.review.store.models import Action, CellRow, Opinion, Reviewer


def cell_by_cell(session, opened) -> Standing:
    """The standing as it is defined, without arrays that are kept."""
    n = len(opened.predicted)
    wanted = select(CellRow).where(CellRow.sample_id == opened.id, CellRow.opinions > 0)
    seen = session.scalars(wanted).all()
    began = session.scalar(select(func.min(Action.id)).where(Action.sample_id == opened.id, Action.source == "audit"))
    truth, early = np.full(n, -1), np.zeros(n, dtype=bool)
    for cell in seen:
        truth[cell.row] = -1 if cell.label is None else cell.label
        early[cell.row] = began is None or cell.seen_by < began
    kept, audit = opened.counted, audit_of(opened.queue, truth, early)
    known = np.where(audit | early, truth, -1)[kept]
    predicted, truth, audit = opened.predicted[kept], truth[kept], audit[kept]
    count = audited_count(opened.said, known, audit)
    current = np.bincount(np.where(truth >= 0, truth, predicted), minlength=4)
    leukocytes = LeukocyteCount.of(opened.sample, current, opened.said, known, audit, opened.precision)
    given = session.execute(
        select(Opinion.row, Reviewer.name, Opinion.label)
        .join(Reviewer, Reviewer.id == Opinion.reviewer_id)
        .where(Opinion.decision.is_(False), Opinion.label.is_not(None), Opinion.sample_id == opened.id)
    ).all()
    names = sorted({name for _, name, _ in given})
    opinions = np.full((n, len(names)), -1)
    for row, name, label in given:
        opinions[row, names.index(name)] = label
    return Standing(
        raw=np.bincount(predicted, minlength=3), current=current,
        seen=np.bincount(predicted[truth >= 0], minlength=3), reviewed=int((truth >= 0).sum()), audited=count,
        leukocytes=leukocytes,
        needed=max(cells_needed(count, opened.said, known, audit, opened.precision), leukocytes.needed),
        disputed=sum(cell.label is None for cell in seen),
        agreement=agreement(opinions[(opinions >= 0).any(axis=1)], names, 4),
    )  # fmt: skip


def act(store, opened, random, number: int) -> None:
    """Something that one of three people may do: label, decide, or undo; what is refused is not done."""
    who = local_reviewer(store, ("ann", "bob", "cleo")[random.integers(3)])
    rows = random.choice(60, random.integers(1, 9), replace=False).tolist()
    source = ("gallery", "audit", "dispute")[random.integers(3)]
    if source == "dispute":
        with store.reading() as session:
            disputed = select(CellRow.row).where(CellRow.opinions > 0, CellRow.label.is_(None))
            rows = session.scalars(disputed.limit(1)).all() or rows
    try:
        if random.random() < 0.25:
            undo(store, opened.id, who, key=f"key-{number:04}")
        else:
            label = None if random.random() < 0.5 else int(random.integers(4))
            label_cells(store, opened.id, who, key=f"key-{number:04}", rows=rows, label=label, source=source)
    except Conflict:
        pass


@pytest.mark.parametrize("seed", [0, 1])
def test_a_standing_brought_up_after_every_action_is_that_of_every_cell(store, run, seed):
    desk = open_desk(store, [run], reviewer="ann")
    (opened,) = desk.samples.values()
    random = np.random.default_rng(seed)
    for number in range(60):
        act(store, opened, random, number)
        with store.reading() as session:
            expected = cell_by_cell(session, opened)
            for found in (desk.standing(session, opened.id), standing(session, opened)):
                for name, value in vars(expected).items():
                    np.testing.assert_equal(getattr(found, name), value)
    assert expected.agreement.pairs
    assert 0 < expected.reviewed < 57


def test_only_cells_that_were_acted_on_are_read_again(store, opened):
    ann = local_reviewer(store, "ann")
    with store.reading() as session:
        said = Said.read(session, opened.id, 60)
    label_cells(store, opened.id, ann, key="key-0001", rows=[4, 7], label=1, source="gallery")
    said.label[5] = 2  # would be mended if it were read
    with store.reading() as session:
        now = said.brought_up(session, opened.id)
    assert (now.label[[4, 5, 7]].tolist(), said.label[4]) == ([1, 2, 1], -1)
    assert now.opinions[ann][[4, 5, 7]].tolist() == [1, -1, 1]


def test_where_many_cells_have_changed_all_are_read(store, opened, monkeypatch):
    monkeypatch.setattr("leukoscope.review.said._MOST_ROWS", 3)
    with store.reading() as session:
        said = Said.read(session, opened.id, 60)
    said.label[5] = 2
    ann = local_reviewer(store, "ann")
    label_cells(store, opened.id, ann, key="key-0001", rows=[1, 2, 3, 4], label=0, source="gallery")
    with store.reading() as session:
        assert said.brought_up(session, opened.id).label[:6].tolist() == [-1, 0, 0, 0, 0, -1]


def test_who_sees_an_older_state_gets_that(store, opened):
    ann = local_reviewer(store, "ann")
    with store.reading() as older:
        older.scalar(select(Action.id))
        label_cells(store, opened.id, ann, key="key-0001", rows=[4], label=1, source="gallery")
        with store.reading() as session:
            newer = Said.read(session, opened.id, 60)
        assert newer.label[4] == 1
        assert newer.brought_up(older, opened.id).label[4] == -1
