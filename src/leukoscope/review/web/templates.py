from functools import cache
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment

from leukoscope.report.template import environment
from leukoscope.review.store.accounts import Visitor


def page(template: str, who: Visitor | None, *, status: int = 200, **words: Any) -> HTMLResponse:
    """The page that a template of ``review/templates`` makes of ``words``; each that it asks for must be there."""
    html = _environment().get_template(template).render(who=who, **words)
    return HTMLResponse(html, status_code=status)


@cache
def _environment() -> Environment:
    found = environment("leukoscope.review")
    found.filters["percent"] = lambda value: f"{100 * value:.1f}"
    found.filters["moment"] = lambda value: f"{value:%Y-%m-%d %H:%M} UTC"
    return found
