from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from leukoscope.review.store.accounts import LoginRefused, TooManyAttempts, log_in, log_out
from leukoscope.review.web.desk import COOKIE, AtDesk, FormAuthor
from leukoscope.review.web.templates import page

router = APIRouter()


@router.get("/login")
def login_page(desk: AtDesk) -> Response:
    """Where people log in."""
    return RedirectResponse("/", 303) if desk.local else page("login.html.j2", None, fault="")


@router.post("/login")
def login(
    request: Request, desk: AtDesk, name: Annotated[str, Form(max_length=80)], password: Annotated[str, Form()]
) -> Response:
    """Begin a session; a cookie holds its token, which scripts cannot read and other sites cannot send."""
    address = request.client.host if request.client else "unknown"
    try:
        token = log_in(desk.store, name, password, address)
    except LoginRefused as error:
        return page("login.html.j2", None, status=403, fault=str(error))
    except TooManyAttempts as error:
        return page("login.html.j2", None, status=429, fault=str(error))
    answer = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/logout")
def logout(request: Request, desk: AtDesk, _who: FormAuthor) -> Response:
    """End the session."""
    log_out(desk.store, request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer
