from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response

from leukoscope.review.web.desk import AtDesk, AtSample, Row

router = APIRouter()


@router.get("/samples/{sample_id}/cells/{row}.png")
def thumbnail(
    request: Request,
    sample: AtSample,
    row: Row,
    low: Annotated[float, Query(ge=0, le=99)] = 0,
    high: Annotated[float, Query(gt=0, le=100)] = 100,
    zoom: Annotated[int, Query(ge=1, le=4)] = 1,
    v: str = "",
) -> Response:
    """A cell as it was acquired, by the intensity rule of its set; ``low`` and ``high`` narrow it, in percent of it.

    Large images come with as many of their pixels as a page shows that enlarges them by ``zoom``.
    """
    if not 0 <= row < len(sample.predicted):
        raise HTTPException(404, f"cell {row}: the sample has no such cell")
    if not low < high:
        raise HTTPException(422, "low must be below high")
    tag = f'"{sample.pixels_mark}-{row}-{low:g}-{high:g}-{zoom}"'
    # An address that names the pixels will always show the same.
    lasts = v == sample.pixels_mark
    headers = {"ETag": tag, "Cache-Control": f"private, {'max-age=31536000, immutable' if lasts else 'no-cache'}"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(sample.thumbnail(row, low, high, zoom), media_type="image/png", headers=headers)


@router.get("/samples/{sample_id}/cells/{row}/heat.png")
def heat(sample: AtSample, desk: AtDesk, row: Row) -> Response:
    """Where in a cell the evidence for its predicted class lies."""
    if desk.blind:
        raise HTTPException(403, "this review is blind; heat would tell what the cell was called")
    if not 0 <= row < len(sample.predicted):
        raise HTTPException(404, f"cell {row}: the sample has no such cell")
    return Response(sample.heat(row), media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})
