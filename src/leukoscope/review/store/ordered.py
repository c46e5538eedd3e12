import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from leukoscope.common.errors import InputError
from leukoscope.review.store.cells import Page, unseen_by
from leukoscope.review.store.models import CellRow

_MOST_AT_ONCE = 20_000
_DIGITS = 20  # Python refuses to read a number of thousands


def page_of(
    session: Session,
    sample_id: int,
    rows: np.ndarray,
    *,
    size: int,
    after: str | None = None,
    unseen: bool = False,
    by: int | None = None,
) -> Page:
    """The next ``size`` cells of ``rows`` int64, which are in an order that the store does not keep.

    For the other arguments, and what is raised, see
    :func:`~leukoscope.review.store.cells.gallery_page`.
    """
    start = 0 if after is None else _place(after)
    seen_or_not = [unseen_by(by)] if unseen else []
    found: list[tuple[int, CellRow]] = []
    step = size + 1
    while len(found) <= size and start < len(rows):
        next_rows = rows[start : start + step].tolist()
        wanted = (CellRow.sample_id == sample_id, CellRow.row.in_(next_rows), *seen_or_not)
        by_row = {cell.row: cell for cell in session.scalars(select(CellRow).where(*wanted))}
        found += [(start + i, by_row[row]) for i, row in enumerate(next_rows) if row in by_row]
        start += step
        step = min(2 * step, _MOST_AT_ONCE)  # where nearly all have been seen, the next may be far
    return Page([cell for _, cell in found[:size]], str(found[size][0]) if len(found) > size else None)


def _place(after: str) -> int:
    if not (after.isascii() and after.isdecimal() and len(after) < _DIGITS):
        raise InputError("after: not the end of a page; start from the first page")
    return int(after)
