from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException as StarletteHTTPException

from leukoscope.common.errors import LeukoscopeError
from leukoscope.common.runs import log
from leukoscope.review.store.events import Conflict
from leukoscope.review.web import galleries, images, labels, learning, login, maps, pages
from leukoscope.review.web.desk import Desk, LoginNeeded
from leukoscope.review.web.security import Guard
from leukoscope.review.web.templates import page

_FIELDS = {"low": "dark end", "high": "bright end"}
_FAULTS = {
    "missing": "is needed",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "float_parsing": "give a number",
    "bool_parsing": "give true or false",
    "greater_than_equal": "give {ge} or more",
    "greater_than": "give more than {gt}",
    "less_than_equal": "give {le} or less",
    "less_than": "give less than {lt}",
    "string_too_short": "give {min_length} characters or more",
    "string_too_long": "give {max_length} characters or fewer",
    "enum": "give {expected}",
}
_KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def create_app(desk: Desk, *, hosts: Iterable[str] | None) -> FastAPI:
    """The web application of a review.

    Args:
        desk: the store, the samples, and who may ask.
        hosts: the names that the server answers to; None for any.
    """
    app = FastAPI(title="Leukoscope", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = desk
    for module in (login, pages, galleries, labels, images, learning, maps):
        app.include_router(module.router)
    _serve_static(app)
    app.add_exception_handler(LoginNeeded, _login_first)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(LeukoscopeError, _refused)
    app.add_exception_handler(OperationalError, _refused)
    app.add_exception_handler(DataError, _refused)
    app.add_middleware(Guard, hosts=hosts)
    return app


def _serve_static(app: FastAPI) -> None:
    """Scripts and styles, read once: no path that a client sends is ever looked for on disk."""
    files = {
        each.name: each.read_bytes()
        for folder in (
            resources.files("leukoscope.review") / "static",
            resources.files("leukoscope.report") / "templates",
        )
        for each in folder.iterdir()
        if each.name.rpartition(".")[2] in _KINDS
    }

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such file")
        kind = _KINDS[name.rpartition(".")[2]]
        return Response(files[name], media_type=kind, headers={"Cache-Control": "no-cache"})


def _login_first(request: Request, _error: Exception) -> Response:
    if _wants_page(request):
        return RedirectResponse("/login", 303)
    return JSONResponse({"error": "log in first"}, 401)


def _refused(request: Request, error: Exception) -> Response:
    """One line that says what was wrong, as a page for a person and as JSON for a script."""
    status, words = _told(error)
    if _wants_page(request):
        # Errors of ours may begin with the name of a sample or of a file, which stays as it is.
        sentence = words if isinstance(error, LeukoscopeError) else words[:1].upper() + words[1:]
        return page("refused.html.j2", None, status=status, words=sentence)
    return JSONResponse({"error": words}, status)


def _told(error: Exception) -> tuple[int, str]:
    match error:
        case StarletteHTTPException():
            return error.status_code, str(error.detail)
        case RequestValidationError():
            return 422, _fault(error.errors()[0])
        case Conflict():
            return 409, str(error)
        case OperationalError():
            log.warning("the store cannot be reached: %s", str(error.orig).strip().splitlines()[0])
            return 503, "the store cannot be reached at the moment; try again"
        case DataError():
            # PostgreSQL keeps no NUL in a text, and no number beyond its columns.
            return 400, "the store cannot keep what was sent; leave out what is no writing"
        case _:
            return 400, str(error)


def _fault(found: Mapping[str, Any]) -> str:
    """What is wrong with a field of a form or an address, as the page calls it."""
    field = ".".join(map(str, found["loc"][1:])) or "the request"
    words = _FAULTS.get(found["type"])
    told = found["msg"] if words is None else words.format(**found.get("ctx", {}))
    return f"{_FIELDS.get(field, field)}: {told}"


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
