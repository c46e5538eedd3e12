"""The pages that show cells: galleries, the audit, disputes and what is similar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from pydantic import BeforeValidator
from sqlalchemy import select
from sqlalchemy.orm import Session

from leukoscope.report.galleries import Magnification
from leukoscope.review.opened import Opened
from leukoscope.review.store.accounts import Visitor
from leukoscope.review.store.cells import SET_ASIDE, Sort, audit_queue, cells_at, disputes, gallery_page
from leukoscope.review.store.events import Source
from leukoscope.review.store.models import CellRow, Opinion, Signature
from leukoscope.review.store.ordered import page_of
from leukoscope.review.web.desk import AtDesk, AtSample, Desk, Reader, Row
from leukoscope.review.web.templates import page

router = APIRouter()
A_PAGE, A_TURN = 60, 24
"""Cells on a page of a gallery; cells of the audit at once."""


class Order(StrEnum):
    """In which order a gallery can be asked for: those that the store keeps, and by a patient model's attention."""

    DOUBT = Sort.DOUBT.value
    NOVELTY = Sort.NOVELTY.value
    CHANCE = Sort.CHANCE.value
    ATTENTION = "attention"


@dataclass(frozen=True)
class View:
    """How cells are shown: contrast in percent of the intensity range, zoom, and whether blind."""

    low: int = 0
    high: int = 100
    zoom: int = 1
    blind: bool = False

    @property
    def image(self) -> str:
        """What the address of an image asks for."""
        return urlencode({"low": self.low, "high": self.high, "zoom": self.zoom})


def view_of(
    desk: AtDesk,
    low: Annotated[int, Query(ge=0, le=99)] = 0,
    high: Annotated[int, Query(ge=1, le=100)] = 100,
    zoom: Annotated[int, Query(ge=1, le=4)] = 1,
    blind: bool = False,
) -> View:
    """The view that an address asks for.

    Raises:
        HTTPException: when the contrast has no range.
    """
    if low >= high:
        raise HTTPException(422, "contrast: the lower end must be below the upper one")
    return View(low, high, zoom, blind or desk.blind)


# A form sends an empty word for all cells.
GalleryNumber = Annotated[int | None, BeforeValidator(lambda given: None if given == "" else given)]
AtView = Annotated[View, Depends(view_of)]


@dataclass(frozen=True)
class Shown:
    """A cell on a page: ``said`` what the classifier or others say, empty in a blind view; ``mine`` the own label.

    ``settled`` is what others settled on, where there is no own label and the view is open.
    """

    row: int
    predicted: int | None
    said: str
    mine: int | None
    settled: int | None
    disputed: bool


@router.get("/samples/{sample_id}/gallery")
def gallery(
    sample: AtSample, desk: AtDesk, who: Reader, view: AtView,
    of: GalleryNumber = None,
    sort: Order = Order.DOUBT, unseen: bool = False, after: str | None = None,
) -> Response:  # fmt: skip
    """Cells that were called one class, or set aside, or all."""
    if of is not None and not SET_ASIDE <= of < len(sample.classes):
        raise HTTPException(404, "there is no such class")
    if sort is Order.ATTENTION and sample.attention is None:
        raise HTTPException(404, "no attention is known here; start leukoscope review with --attention")
    if sort is Order.NOVELTY and not sample.knows_novelty:
        raise HTTPException(404, "no novelty is known here; the classifier of this sample learned none")
    # A gallery of one class, or in an order, would tell what a blind reviewer must not know.
    of, sort = (None, Order.CHANCE) if view.blind else (of, sort)
    asked_for: dict[str, Any] = {
        "size": A_PAGE, "after": after, "unseen": unseen, "by": who.reviewer_id if view.blind else None
    }  # fmt: skip
    with desk.store.reading() as session:
        if sort is Order.ATTENTION:
            found = page_of(session, sample.id, sample.by_attention(of), **asked_for)
        else:
            found = gallery_page(session, sample.id, gallery=of, sort=Sort(sort), **asked_for)
        title = "All cells" if of is None else "Set aside" if of == SET_ASIDE else f"Called {sample.classes[of]}"
        asked = {"of": "" if of is None else of, "sort": sort.value, "unseen": str(unseen).lower()}
        following = None if found.after is None else {**asked, "after": found.after}
        return show_cells(session, desk, sample, who, view, found.cells, title, "gallery", following,
                           filters={"of": of, "sort": sort, "unseen": unseen})  # fmt: skip


