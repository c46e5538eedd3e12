"""Learn from this review: what a refitted head would change, shown before it is kept."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Response
from fastapi.responses import RedirectResponse

from leukoscope.review.learning import keep
from leukoscope.review.opened import Opened
from leukoscope.review.store.cells import cells_at
from leukoscope.review.store.events import Conflict
from leukoscope.review.store.models import Signature
from leukoscope.review.web.desk import AtDesk, AtSample, Desk, FormAuthor, Reader, refuse_blind
from leukoscope.review.web.galleries import A_PAGE, AtView, show_cells
from leukoscope.review.web.templates import page

router = APIRouter(dependencies=[Depends(refuse_blind)])


@router.get("/samples/{sample_id}/learned")
def learned(sample: AtSample, desk: AtDesk, who: Reader) -> Response:
    """What the last refit would change."""
    found = desk.learned.get(sample.id)
    since = found is not None and found.state != desk.state(sample.id)
    signed = _is_signed(desk, sample)
    return page("learned.html.j2", who, sample=sample, learned=found, since=since, kept="", signed=signed)


@router.post("/samples/{sample_id}/learn")
def learn(sample: AtSample, desk: AtDesk, _who: FormAuthor) -> Response:
    """Refit the head on the training cells and the reviewed ones."""
    desk.learn(sample.id)
    return RedirectResponse(f"/samples/{sample.id}/learned", 303)


@router.post("/samples/{sample_id}/keep")
def accept(sample: AtSample, desk: AtDesk, who: FormAuthor, actions: Annotated[int, Form()]) -> Response:
    """Save the refitted classifier beside the sample, once; an admin does, who has seen what it would change.

    ``actions`` is the number of those that it has learned from, as the page says.
    """
    if who.role != "admin":
        raise HTTPException(403, "only an admin keeps a classifier")
    found = desk.learned.get(sample.id)
    if found is None:
        raise HTTPException(409, "nothing has been learned from this review since the server started")
    if found.state.actions != actions:
        raise HTTPException(409, "somebody has learned from more labels meanwhile; look at what would change now")
    if _is_signed(desk, sample):
        raise Conflict(f"{sample.name} is signed: what was learned from its review is kept before that")
    with desk.learning:
        name = f"{sample.name}/{keep(found, sample).name}"
    return page("learned.html.j2", who, sample=sample, learned=found, since=False, kept=name, signed=False)


def _is_signed(desk: Desk, sample: Opened) -> bool:
    with desk.store.reading() as session:
        return session.get(Signature, sample.id) is not None


@router.get("/samples/{sample_id}/learned/{which}")
def cells_of(sample: AtSample, desk: AtDesk, who: Reader, view: AtView, which: str) -> Response:
    """The cells that would change, or those most worth a look."""
    found = desk.learned.get(sample.id)
    if found is None or which not in ("changed", "proposed"):
        raise HTTPException(404, "nothing has been learned from this review since the server started")
    rows = found.changed if which == "changed" else found.proposed
    title = "Cells that would change" if which == "changed" else "Cells worth a look"
    with desk.store.reading() as session:
        cells = cells_at(session, sample.id, rows[:A_PAGE].tolist())
        return show_cells(session, desk, sample, who, view, cells, title, "proposal", None)
