"""How requests are signed: a fixed header (bearer, basic, API key), or an OAuth 2.0 token that is fetched and kept.

Tokens are kept in memory of this process for exactly one set of address, form and secret, renewed by one caller at a
time, and never stored; two clients with different credentials never share one. Secrets stand in no message.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from agent.errors import StepError
from agent.failure_types import PERMISSION_DENIED
from agent.services.rest.connections import Reach, http_client
from agent.services.rest.errors import THROTTLED, Service, unreachable, words_of, wrong_credential
from agent.services.rest.waiting import Deadline, retry_after

#: Seconds before its end from which a token counts as expired, and how long one counts of which the end is not told.
EARLY, UNTOLD = 60.0, 300.0
#: Largest answer of a token endpoint in bytes.
_TOKEN_BYTES = 2**20


class Signing(Protocol):
    """What signs requests."""

    def headers(self) -> Mapping[str, str]:
        """Headers of the next request. Raises StepError when signing in is refused, CannotConnect."""

    def refused(self) -> bool:
        """The service did not take them: whether trying again may help, because there will be a new token."""


@dataclass(frozen=True)
class Fixed:
    """Headers that stay the same."""

    given: Mapping[str, str]

    def headers(self) -> Mapping[str, str]:
        """The headers."""
        return self.given

    def refused(self) -> bool:
        """They are no better the second time."""
        return False

    def __repr__(self) -> str:
        return f"Fixed({', '.join(self.given)})"


def unsigned() -> Fixed:
    """For a service that asks for nothing."""
    return Fixed({})


def bearer(service: Service, token: str) -> Fixed:
    """`Authorization: Bearer ...` (RFC 6750)."""
    return api_key(service, token, prefix="Bearer ")


def basic(service: Service, username: str, password: str) -> Fixed:
    """`Authorization: Basic ...` (RFC 7617), in UTF-8. Raises StepError for a user name with a colon."""
    if ":" in username:
        raise wrong_credential(service, "a user name has no colon")
    return Fixed({"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()})


def api_key(service: Service, key: str, *, header: str = "Authorization", prefix: str = "") -> Fixed:
    """A key in a header. Raises StepError for one that cannot stand in a header."""
    if not key.isascii() or not key.isprintable() or key != key.strip() or not key:
        raise wrong_credential(service, "its secret has characters that cannot stand in a header: enter it anew")
    return Fixed({header: prefix + key})


@dataclass(frozen=True)
class Grant:
    """A request for a token. `form`: made anew each time, for an assertion is good for minutes only."""

    url: str
    form: Callable[[], Mapping[str, str]]
    #: Id and secret in `Authorization: Basic` (RFC 6749, 2.3.1); None: they stand in the form, or there are none.
    client: tuple[str, str] | None = None


class Tokens:
    """Gives the tokens of one grant. Safe to use from several threads."""

    def __init__(self, service: Service, settings: Reach, grant: Grant) -> None:
        self._service, self._settings, self._grant = service, settings, grant
        self._lock = threading.Lock()
        self._token: str | None = None
        self._good_until = 0.0

    def headers(self) -> Mapping[str, str]:
        """The token as a bearer token. Raises StepError, CannotConnect."""
        with self._lock:
            if self._token is None or time.monotonic() >= self._good_until:
                answer = self._ask()
                self._token = str(answer["access_token"])
                self._good_until = time.monotonic() + _seconds(answer.get("expires_in")) - EARLY
            return bearer(self._service, self._token).given

    def refused(self) -> bool:
        """Forget the token: the next request gets a new one."""
        with self._lock:
            self._token = None
        return True

    def _ask(self) -> Mapping[str, Any]:
        deadline, grant = Deadline(self._settings.answer_seconds), self._grant
        headers = dict(basic(self._service, *grant.client).given) if grant.client else {}
        headers |= {"Accept": "application/json", "Accept-Encoding": "identity"}
        with http_client(self._settings, keep=False) as http:
            while True:
                asked = None
                try:
                    with http.stream("POST", grant.url, data=dict(grant.form()), headers=headers) as answer:
                        body = _small_json(answer)
                except httpx.RequestError as error:
                    why = type(error).__name__
                else:
                    if answer.is_success and isinstance(body, Mapping) and body.get("access_token"):
                        return body
                    if answer.status_code < 500 and answer.status_code not in THROTTLED:
                        raise self._refusal(answer.status_code, body)
                    why, asked = (
                        f"signing in was answered {answer.status_code}",
                        retry_after(answer.headers.get("Retry-After")),
                    )
                if not deadline.wait(asked):
                    raise unreachable(self._service, why)

    def _refusal(self, status: int, body: Any) -> StepError:
        code, text = words_of(body)
        return StepError(
            f"signing in to {self._service.name} was refused with {status}" + (f" ({code})" if code else "") + (f": {text}" if text else ""),
            type=PERMISSION_DENIED, code=code or str(status), impact=f"Nothing was changed in {self._service.name}.",
            remediation=f"Check id and secret of the credential {self._service.kind}: exeunt credential update",
        )  # fmt: skip


def _small_json(answer: httpx.Response) -> Any:
    content = b""
    for piece in answer.iter_raw():
        content += piece
        if len(content) > _TOKEN_BYTES:
            return None
    try:
        return httpx.Response(200, content=content).json()
    except ValueError:
        return None


def _seconds(value: Any) -> float:
    """The life of a token; a service may leave it out, or write it as text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return UNTOLD


_kept: dict[str, Tokens] = {}
_kept_lock = threading.Lock()


def tokens(service: Service, settings: Reach, grant: Grant, *secret: str) -> Tokens:
    """The tokens of this process for exactly this grant. `secret`: everything that tells one customer from another."""
    parts = [service.name, grant.url, str(settings.ca_file), *(grant.client or ()), *secret]
    key = hashlib.sha256("\0".join(f"{len(p)}:{p}" for p in parts).encode()).hexdigest()
    with _kept_lock:
        if key not in _kept:
            _kept[key] = Tokens(service, settings, grant)
        return _kept[key]
