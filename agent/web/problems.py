"""The one shape of an error for programs."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from agent.errors import UsageError


class Faults(UsageError):
    """Several things are wrong with what was asked. Carries each with the place where it stands."""

    def __init__(self, message: str, faults: list[tuple[str, str]]) -> None:
        self.faults = [{"where": where, "message": text} for where, text in faults]
        super().__init__(message)


class TooLarge(HTTPException):
    """The body is larger than the route takes. FastAPI lets this class through; any other becomes a 400 while it reads."""

    def __init__(self, detail: str) -> None:
        super().__init__(413, detail)


def problem(path: str, status: int, title: str, detail: str, **more: Any) -> JSONResponse:
    """An error as RFC 9457 has it. `more`: further members, such as `errors` or `guardrail`."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": path, **more}
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse(body, status, headers, media_type="application/problem+json")
