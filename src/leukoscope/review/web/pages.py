"""The pages about samples: the list, one sample's count, a cell's history, signing."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from leukoscope.review.leukocytes import LeukocyteClasses, by_leukocytes
from leukoscope.review.opened import Opened, samples_of
from leukoscope.review.signing import sign
from leukoscope.review.store.accounts import TooManyAttempts, Visitor, password_fits
from leukoscope.review.store.models import Action, CellRow, Event, Reviewer, Signature
from leukoscope.review.web.desk import AtDesk, AtSample, Desk, FormAuthor, Reader, Row
from leukoscope.review.web.templates import page

router = APIRouter()


@router.get("/")
def samples(desk: AtDesk, who: Reader) -> Response:
    """All samples that the store knows; those that are open here can be entered."""
    with desk.store.reading() as session:
        known = samples_of(session)
        signed = {each.sample_id: each for each in session.scalars(select(Signature))}
        standings = {each.id: desk.standing(session, each.id) for each in known if each.id in desk.samples}
    return page("samples.html.j2", who, samples=known, signed=signed, standings=standings)


@router.get("/samples/{sample_id}")
def overview(sample: AtSample, desk: AtDesk, who: Reader) -> Response:
    """A sample's count, as raw, as reviewed and as audited."""
    with desk.store.reading() as session:
        now = desk.standing(session, sample.id)
        signature = session.get(Signature, sample.id)
    return page(
        "sample.html.j2", who, sample=sample, now=now, signature=signature, precision=sample.precision,
        asks_password=desk.local is None, blind=desk.blind,
        by_leukocytes=by_leukocytes({name: now.leukocytes.document(k) for k, name in enumerate(sample.classes)}),
        assumed=LeukocyteClasses.of(sample.sample).assumed,
        readable=signature is not None and _may_read(desk, who, signature),
    )  # fmt: skip


@router.get("/samples/{sample_id}/history/{row}")
def history(sample: AtSample, desk: AtDesk, who: Reader, row: Row, heat: bool = False) -> Response:
    """Everything that anybody said of a cell, and on demand where the classifier saw it."""
    undone = aliased(Event)
    with desk.store.reading() as session:
        cell = session.get(CellRow, (sample.id, row))
        if cell is None:
            raise HTTPException(404, f"cell {row}: the sample has no such cell")
        wanted = (
            select(Event, Action, Reviewer.name, undone.id.is_not(None))
            .join(Action, Action.id == Event.action_id)
            .join(Reviewer, Reviewer.id == Action.reviewer_id)
            .outerjoin(undone, undone.undoes == Event.id)
            .where(Event.row == row, Action.sample_id == sample.id)
            .order_by(Event.id)
        )
        if desk.blind:
            wanted = wanted.where(Action.reviewer_id == who.reviewer_id)
        events = session.execute(wanted).all()
    return page("history.html.j2", who, sample=sample, cell=cell, events=events, blind=desk.blind, heat=heat,
                attention=sample.attention_of(row))  # fmt: skip


@router.post("/samples/{sample_id}/sign")
def sign_sample(
    request: Request,
    sample: AtSample,
    desk: AtDesk,
    who: FormAuthor,
    password: Annotated[str, Form()] = "",
    unproved: Annotated[bool, Form()] = False,
) -> Response:
    """Sign a sample; where people log in, their password is asked for once more."""
    if desk.local is None:
        address = request.client.host if request.client else "unknown"
        try:
            fits = password_fits(desk.store, who.reviewer_id, password, address)
        except TooManyAttempts as error:
            raise HTTPException(429, str(error)) from None
        if not fits:
            raise HTTPException(403, "the password is wrong; the sample is not signed")
    sign(desk.store, sample, who.reviewer_id, unproved=unproved)
    return RedirectResponse(f"/samples/{sample.id}/signed", 303)


def _may_read(desk: Desk, who: Visitor, signature: Signature) -> bool:
    """Whether a blind review hides nothing of a signed report from ``who``: theirs it does not."""
    return not desk.blind or signature.reviewer_id == who.reviewer_id


def _signature(session: Session, desk: Desk, sample: Opened, who: Visitor) -> Signature:
    signature = session.get(Signature, sample.id)
    if signature is None:
        raise HTTPException(404, f"the sample {sample.name} is not signed")
    if not _may_read(desk, who, signature):
        raise HTTPException(403, "this review is blind, and the report would tell what others said")
    return signature


@router.get("/samples/{sample_id}/signed.json")
def signed_document(sample: AtSample, desk: AtDesk, who: Reader) -> Response:
    """The signed report as a file: its SHA-256, and what it is of."""
    with desk.store.reading() as session:
        signature = _signature(session, desk, sample, who)
    told = {"sha256": signature.sha256, "document": signature.document}
    return JSONResponse(told, headers={"Content-Disposition": "attachment; filename=signed.json"})


@router.get("/samples/{sample_id}/signed")
def signed(sample: AtSample, desk: AtDesk, who: Reader, check: bool = False) -> Response:
    """The signed report, to be printed; with ``check`` the store is compared anew with what was signed."""
    with desk.store.reading() as session:
        signature = _signature(session, desk, sample, who)
        rows = by_leukocytes({name: signature.document["differential"][name] for name in sample.classes})
        return page(
            "signed.html.j2", who, sample=sample, signature=signature, by_leukocytes=rows,
            check=desk.check(session, signature, anew=check),
        )  # fmt: skip
