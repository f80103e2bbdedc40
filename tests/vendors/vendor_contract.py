"""A vendor's OpenAPI file in front of a test system: every request and every answer is held to it.

The files are data that lie beside the project (`../shared/specs`) and are never copied into it. Where one is absent, the
tests that need it are skipped and say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest

SPECS = Path(__file__).parents[3] / "shared" / "specs"


@dataclass(frozen=True)
class Contract:
    """One vendor's file. `server`: the address that the file gives for the vendor, `prefix`: the path in that address."""

    file: str
    server: str
    prefix: str = ""
    #: The file describes a way to sign in that the vendor has ended; requests are not held to it.
    old_sign_in: bool = False

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return SPECS / self.file

    def require(self) -> None:
        """Skip where the file is not at hand."""
        if not self.path.exists():
            pytest.skip(f"the vendor's contract is not here: {self.path}")

    def violations(self, asked: Message, answered: Message, *, injected: bool = False) -> list[str]:
        """What a request and its answer break, in words.

        `injected`: the answer is a fault that the test asked for; one that the vendor does not describe is let through.
        """
        return list(_checked(self, asked, answered, injected))


@dataclass(frozen=True)
class Message:
    """A request, or an answer (then `method` and `path` are empty and `status` is not 0)."""

    content_type: str = ""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = ""
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()
    status: int = 0


@cache
def _loaded(path: Path, old_sign_in: bool) -> Any:
    import yaml
    from openapi_core import OpenAPI

    spec = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    if old_sign_in:
        _drop_sign_in(spec)
    _drop_empty_content(spec)
    return OpenAPI.from_dict(spec)


def _drop_sign_in(spec: Any) -> None:
    """Requirements of security, and tokens among the parameters."""
    spec.pop("security", None)
    for path in spec["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict):
                operation.pop("security", None)
                given = operation.get("parameters", [])
                operation["parameters"] = [p for p in given if p.get("name") not in ("token", "access_token")]


def _drop_empty_content(part: Any) -> None:
    """`content: {}` says that there is no body; the library takes it for a body that is missing."""
    if isinstance(part, dict):
        if part.get("content") == {}:
            del part["content"]
        if isinstance(part.get("204"), dict):
            # Some describe a body of an answer that cannot have one (RFC 9110, 15.3.5).
            part["204"].pop("content", None)
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        _drop_empty_content(each)


@lru_cache(maxsize=20_000)
def _checked(contract: Contract, asked: Message, answered: Message, injected: bool) -> tuple[str, ...]:
    """The same exchange is checked once in a session."""
    from openapi_core.exceptions import OpenAPIError
    from openapi_core.templating.responses.exceptions import ResponseNotFound
    from openapi_core.testing import MockRequest, MockResponse

    api = _loaded(contract.path, contract.old_sign_in)
    request = MockRequest(
        contract.server, asked.method.lower(), contract.prefix + asked.path, args=list(asked.query),  # type: ignore[arg-type]
        headers=dict(asked.headers), data=asked.body or None, content_type=asked.content_type,
    )  # fmt: skip
    found = []
    try:
        api.validate_request(request)
    except OpenAPIError as error:
        found.append(f"request {asked.method} {asked.path} {dict(asked.query)}: {_reasons(error)}")
    response = MockResponse(answered.body, answered.status, dict(answered.headers), content_type=answered.content_type)
    try:
        api.validate_response(request, response)
    except ResponseNotFound as error:
        if not injected:
            found.append(f"answer {answered.status} to {asked.method} {asked.path}: {error}")
    except OpenAPIError as error:
        found.append(f"answer {answered.status} to {asked.method} {asked.path}: {_reasons(error)}")
    return tuple(found)


def _reasons(error: Exception) -> str:
    causes: Iterable[Any] = getattr(error.__cause__, "schema_errors", None) or [error.__cause__]
    return f"{error}: " + "; ".join(str(getattr(c, "message", c)) for c in causes)[:600]


def sorted_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers without those that differ from run to run and that no contract names."""
    skipped = {"host", "content-length", "date", "server", "user-agent", "connection", "accept-encoding"}
    return tuple(sorted((k, v) for k, v in headers.items() if k.lower() not in skipped))
