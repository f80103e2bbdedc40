"""Signing in by password or OpenID Connect, and signing out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody
from pydantic import StringConstraints

from agent.access import openid, sessions, users
from agent.access.sign_in import sign_in
from agent.errors import ExeuntError, NotSignedIn
from agent.installation import Installation
from agent.web.asking import Here, Who, cookie_name, is_secure, session_token
from agent.web.forms import Form
from agent.web.rendering import page, redirect, with_query

router = APIRouter()
#: What a sign-in at the identity provider must bring back, and where it leads.
OPENID_COOKIE, NEXT_COOKIE = "exeunt_openid", "exeunt_next"
OPENID_SECONDS = 900
#: Blanks belong to a password.
Password = Annotated[str, StringConstraints(strip_whitespace=False, max_length=2000)]


class SignIn(Form):
    """`code` only counts for those who have an authenticator app."""

    name: str = ""
    password: Password = ""
    code: str = ""
    next: str = "/"


@router.get("/sign-in")
def show_sign_in(request: Request, here: Here, next: str = "/") -> Response:
    """The form; somebody who is signed in is sent on."""
    token = session_token(request)
    if token is not None:
        try:
            sessions.principal_of_session(here, token)
        except NotSignedIn:
            pass
        else:
            return redirect(request, own_address(next))
    return _form(request, here, next)


@router.post("/sign-in")
def take_sign_in(request: Request, here: Here, form: Annotated[SignIn, FormBody()]) -> Response:
    """A session for the right name, password and code; else the form again, with one message for all reasons."""
    try:
        token = sign_in(here, form.name, form.password, form.code, address_of(request))
    except NotSignedIn as error:
        return _form(request, here, form.next, name=form.name, wrong=str(error))
    return signed_in(request, token, form.next)


@router.get("/sign-in/openid")
def start_openid(request: Request, here: Here, next: str = "/") -> Response:
    """To the identity provider. No form: the policy would not let one lead to another site."""
    try:
        url, kept = openid.begin(here, back_address(request, here))
    except ExeuntError as error:
        return _form(request, here, next, wrong=str(error))
    answer = redirect(request, url)
    for name, value in ((OPENID_COOKIE, kept), (NEXT_COOKIE, quote(own_address(next)))):
        answer.set_cookie(
            name, value, OPENID_SECONDS, path="/sign-in", httponly=True, samesite="lax", secure=is_secure(request)
        )
    return answer


@router.get("/sign-in/openid/back")
def finish_openid(request: Request, here: Here) -> Response:
    """From the identity provider, with its answer in the query."""
    then = unquote(request.cookies.get(NEXT_COOKIE, "/"))
    kept = request.cookies.get(OPENID_COOKIE, "")
    try:
        token = openid.finish(here, kept, dict(request.query_params), address_of(request))
    except ExeuntError as error:
        answer = _form(request, here, then, wrong=str(error))
    else:
        answer = signed_in(request, token, then)
    for name in (OPENID_COOKIE, NEXT_COOKIE):
        answer.delete_cookie(name, path="/sign-in")
    return answer


@router.post("/sign-out")
def take_sign_out(request: Request, here: Here, who: Who) -> Response:
    """End this session."""
    sessions.sign_out(here, session_token(request) or "")
    answer = redirect(request, "/sign-in", said="You are signed out.")
    answer.delete_cookie(cookie_name(request), secure=is_secure(request), httponly=True)
    return answer


def signed_in(request: Request, token: str, then: str) -> Response:
    """The session's cookie, and on to a page of ours. It ends with the browser, or in the database."""
    answer = redirect(request, own_address(then))
    answer.set_cookie(cookie_name(request), token, httponly=True, samesite="lax", secure=is_secure(request))
    return answer


def own_address(given: str) -> str:
    """A path of this server, `/` for anything that leads elsewhere: a link to the sign-in may come from anybody."""
    # A browser reads `//`, and `/` with a backslash, as the start of a host.
    is_ours = given.startswith("/") and not given.startswith("//") and "\\" not in given and given.isprintable()
    return given if is_ours else "/"


def address_of(request: Request) -> str:
    """The browser's address, or that of the proxy before it."""
    return request.client.host if request.client else "unknown"


def back_address(request: Request, here: Installation) -> str:
    """Our own address that is registered at the identity provider."""
    base = here.settings.public_url or str(request.base_url).rstrip("/")
    return f"{base}/sign-in/openid/back"


def _form(request: Request, here: Installation, then: str, *, name: str = "", wrong: str | None = None) -> Response:
    with here.database.reading() as session:
        anybody = users.are_there_any(session)
    openid_address = (
        with_query("/sign-in/openid", next=own_address(then)) if openid.is_configured(here.settings) else None
    )
    answer = page(
        request, "sign_in.html", name=name, next=own_address(then), wrong=wrong, openid=openid_address, anybody=anybody
    )
    answer.status_code = 200 if wrong is None else 401
    return answer
