from collections import defaultdict

import pandas as pd
from sqlalchemy import select

from leukoscope.cells.labels import COLUMNS, Labels
from leukoscope.common.errors import InputError
from leukoscope.review.opened import NONE_OF_THEM
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import Action, CellRow, Event, Opinion, Reviewer, SampleRow


def labels_of_review(store: Store, sample_id: int, *, agree: int = 1) -> Labels:
    """The labels that people settled on, to lay over the CellSet: a row for everybody who gave a cell its label.

    Cells that reviewers disagree on are left out until a third reader has decided.

    Args:
        store: the store.
        sample_id: the sample.
        agree: how many people, the third reader among them, must have given a cell its label.

    Raises:
        InputError: when ``agree`` is below 1.
    """
    if agree < 1:
        raise InputError(f"--agree {agree}: at least one reader must have seen a cell")
    columns = (CellRow.row, CellRow.cell_id, Opinion.label, Reviewer.name, Action.time, Action.source)
    wanted = (
        select(*columns)
        .join(Opinion, (Opinion.sample_id == CellRow.sample_id) & (Opinion.row == CellRow.row))
        .join(Reviewer, Reviewer.id == Opinion.reviewer_id)
        .join(Event, Event.id == Opinion.event_id)
        .join(Action, Action.id == Event.action_id)
        .where(CellRow.sample_id == sample_id, CellRow.opinions > 0, Opinion.label == CellRow.label)
        .order_by(CellRow.row, Event.id)
    )
    by_cell = defaultdict(list)
    with store.reading() as session:
        labels = (*session.get_one(SampleRow, sample_id).classes, NONE_OF_THEM)
        for row, cell_id, label, reviewer, time, source in session.execute(wanted):
            assert label is not None  # it equals the cell's
            given = (cell_id, labels[label], reviewer, time.isoformat(timespec="seconds"), f"review:{source}")
            by_cell[row].append(given)
    rows = [row for given in by_cell.values() if len({each[2] for each in given}) >= agree for row in given]
    return Labels(pd.DataFrame(rows, columns=list(COLUMNS), dtype="string"))
