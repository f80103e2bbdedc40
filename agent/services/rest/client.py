"""One REST service, open for one step: sends calls, repeats only what may be repeated, and gives lists page by page.

429 and 503 say that nothing was done, so any request may be repeated after `Retry-After` (RFC 6585, 4; RFC 9110, 15.6.4).
After another 5xx or a lost answer only a request that may be done twice is repeated; else its outcome is unknown and the
caller must ask. A redirect is followed for questions and within the service's own host only: elsewhere the credential
would go with it.
"""

from __future__ import annotations

import json as jsons
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

import httpx

from agent.errors import UsageError
from agent.failure_types import INTEGRATION_ERROR
from agent.services.rest.connections import http_client, user_agent
from agent.services.rest.errors import THROTTLED, RestRefused, Service, answer_lost, refusal, unexpected, unreachable
from agent.services.rest.paging import Page, Paging, origin
from agent.services.rest.settings import RestSettings
from agent.services.rest.signing import Signing
from agent.services.rest.waiting import Deadline, retry_after

#: Pages after which a list is taken to have no end, and redirects that are followed.
PAGES, HOPS = 2000, 4
#: Methods that may be done twice with the same effect (RFC 9110, 9.2.2).
_REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Upload:
    """A file that is sent as `multipart/form-data`."""

    field: str
    filename: str
    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class Call:
    """One call. `path` begins with `/` and its parts are quoted (`path_of`); it is appended to the service's address."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None
    upload: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: None: by the method. PATCH and POST may be repeated only when that is said.
    may_repeat: bool | None = None
    #: A POST that only asks.
    question: bool = False

    @property
    def reads(self) -> bool:
        """It changes nothing."""
        return self.method in ("GET", "HEAD") or self.question

    @property
    def repeatable(self) -> bool:
        """Whether doing it twice does no harm."""
        return self.reads or (self.method in _REPEATABLE if self.may_repeat is None else self.may_repeat)

    @property
    def doing(self) -> str:
        """What it is called in messages and previews."""
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        return f"{self.method} {self.path}" + (f"?{query}" if query else "")


def path_of(*parts: str) -> str:
    """A path of parts, each quoted, so that no part can reach another resource. Raises UsageError for `.`, `..` and ""."""
    if any(part in ("", ".", "..") for part in parts):
        raise UsageError("a part of an address is empty, `.` or `..`: check the ids that the step is given")
    return "".join("/" + quote(part, safe="") for part in parts)


@dataclass(frozen=True)
class Answer:
    """What came back, at most `answer_bytes` of it."""

    status: int
    headers: httpx.Headers
    content: bytes
    url: str

    @property
    def json(self) -> Any:
        """The decoded body, None when it is no JSON."""
        try:
            return jsons.loads(self.content) if self.content else None
        except ValueError:
            return None

    @property
    def success(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300


class _TooLong(Exception):
    """The answer is longer, or takes longer, than the settings allow."""


class RestClient:
    """Use as a context manager. `run_id` is named to the service, whose logs show it."""

    def __init__(self, service: Service, settings: RestSettings, signing: Signing, *, run_id: str) -> None:
        self.service, self.settings, self._signing = service, settings, signing
        self._http = http_client(settings, user_agent(run_id))
        #: Whether a change was accepted, or may have been: what fails after it leaves the outcome unknown.
        self.wrote = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def send(self, call: Call, *, expect: tuple[int, ...] = ()) -> Answer:
        """Send, and give the answer if it is a success (2xx, or a status of `expect`).

        Raises RestRefused for a refusal, AnswerLost when it may have been carried out, CannotConnect when it was not
        sent, StepError when signing in is refused or the answer of a question is too long.
        """
        return self._send(call, self.settings.url + call.path, call.query, expect)

    def json(self, call: Call) -> Any:
        """Send, and give the decoded body, None when there is none. Raises as `send` does, and for what is no JSON."""
        return self._decoded(call, self.send(call))

    def object(self, call: Call) -> Mapping[str, Any]:
        """Send, and give the JSON object; {} when there is no body. Raises as `json` does."""
        body = self.json(call)
        if body is None or isinstance(body, dict):
            return body or {}
        raise self._nonsense(call, "something that is no JSON object")

    def all(self, call: Call, paging: Paging) -> list[Any]:
        """Every entry of a list."""
        return [entry for page in self.pages(call, paging) for entry in page]

    def pages(self, call: Call, paging: Paging) -> Iterator[list[Any]]:
        """A list page by page. Raises as `json`, and for a next page on another host or a list without an end."""
        url, query, before = self.settings.url + call.path, dict(call.query), 0
        seen: set[str] = set()
        while True:
            answer = self._send(call, url, query, ())
            body = self._decoded(call, answer)
            entries = paging.entries_of(body)
            if entries is None:
                raise self._nonsense(call, "no list")
            yield entries
            page = Page(
                url=url, query=query, body=body, entries=len(entries), before=before,
                link=", ".join(answer.headers.get_list("link")),
            )  # fmt: skip
            following = paging.following(page)
            if following is None:
                return
            before += len(entries)
            mark = repr(following)
            if mark in seen or len(seen) >= PAGES:
                raise unexpected(self.service, f"the list of {call.doing} has no end")
            seen.add(mark)
            url, query = (self._own(following, call), {}) if isinstance(following, str) else (url, dict(following))

    # --- one call

    def _send(self, call: Call, url: str, query: Mapping[str, str], expect: tuple[int, ...]) -> Answer:
        deadline, renewed = Deadline(self.settings.call_seconds), False
        while True:
            headers = {**call.headers, **self._signing.headers()}
            asked: float | None = None
            try:
                answer = self._once(call, url, query, headers)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                failure: Exception = unreachable(self.service, type(error).__name__)
            except (httpx.RequestError, httpx.InvalidURL, _TooLong) as error:
                self.wrote |= not call.reads
                if isinstance(error, _TooLong) and call.reads:
                    raise unexpected(self.service, f"{call.doing} was answered with too much: {error}") from None
                why = str(error) if isinstance(error, _TooLong) else type(error).__name__
                failure = answer_lost(self.service, call.doing, why, question=call.reads)
                if not call.repeatable:
                    raise failure from None
            else:
                accepted = self._is_success(answer, expect)
                self.wrote |= (
                    not call.reads
                    and (accepted or answer.status >= 500 or answer.status == 303)
                    and answer.status != 503
                )
                if accepted:
                    return answer
                if answer.status == 401 and not renewed and self._signing.refused():
                    renewed = True
                    continue
                failure, asked = self._judged(answer, call)
            if not deadline.wait(asked):
                raise failure from None

    def _is_success(self, answer: Answer, expect: tuple[int, ...]) -> bool:
        if answer.status in expect:
            return True
        return answer.success and not self.service.refuses(answer.json)

    def _once(self, call: Call, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        for _ in range(HOPS):
            answer = self._read(call, url, query, headers)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location or call.method not in ("GET", "HEAD"):
                return answer
            url, query = self._own(urljoin(answer.url, location), call), {}
        raise unexpected(self.service, f"{call.doing} is redirected again and again")

    def _read(self, call: Call, url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        limit, until = self.settings.answer_bytes, time.monotonic() + 2 * self.settings.answer_seconds
        file = call.upload
        files = {file.field: (file.filename, file.content, file.content_type)} if file else None
        with self._http.stream(
            call.method, url, params=dict(query) or None, json=call.json, data=dict(call.form) if call.form is not None else None,
            files=files, headers={"Accept": "application/json", "Accept-Encoding": "identity", **headers},
        ) as answer:  # fmt: skip
            content = bytearray()
            for piece in answer.iter_raw():
                content += piece
                if len(content) > limit:
                    raise _TooLong(f"more than {limit} bytes")
                if time.monotonic() > until:
                    raise _TooLong(f"it took more than {2 * self.settings.answer_seconds:.0f} seconds")
            return Answer(answer.status_code, answer.headers, bytes(content), str(answer.url))

    def _judged(self, answer: Answer, call: Call) -> tuple[Exception, float | None]:
        """The error to raise when there is no time for another attempt. Raises it when there is no use in one."""
        asked = retry_after(answer.headers.get("Retry-After"))
        if answer.status in _REDIRECTS:
            raise self._redirected(answer, call)
        refused = refusal(self.service, call.doing, answer.status, answer.json, asked)
        if answer.status in THROTTLED or (refused.passing and answer.status < 500):
            return refused, asked
        if answer.status < 500:
            raise refused
        failure: Exception = (
            refused if call.reads else answer_lost(self.service, call.doing, f"it answered {answer.status}")
        )
        if not call.repeatable:
            raise failure
        return failure, asked

    def _redirected(self, answer: Answer, call: Call) -> Exception:
        """A change that is redirected: 303 says that it was done and where to look, the others that it was not."""
        if answer.status == 303:
            return answer_lost(self.service, call.doing, "it answered 303")
        host = urlsplit(answer.headers.get("Location", "")).hostname or "another address"
        return RestRefused(
            f"{self.service.name} redirects {call.doing} to {host}, which is not followed", type=INTEGRATION_ERROR,
            status=answer.status, code="redirected", missing=False, passing=False,
            remediation=f"Write the service's own address into the credential {self.service.kind}.",
        )  # fmt: skip

    def _own(self, url: str, call: Call) -> str:
        """An address that is on the service's own host. Raises StepError for another: it would get the credential."""
        try:
            if origin(url) == origin(self.settings.url):
                return url
            host = urlsplit(url).hostname
        except ValueError:
            host = "no address"
        raise unexpected(self.service, f"{call.doing} leads to another host, which is refused: {host}")

    def _decoded(self, call: Call, answer: Answer) -> Any:
        if not answer.content.strip():
            return None
        body = answer.json
        if body is None and answer.content.strip() != b"null":
            raise self._nonsense(call, "something that is no JSON")
        return body

    def _nonsense(self, call: Call, what: str) -> Exception:
        """The error of an answer that cannot be read: of a change, whether it was done is not known."""
        if call.reads:
            return unexpected(self.service, f"{call.doing} was answered with {what}")
        return answer_lost(self.service, call.doing, f"it was answered with {what}")
