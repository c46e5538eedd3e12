"""Learn from this review: what a refitted head would change, shown before it is kept."""

from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.responses import RedirectResponse

from leukoscope.review.learning import keep, learn_from_review
from leukoscope.review.store.cells import cells_at
from leukoscope.review.web.desk import AtDesk, AtSample, FormAuthor, Reader, refuse_blind
from leukoscope.review.web.galleries import A_PAGE, AtView, show_cells
from leukoscope.review.web.templates import page

router = APIRouter(dependencies=[Depends(refuse_blind)])


@router.get("/samples/{sample_id}/learned")
def learned(sample: AtSample, desk: AtDesk, who: Reader) -> Response:
    """What the last refit would change."""
    return page("learned.html.j2", who, sample=sample, learned=desk.learned.get(sample.id), kept="")


@router.post("/samples/{sample_id}/learn")
def learn(sample: AtSample, desk: AtDesk, _who: FormAuthor) -> Response:
    """Refit the head on the training cells and the reviewed ones."""
    with desk.store.reading() as session:
        desk.learned[sample.id] = learn_from_review(session, sample)
    return RedirectResponse(f"/samples/{sample.id}/learned", 303)


@router.post("/samples/{sample_id}/keep")
def accept(sample: AtSample, desk: AtDesk, who: FormAuthor) -> Response:
    """Save the refitted classifier beside the sample; an admin does."""
    if who.role != "admin":
        raise HTTPException(403, "only an admin keeps a classifier")
    found = desk.learned.get(sample.id)
    if found is None:
        raise HTTPException(409, "nothing has been learned from this review since the server started")
    name = f"{sample.name}/{keep(found, sample).name}"
    return page("learned.html.j2", who, sample=sample, learned=found, kept=name)


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
