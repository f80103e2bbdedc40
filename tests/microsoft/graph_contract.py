"""Graph's contract, as the vendor publishes it, in front of the test tenant: every request and every answer is held to it."""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest

SPEC = Path(__file__).parents[3] / "shared" / "specs" / "graph-offboarding.openapi.yaml"
#: Calls that the contract does not have (it is a part of v1.0): their shapes are our reading of the manuals.
OUTSIDE = ("/admin/teams/telephoneNumberManagement/", "/sites/getAllSites")
OUTSIDE_ENDS = ("/children",)
#: Likewise, of a path that the contract has with other methods only.
OUTSIDE_CALLS = (
    re.compile(r"POST /users/[^/]+/calendar/calendarPermissions"),
    re.compile(r"(POST|PATCH) /teams/[^/]+/members(/[^/]+)?"),
    re.compile(r"[A-Z]+ /teams/[^/]+/channels(/.*)?"),
    re.compile(r"GET /users/[^/]+/mailFolders(/[^/]+/(childFolders|messages))?"),
    re.compile(r"GET /users/[^/]+/messages/[^/]+/\$value"),
    re.compile(r"GET /users/delta"),
    re.compile(r"GET /groups/[^/]+/sites/root"),
    re.compile(r"POST /roleManagement/directory/roleAssignments"),
)


def require() -> None:
    """Skip where the contract is not at hand; it is data that is never copied into the project."""
    if not SPEC.exists():
        pytest.skip(f"the contract of Microsoft Graph is not here: {SPEC}")


@cache
def _contract() -> Any:
    import yaml
    from openapi_core import OpenAPI

    return OpenAPI.from_dict(yaml.load(SPEC.read_text(encoding="utf-8"), yaml.CSafeLoader))


def violations(method: str, path: str, query: dict[str, str], body: Any, status: int, answer: Any) -> list[str]:
    """What a request and its answer break, in words."""
    if path.startswith(OUTSIDE) or path.endswith(OUTSIDE_ENDS):
        return []
    if any(call.fullmatch(f"{method} {path}") for call in OUTSIDE_CALLS):
        return []
    return list(
        _checked(method, path, *(json.dumps(v, sort_keys=True) for v in (query, body)), status, json.dumps(answer))
    )


@lru_cache(maxsize=20_000)
def _checked(method: str, path: str, query_text: str, body_text: str, status: int, answer_text: str) -> tuple[str, ...]:
    """The same message is checked once in a session."""
    query, body, answer = json.loads(query_text), json.loads(body_text), json.loads(answer_text)
    from openapi_core.exceptions import OpenAPIError
    from openapi_core.testing import MockRequest, MockResponse

    data = None if body is None else json.dumps(body).encode()
    request = MockRequest(
        "https://graph.microsoft.com", method.lower(), "/v1.0" + path, args=query, data=data,
        content_type="application/json", headers={"Authorization": "Bearer x"},
    )  # fmt: skip
    found = []
    try:
        _contract().validate_request(request)
    except OpenAPIError as error:
        found.append(f"request {method} {path} {query}: {_reasons(error)}")
    given = b"" if answer is None else json.dumps(answer).encode()
    try:
        _contract().validate_response(request, MockResponse(given, status, content_type="application/json"))
    except OpenAPIError as error:
        found.append(f"answer {status} to {method} {path}: {_reasons(error)}")
    return tuple(found)


def _reasons(error: Exception) -> str:
    causes = getattr(error.__cause__, "schema_errors", None) or [error.__cause__]
    return f"{error}: " + "; ".join(str(getattr(c, "message", c)) for c in causes)[:600]


@cache
def _permissions() -> list[tuple[str, re.Pattern[str], frozenset[str]]]:
    """Method, path and application permissions of every operation of the contract that names some."""
    import yaml

    found = []
    for path, item in yaml.load(SPEC.read_text(encoding="utf-8"), yaml.CSafeLoader)["paths"].items():
        pattern = re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)))
        for method, operation in item.items():
            named = operation.get("x-ms-permissions", {}) if isinstance(operation, dict) else {}
            if named.get("Application"):
                found.append((method.upper(), pattern, frozenset(named["Application"])))
    return found


def permissions(call: str) -> frozenset[str] | None:
    """Application permissions of which one suffices for `METHOD /path`; None: the contract names none."""
    method, _, path = call.partition(" ")
    return next((names for verb, pattern, names in _permissions() if verb == method and pattern.fullmatch(path)), None)