@router.get("/samples/{sample_id}/audit")
def audit(sample: AtSample, desk: AtDesk, who: Reader, view: AtView) -> Response:
    """The next cells of the audit, in the order they were drawn in."""
    with desk.store.reading() as session:
        cells = audit_queue(session, sample.id, size=A_TURN, by=who.reviewer_id if view.blind else None)
        return show_cells(session, desk, sample, who, view, cells, "Audit", "audit", {} if cells else None)


@router.get("/samples/{sample_id}/disputes")
def disputed(sample: AtSample, desk: AtDesk, who: Reader, view: AtView) -> Response:
    """Cells that reviewers disagree on, for a third reader."""
    with desk.store.reading() as session:
        cells = disputes(session, sample.id, size=A_TURN)
        return show_cells(session, desk, sample, who, view, cells, "Disputes", "dispute", {} if cells else None)


@router.get("/samples/{sample_id}/similar/{row}")
def similar(sample: AtSample, desk: AtDesk, who: Reader, view: AtView, row: Row) -> Response:
    """The cells most like one, by the encoder's features."""
    if not 0 <= row < len(sample.predicted):
        raise HTTPException(404, f"cell {row}: the sample has no such cell")
    with desk.store.reading() as session:
        cells = cells_at(session, sample.id, sample.similar(row, A_PAGE))
        return show_cells(session, desk, sample, who, view, cells, f"Similar to cell {row}", "similar", None)


def show_cells(
    session: Session, desk: Desk, sample: Opened, who: Visitor, view: View, cells: Sequence[CellRow], title: str,
    source: Source, following: Mapping[str, Any] | None, *, filters: Mapping[str, Any] | None = None,
) -> Response:  # fmt: skip
    """The page of ``cells``, on which they are labelled; labels given there come from ``source``."""
    kept = {"low": view.low, "high": view.high, "zoom": view.zoom, "blind": str(view.blind).lower()}
    magnification = Magnification.of(sample.sample.cellset, enlarged=view.zoom)
    return page(
        "cells.html.j2", who, sample=sample, title=title, source=source, view=view,
        sorts=_orders(sample),
        cells=_shown(session, sample, who, view, cells),
        following=None if following is None else "?" + urlencode({**following, **kept}),
        filters=filters, blind_always=desk.blind,
        size=_size(sample, magnification), bar=magnification.bar, words=magnification.words,
        signed=session.get(Signature, sample.id) is not None,
    )  # fmt: skip


def _orders(sample: Opened) -> list[Order]:
    lacking = {Order.ATTENTION: sample.attention is None, Order.NOVELTY: not sample.knows_novelty}
    return [order for order in Order if not lacking.get(order, False)]


def _shown(session: Session, sample: Opened, who: Visitor, view: View, cells: Sequence[CellRow]) -> list[Shown]:
    wanted = (
        Opinion.sample_id == sample.id, Opinion.row.in_([cell.row for cell in cells]),
        Opinion.reviewer_id == who.reviewer_id, Opinion.label.is_not(None),
    )  # fmt: skip
    # What somebody decided as a third reader comes last, and stands.
    mine = dict(session.execute(select(Opinion.row, Opinion.label).where(*wanted).order_by(Opinion.decision)).all())
    return [
        Shown(
            row=cell.row,
            predicted=None if view.blind else cell.predicted,
            said="" if view.blind else _said(sample, cell),
            mine=mine.get(cell.row),
            settled=None if view.blind or mine.get(cell.row) is not None else cell.label,
            disputed=not view.blind and cell.opinions > 0 and cell.label is None,
        )
        for cell in cells
    ]


def _said(sample: Opened, cell: CellRow) -> str:
    called = f"{sample.classes[cell.predicted]} {1 - cell.doubt:.2f}"
    return f"{called}, {cell.set_aside}" if cell.set_aside else called


def _size(sample: Opened, magnification: Magnification) -> tuple[int, int]:
    """Width and height of every image on the page, in its pixels."""
    info = sample.sample.cellset.info
    across = 1 if len(info.channels) == 3 else len(info.channels)
    factor = magnification.side / magnification.original
    width, height = (max(1, round(side * min(1.0, factor))) for side in (info.width, info.height))
    gaps = 2 * (across - 1)
    return (width * across + gaps) * magnification.zoom, height * magnification.zoom
