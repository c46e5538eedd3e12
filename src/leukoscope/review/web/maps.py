"""The map: draw an outline around cells, name it, and find the same gate on other samples."""

from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Form, HTTPException, Query, Response
from fastapi.responses import RedirectResponse
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from leukoscope.common.errors import InputError
from leukoscope.review.opened import Opened
from leukoscope.review.store.cells import cells_at
from leukoscope.review.store.events import Conflict
from leukoscope.review.store.models import Gate
from leukoscope.review.web.desk import AtDesk, AtSample, FormAuthor, Reader, Row, refuse_blind
from leukoscope.review.web.galleries import A_PAGE, AtView, show_cells
from leukoscope.review.web.templates import page

router = APIRouter(dependencies=[Depends(refuse_blind)])
Start = Annotated[int, Query(ge=0, lt=2**31)]
_MOST_POINTS = 20_000
_CORNERS = 3, 2000
_OUTLINE = TypeAdapter(list[tuple[float, float]])


@router.get("/samples/{sample_id}/map")
def map_page(sample: AtSample, desk: AtDesk, who: Reader) -> Response:
    """The map of a sample, with its gates and what lies inside them."""
    with desk.store.reading() as session:
        found = session.scalars(select(Gate).where(Gate.space == sample.map.space).order_by(Gate.name)).all()
        gates = [(gate, _composition(sample, gate)) for gate in found]
    return page("map.html.j2", who, sample=sample, gates=gates)


@router.get("/samples/{sample_id}/points.json")
def points(sample: AtSample) -> dict[str, Any]:
    """Where cells lie and what they were called; of many, as many as a page can draw, by chance."""
    rows = np.sort(sample.queue[:_MOST_POINTS])
    return {
        "corners": sample.map.corners,
        "points": sample.map.points[rows].round(3).tolist(),
        "called": sample.predicted[rows].tolist(),
    }


@router.post("/samples/{sample_id}/gates")
def add_gate(
    sample: AtSample,
    desk: AtDesk,
    who: FormAuthor,
    name: Annotated[str, Form(min_length=1, max_length=60)],
    outline: Annotated[str, Form()],
) -> Response:
    """Keep an outline under a name, for every sample that the same classifier called."""
    name, corners = name.strip(), _parsed(outline)
    if not name:
        raise InputError("gate: give it a name")
    with desk.store.writing() as session:
        if session.scalar(select(Gate.id).where(Gate.space == sample.map.space, Gate.name == name)) is not None:
            raise Conflict(f"gate {name}: there is one of that name already")
        gate = Gate(name=name, space=sample.map.space, reviewer_id=who.reviewer_id, time=datetime.now(UTC),
                    outline=[list(corner) for corner in corners])  # fmt: skip
        session.add(gate)
        session.flush()
        return RedirectResponse(f"/samples/{sample.id}/gates/{gate.id}", 303)


@router.get("/samples/{sample_id}/gates/{gate_id}")
def gate_page(
    sample: AtSample,
    desk: AtDesk,
    who: Reader,
    view: AtView,
    gate_id: Row,
    start: Start = 0,
) -> Response:
    """The cells inside a gate, the doubtful first."""
    with desk.store.reading() as session:
        gate = _gate(session, sample, gate_id)
        rows = _inside(sample, gate)
        doubt = sample.sample.table["doubt"].to_numpy()[rows]
        rows = rows[np.argsort(-doubt, kind="stable")]
        start = max(0, start)
        cells = cells_at(session, sample.id, rows[start : start + A_PAGE].tolist())
        following = {"start": start + A_PAGE} if start + A_PAGE < len(rows) else None
        title = f"Gate {gate.name}: {len(rows):,} cells"
        return show_cells(session, desk, sample, who, view, cells, title, "map", following)


def _gate(session: Session, sample: Opened, gate_id: int) -> Gate:
    gate = session.get(Gate, gate_id)
    if gate is None or gate.space != sample.map.space:
        raise HTTPException(404, f"gate {gate_id}: there is none on the map of {sample.name}")
    return gate


def _inside(sample: Opened, gate: Gate) -> np.ndarray:
    """Rows of the cells that count and lie inside a gate."""
    rows = sample.map.inside(gate.outline)
    inside: np.ndarray = rows[sample.counted[rows]]
    return inside


def _composition(sample: Opened, gate: Gate) -> list[int]:
    rows = _inside(sample, gate)
    return [int(count) for count in np.bincount(sample.predicted[rows], minlength=len(sample.classes))]


def _parsed(outline: str) -> list[tuple[float, float]]:
    try:
        corners = _OUTLINE.validate_json(outline)
    except ValidationError:
        raise InputError("outline: draw one on the map") from None
    if not _CORNERS[0] <= len(corners) <= _CORNERS[1] or not np.isfinite(corners).all():
        raise InputError(f"outline: needs {_CORNERS[0]} to {_CORNERS[1]:,} corners; draw it on the map")
    return corners
