import hashlib
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, insert, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from leukoscope.common.errors import InputError
from leukoscope.common.progress import progress
from leukoscope.differential.sample import Sample
from leukoscope.review.store.database import Store
from leukoscope.review.store.models import CellRow, Opinion, SampleRow

SET_ASIDE = -1
"""The gallery of cells that quality control set aside."""
_CELLS_A_STEP = 20_000
_BEYOND = 2**31  # every row that a store can be asked for


class Sort(StrEnum):
    """In which order a gallery shows its cells: the doubtful or the novel first, or by chance."""

    DOUBT = "doubt"
    NOVELTY = "novelty"
    CHANCE = "chance"


@dataclass(frozen=True)
class Page:
    """Cells of a gallery in order; ``after`` asks for those that follow, None at the end."""

    cells: Sequence[CellRow]
    after: str | None


def import_sample(store: Store, sample: Sample, *, seed: int | None = None) -> int:
    """Take the cells of ``sample`` into the store, once, and return the sample's id there.

    Args:
        store: the store.
        sample: as ``leukoscope classify`` left it.
        seed: draws the order in which the audit sees the cells; by default from the system's entropy. It is recorded.
    """
    fingerprint = fingerprint_of(sample)
    try:
        with store.writing() as session:
            found = session.scalar(select(SampleRow.id).where(SampleRow.fingerprint == fingerprint))
            if found is not None:
                return found
            return _insert(session, sample, fingerprint, secrets.randbits(53) if seed is None else seed)
    except IntegrityError:  # another server has imported it in this moment
        with store.reading() as session:
            return session.scalars(select(SampleRow.id).where(SampleRow.fingerprint == fingerprint)).one()


def sample_in(store: Store, sample: Sample) -> int | None:
    """The id of ``sample`` in the store; None where its cells have not been taken in."""
    with store.reading() as session:
        return session.scalar(select(SampleRow.id).where(SampleRow.fingerprint == fingerprint_of(sample)))


def fingerprint_of(sample: Sample) -> str:
    """SHA-256 of what is reviewed: the pixels' fingerprint, the cells, and what each was called or set aside for."""
    digest = hashlib.sha256(repr((sample.classes, sample.info.pixels_fingerprint)).encode())
    for column in ("cell_id", "predicted", "set_aside"):
        digest.update("\0".join(sample.table[column]).encode())
    return digest.hexdigest()


def gallery_page(
    session: Session,
    sample_id: int,
    *,
    gallery: int | None,
    sort: Sort,
    size: int,
    after: str | None = None,
    unseen: bool = False,
    by: int | None = None,
) -> Page:
    """The next ``size`` cells of a gallery, found by an index wherever in it they stand.

    Args:
        session: of the store.
        sample_id: the sample.
        gallery: a class index, :data:`SET_ASIDE`, or None for all cells.
        sort: the order; cells of which no novelty is known are left out of that order.
        size: how many.
        after: where the last page ended.
        unseen: leave out cells that somebody has an opinion of.
        by: with ``unseen``, leave out only those that this reviewer has one of.

    Raises:
        InputError: when ``after`` is not what a page gave.
    """
    key = {Sort.DOUBT: CellRow.doubt, Sort.NOVELTY: CellRow.novelty, Sort.CHANCE: CellRow.shuffled}[sort]
    wanted: list[ColumnElement[bool]] = [CellRow.sample_id == sample_id]
    if gallery is not None:
        wanted.append(CellRow.gallery == gallery)
    if sort is Sort.NOVELTY:
        wanted.append(CellRow.novelty.is_not(None))
    if unseen:
        wanted.append(unseen_by(by))
    here = tuple_(key, CellRow.row)
    if after is not None:
        last = _parsed(after)
        wanted.append(here > last if sort is Sort.CHANCE else here < last)
    order = (key, CellRow.row) if sort is Sort.CHANCE else (key.desc(), CellRow.row.desc())
    found = session.scalars(select(CellRow).where(*wanted).order_by(*order).limit(size + 1)).all()
    cells = found[:size]
    more = len(found) > size
    return Page(cells, f"{getattr(cells[-1], key.key)!r}:{cells[-1].row}" if more else None)


