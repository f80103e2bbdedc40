"""What becomes of errors: one shape for programs (RFC 9457), a page for people, a message in the page for htmx."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from agent.access.principal import Permission, Principal
from agent.content.faults import all_faults
from agent.errors import (
    ClientMismatch,
    Conflict,
    ContentError,
    ExeuntError,
    Forbidden,
    GuardrailRefused,
    ImportRefused,
    MonitorQueryError,
    NotFound,
    NotSignedIn,
    SettingsError,
    StepError,
    StoreError,
    TransportError,
    UsageError,
)  # fmt: skip
from agent.services.backup_stores import StoreUnavailable
from agent.web.problems import Faults, problem
from agent.web.rendering import page

log = structlog.get_logger()
#: Wrong values that an answer names.
MOST_ERRORS = 100
#: The first class that fits counts.
STATUSES: tuple[tuple[type[ExeuntError], int], ...] = (
    (NotSignedIn, 401), (Forbidden, 403), (NotFound, 404), (Conflict, 409), (GuardrailRefused, 409),
    (UsageError, 400), (ClientMismatch, 409),
    (MonitorQueryError, 409), (StepError, 409), (SettingsError, 503), (StoreUnavailable, 503), (TransportError, 503),
    (StoreError, 503), (ExeuntError, 500),
)  # fmt: skip
#: What stands above a fault on a page; programs get the words of HTTP.
_FOR_PEOPLE = {
    400: "This cannot be taken as it is", 403: "You may not do this", 404: "There is nothing here",
    409: "This cannot be done now", 500: "Something went wrong here", 503: "This does not work now",
}  # fmt: skip


def install_handlers(app: FastAPI) -> None:
    """Let every error of a request end here."""
    for kind, handler in (
        (ExeuntError, _on_error), (RequestValidationError, _on_validation), (HTTPException, _on_http),
         (Exception, _on_fault_of_ours),
    ):  # fmt: skip
        app.add_exception_handler(kind, handler)


def answer_to(request: Request, error: ExeuntError) -> Response:
    """What an error of ours is answered with."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    if status == 401 and not request.url.path.startswith("/api/"):
        return _to_sign_in(request)
    detail = str(error)
    if status >= 500:
        # The route, not the path: some paths hold a secret.
        route = getattr(request.scope.get("route"), "path", "(none)")
        log.error("request_failed", route=route, reason=detail, kind=type(error).__name__)
    if isinstance(error, StoreError) and not _administers(request):
        # It names files and what the database said.
        detail = "the server cannot read or write its records now: its log says why; try again later"
    more: dict[str, Any] = {}
    if isinstance(error, GuardrailRefused):
        more["guardrail"] = error.guardrail
    if faults := _faults(error):
        more["errors"] = faults
    return _answer(request, status, detail, **more)


def _administers(request: Request) -> bool:
    principal: Principal | None = getattr(request.state, "principal", None)
    return principal is not None and principal.can(Permission.ADMINISTER)


def _faults(error: ExeuntError) -> list[dict[str, Any]]:
    """The single faults of an error that has several."""
    if isinstance(error, ContentError):
        return [{"where": e.key or "", "line": e.line, "message": e.reason} for e in all_faults(error)]
    if isinstance(error, ImportRefused):
        return [{"where": f.column or "", "line": f.line, "message": f.reason} for f in error.faults]
    return error.faults if isinstance(error, Faults) else []


def _answer(request: Request, status: int, detail: str, **more: Any) -> Response:
    title = HTTPStatus(status).phrase
    if request.url.path.startswith("/api/"):
        return problem(request.url.path, status, title, detail, **more)
    if request.headers.get("hx-request") == "true":
        answer = page(request, "fault_message.html", status=status, detail=detail, errors=more.get("errors", []))
        answer.headers.update({"hx-retarget": "#messages", "hx-reswap": "innerHTML"})
    else:
        answer = page(
            request, "fault.html", title=_FOR_PEOPLE.get(status, title), detail=detail, errors=more.get("errors", []),
            back=_back(request),
        )  # fmt: skip
    answer.status_code = status
    return answer


def _back(request: Request) -> str | None:
    """The page of ours that was left for this one, such as the form that was refused."""
    parts = urlsplit(request.headers.get("referer", ""))
    if not parts.path.startswith("/") or parts.path.startswith("//") or parts.netloc != request.headers.get("host"):
        return None
    return parts.path + (f"?{parts.query}" if parts.query else "")


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ExeuntError)
    return answer_to(request, error)


def _to_sign_in(request: Request) -> Response:
    """To the sign-in, and back afterwards; only a page that was asked for can be returned to."""
    target = "/sign-in"
    if request.method == "GET" and request.url.path != "/":
        target += "?next=" + quote(request.url.path + (f"?{request.url.query}" if request.url.query else ""), safe="/")
    if request.headers.get("hx-request") == "true":
        return Response(status_code=401, headers={"hx-redirect": target})
    return RedirectResponse(target, 303)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The input is left out: it may be a password.
    found = error.errors()
    errors = [{"where": ".".join(map(str, e["loc"]))[:200], "message": e["msg"]} for e in found[:MOST_ERRORS]]
    return _answer(request, 400, f"{len(found)} value(s) are not as they must be", errors=errors)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "there is nothing at this address"
    answer = _answer(request, error.status_code, detail)
    # Such as `Allow` with 405.
    answer.headers.update(error.headers or {})
    return answer


async def _on_fault_of_ours(request: Request, error: Exception) -> Response:
    # The server logs the traceback; whoever asked learns that it was not their fault, and nothing of its inside.
    return _answer(request, 500, "this is a fault of Exeunt: its log says more; nothing was confirmed as done")
