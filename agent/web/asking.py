"""What every page and route is given: the installation, the engine's port, and who asks.

A page or route declares `here: Here`, `port: Port` and `who: Who`; without `Who` it is open to nobody-in-particular,
which only sign-in, health and signed webhooks are. A test goes through all routes and holds that.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request

from agent.access.principal import Principal
from agent.access.sessions import principal_of_session
from agent.access.tokens import principal_of_token
from agent.errors import Forbidden, NotSignedIn
from agent.installation import Installation
from agent.running.engine import EnginePort

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
#: The cookie of a signed-in browser; over https it is bound to the host by its prefix.
COOKIE, SECURE_COOKIE = "exeunt_session", "__Host-exeunt_session"
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
#: What somebody without any role may ask for: the own account.
OF_ONESELF = ("/account", "/sign-out", "/api/v1/me", "/api/v1/tokens")
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def installation_of(request: Request) -> Installation:
    """The installation that is served."""
    return cast(Installation, request.app.state.installation)


def port_of(request: Request) -> EnginePort:
    """The port to the engine."""
    return cast(EnginePort, request.app.state.port)


def is_secure(request: Request) -> bool:
    """Whether the browser came by https, itself or by a trusted proxy."""
    return request.url.scheme == "https"


def cookie_name(request: Request) -> str:
    """Name of the session's cookie on this connection."""
    return SECURE_COOKIE if is_secure(request) else COOKIE


def session_token(request: Request) -> str | None:
    """The token of the browser's session, if it sent one."""
    return request.cookies.get(cookie_name(request))


def csrf_of(token: str) -> str:
    """What a form of this session must send along: nobody who lacks the cookie can make it."""
    return hmac.new(token.encode(), b"exeunt csrf", hashlib.sha256).hexdigest()


async def who_asks(request: Request) -> Principal:
    """The signed-in person, or the token's. Raises NotSignedIn, Forbidden for a form that is not of this session."""
    installation = installation_of(request)
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not request.url.path.startswith("/api/"):
            raise NotSignedIn("only `Authorization: Bearer TOKEN` is taken, and only by the API")
        principal = await _in_thread(principal_of_token, installation, token.strip())
    else:
        cookie = session_token(request)
        if cookie is None:
            raise NotSignedIn("sign in first")
        principal = await _in_thread(principal_of_session, installation, cookie)
        await _check_csrf(request, cookie)
    request.state.principal = principal
    if not principal.grants and not request.url.path.startswith(OF_ONESELF):
        raise Forbidden("you have no role here yet: an administrator can give you one")
    return principal


async def _check_csrf(request: Request, token: str) -> None:
    if request.method in SAFE_METHODS:
        return
    given: object = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").partition(";")[0] in FORMS:
        given = (await request.form()).get(CSRF_FIELD)
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), csrf_of(token).encode()):
        raise Forbidden("this form is not of your present session: load the page again and repeat it")


async def _in_thread(find: object, installation: Installation, token: str) -> Principal:
    from starlette.concurrency import run_in_threadpool

    return cast(Principal, await run_in_threadpool(find, installation, token))  # type: ignore[arg-type]


Here = Annotated[Installation, Depends(installation_of)]
Port = Annotated[EnginePort, Depends(port_of)]
Who = Annotated[Principal, Depends(who_asks)]