def audit_queue(session: Session, sample_id: int, *, size: int, by: int | None = None) -> Sequence[CellRow]:
    """The next cells of the audit, in the order they were drawn in: those counted that nobody has an opinion of.

    For the reviewer ``by``, who reviews blind, those that this reviewer has none of.
    """
    # By ``set_aside``, not ``gallery``: a range of that would lead SQLite to an index of another order.
    wanted = (CellRow.sample_id == sample_id, unseen_by(by), CellRow.set_aside == "")
    return session.scalars(select(CellRow).where(*wanted).order_by(CellRow.shuffled).limit(size)).all()


def disputes(session: Session, sample_id: int, *, size: int) -> Sequence[CellRow]:
    """Cells that reviewers disagree on and nobody has decided."""
    wanted = (CellRow.sample_id == sample_id, CellRow.opinions > 0, CellRow.label.is_(None))
    return session.scalars(select(CellRow).where(*wanted).order_by(CellRow.shuffled).limit(size)).all()


def cells_at(session: Session, sample_id: int, rows: Sequence[int]) -> list[CellRow]:
    """The cells ``rows``, in that order; those that there are not are left out."""
    found = session.scalars(select(CellRow).where(CellRow.sample_id == sample_id, CellRow.row.in_(rows)))
    by_row = {cell.row: cell for cell in found}
    return [by_row[row] for row in rows if row in by_row]


def unseen_by(by: int | None) -> ColumnElement[bool]:
    """That nobody has an opinion of a cell, or not the reviewer ``by``."""
    if by is None:
        return CellRow.opinions == 0
    here = (Opinion.sample_id == CellRow.sample_id, Opinion.row == CellRow.row, Opinion.reviewer_id == by)
    return ~select(Opinion.row).where(*here, Opinion.label.is_not(None)).exists()


def _insert(session: Session, sample: Sample, fingerprint: str, seed: int) -> int:
    n = len(sample.table)
    row = SampleRow(
        fingerprint=fingerprint,
        name=sample.path.resolve().name,
        classes=list(sample.classes),
        seed=seed,
        n_cells=n,
        imported=datetime.now(UTC),
    )
    session.add(row)
    session.flush()
    # A random order of all cells is, among those counted, a random order of them.
    shuffled = np.random.default_rng(seed).permutation(n)
    with progress(f"review {row.name}", n) as advance:
        for step in _steps(sample, row.id, shuffled):
            session.execute(insert(CellRow), step)
            advance(len(step))
    return row.id


def _steps(sample: Sample, sample_id: int, shuffled: np.ndarray) -> Iterator[list[dict[str, Any]]]:
    gallery = np.where(sample.counted, sample.predicted, SET_ASIDE)
    table = sample.table
    novelty = table["novelty"].astype(float)
    columns = {
        "row": range(len(table)),
        "cell_id": table["cell_id"],
        "gallery": gallery.tolist(),
        "predicted": sample.predicted.tolist(),
        "doubt": table["doubt"].astype(float).tolist(),
        "novelty": novelty.astype(object).where(novelty.notna(), None),
        "set_aside": table["set_aside"],
        "shuffled": shuffled.tolist(),
    }
    same = {"sample_id": sample_id, "opinions": 0, "label": None, "seen_by": None}
    step = []
    for values in zip(*columns.values(), strict=True):
        step.append({**same, **dict(zip(columns, values, strict=True))})
        if len(step) == _CELLS_A_STEP:
            yield step
            step = []
    if step:
        yield step


def _parsed(after: str) -> tuple[float, int]:
    value, _, row = after.partition(":")
    try:
        last = float(value), int(row)
    except ValueError:
        last = math.nan, -1
    if not (math.isfinite(last[0]) and 0 <= last[1] < _BEYOND):
        raise InputError("after: not the end of a page; start from the first page")
    return last
