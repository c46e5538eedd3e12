from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from pydantic import Field

from leukoscope.common.settings import Settings
from leukoscope.review.export import labels_of_review
from leukoscope.review.store.events import MOST_CELLS, Outcome, Source, label_cells, undo
from leukoscope.review.web.desk import AtDesk, AtSample, ScriptAuthor, refuse_blind

router = APIRouter()
Key = Annotated[str, Field(min_length=8, max_length=64)]


class Labelling(Settings):
    """What the page sends: these cells are ``label``, or what the classifier called them where it is None."""

    key: Key
    rows: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=MOST_CELLS)]
    label: int | None
    source: Source


class Undoing(Settings):
    """What the page sends to take its reviewer's last action back."""

    key: Key


class Answer(Settings):
    """Each cell of an action and the label that its reviewer gives it now, None for none."""

    labels: dict[int, int | None]


class Progress(Settings):
    """How far a review has come, in one sentence."""

    words: str


@router.post("/samples/{sample_id}/labels")
def label(sample: AtSample, desk: AtDesk, who: ScriptAuthor, given: Labelling) -> Answer:
    """Record labels; when this answers they are on disk."""
    if desk.blind and given.label is None:
        raise HTTPException(403, "this review is blind: nobody can confirm a call that nobody is shown")
    outcome = label_cells(
        desk.store, sample.id, who.reviewer_id,
        key=given.key, rows=given.rows, label=given.label, source=given.source,
    )  # fmt: skip
    return Answer(labels=outcome.labels)


@router.post("/samples/{sample_id}/undo")
def take_back(sample: AtSample, desk: AtDesk, who: ScriptAuthor, given: Undoing) -> Answer:
    """Take the reviewer's last action back."""
    outcome: Outcome | None = undo(desk.store, sample.id, who.reviewer_id, key=given.key)
    return Answer(labels=outcome.labels if outcome else {})


@router.get("/samples/{sample_id}/progress")
def progress(sample: AtSample, desk: AtDesk) -> Progress:
    """How far the review has come."""
    with desk.store.reading() as session:
        now = desk.standing(session, sample.id)
    count = now.audited
    seen = f"{now.reviewed:,} of {count.n:,} cells reviewed, {count.audited:,} of them in the audit"
    if now.disputed:
        seen += f"; {now.disputed:,} disputed"
    if now.needed:
        return Progress(words=f"{seen}; review {now.needed:,} more cells to sign at ±{100 * sample.precision:g} points")
    return Progress(words=f"{seen}; the count is known to within ±{100 * now.half_width:.1f} points")


@router.get("/samples/{sample_id}/labels.csv", dependencies=[Depends(refuse_blind)])
def export(sample: AtSample, desk: AtDesk, agree: Annotated[int, Query(ge=1, le=99)] = 1) -> Response:
    """The labels that people settled on, as a file."""
    text = labels_of_review(desk.store, sample.id, agree=agree).table.to_csv(index=False)
    return Response(text, media_type="text/csv", headers={"Content-Disposition": "attachment; filename=labels.csv"})
