"""Requests as a step describes them. Whatever a value holds, it becomes one part of a path, one value of a query or one JSON
value: it is never read as the syntax of any of them.

All values of a script are text. In a body, `{number: "5"}`, `{boolean: "false"}` and `{nothing: ""}` give the other types of
JSON, `{found: id}` the value at that place of what was found, and `{object: {...}}` an object that would read as one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from agent.errors import StepError, UsageError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR
from agent.services.rest.client import Answer, Call, RestClient, path_of
from agent.services.rest.errors import unexpected
from agent.services.rest.paging import BodyPath, Paging, Whole, at

#: Headers that belong to the connection or to signing in.
_RESERVED = frozenset(
    (
        "authorization", "proxy-authorization", "cookie", "host", "connection", "content-length", "transfer-encoding", "te",
        "trailer", "upgrade", "user-agent", "accept-encoding",
    )
)  # fmt: skip
_TYPED = ("number", "boolean", "nothing", "found", "object")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,18})?")
#: Characters of a value that a result keeps.
KEPT = 500
Found = Mapping[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Condition(_Part):
    """What must be so in an answer: its status, or a value at a place of its body. Exactly one comparison."""

    #: Place in the body, such as `user.status`; without it the status of the answer is meant.
    at: BodyPath | None = None
    is_: str | None = Field(None, alias="is")
    is_not: str | None = None
    in_: tuple[str, ...] | None = Field(None, alias="in")
    #: Whether there is a value (not null, not an empty text or list).
    present: bool | None = None
    #: Upper and lower case count as the same, as in mail addresses.
    ignore_case: bool = False

    @model_validator(mode="after")
    def _one(self) -> Condition:
        if sum(c is not None for c in (self.is_, self.is_not, self.in_, self.present)) != 1:
            raise ValueError("a condition takes exactly one of `is`, `is_not`, `in`, `present`")
        return self

    def holds(self, body: Any, status: int | None = None) -> bool:
        """Whether it holds for the body of an answer, or for one entry of a list."""
        value = status if self.at is None else at(body, self.at)
        if self.present is not None:
            return (value not in (None, "", [], {})) == self.present
        text, fold = as_text(value), (str.casefold if self.ignore_case else str)
        if self.is_ is not None:
            return fold(text) == fold(self.is_)
        if self.is_not is not None:
            return fold(text) != fold(self.is_not)
        return fold(text) in [fold(w) for w in self.in_ or ()]

    def __str__(self) -> str:
        what = self.at or ("the status" if self.at is None else "the body")
        if self.present is not None:
            return f"{what} is {'there' if self.present else 'absent'}"
        if self.is_ is not None:
            return f"{what} is {self.is_}"
        return (
            f"{what} is not {self.is_not}"
            if self.is_not is not None
            else f"{what} is one of {', '.join(self.in_ or ())}"
        )


def as_text(value: Any) -> str:
    """A value of JSON as conditions compare it: a text as it is, anything else as JSON writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


#: A text, or `{found: place}`.
Value = str | dict[str, Any]


class Asking(_Part):
    """A request."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    #: Parts of the path below the address, each quoted.
    path: tuple[Value, ...] = Field(min_length=1, max_length=20)
    query: dict[str, Value] = Field(default_factory=dict)
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,60}$")], str] = Field(default_factory=dict)
    #: JSON body.
    body: dict[str, Any] | list[Any] | None = None
    #: Form instead of a body.
    form: dict[str, Value] | None = None

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if name.lower() in _RESERVED:
                raise ValueError(f"the header {name} is not a step's to set")
            if not text.isascii() or not text.isprintable():
                raise ValueError(f"the header {name} has characters that cannot stand in a header")
        return value

    @model_validator(mode="after")
    def _one_body(self) -> Asking:
        if self.body is not None and self.form is not None:
            raise ValueError("a request takes either `body` or `form`")
        return self

    def call(self, found: Found | None, *, may_repeat: bool | None = None, question: bool = False) -> Call:
        """The call for what was found. Raises StepError where a value that it needs is not there."""
        try:
            path = path_of(*(_text(part, found) for part in self.path))
        except UsageError as error:
            raise _failure(str(error), "wrong_value") from None
        return Call(
            self.method, path,
            {name: _text(value, found) for name, value in self.query.items()},
            json=None if self.body is None else typed(self.body, found),
            form=None if self.form is None else {name: _text(value, found) for name, value in self.form.items()},
            headers=self.headers, may_repeat=may_repeat, question=question,
        )  # fmt: skip

    @property
    def shown(self) -> str:
        """Method and path for a preview."""
        parts = (p if isinstance(p, str) else "{" + str(p.get("found")) + "}" for p in self.path)
        return f"{self.method} /{'/'.join(parts)}".replace("\n", " ")


class Find(Asking):
    """Looks something up in a list: exactly one entry must fit."""

    method: Literal["GET", "POST"] = "GET"
    paging: Paging = Whole()
    where: tuple[Condition, ...] = Field(min_length=1)
    #: `fail`: there must be one. `done`: where there is none, there is nothing left to do.
    when_missing: Literal["fail", "done"] = "fail"

    def entries(self, client: RestClient) -> list[Any]:
        """All that fit, page by page."""
        pages = client.pages(self.call(None, question=True), self.paging)
        return [entry for page in pages for entry in page if all(c.holds(entry) for c in self.where)]

    def one(self, client: RestClient) -> Found | None:
        """What fits, None when there is none. Raises StepError when there are several."""
        found = self.entries(client)
        if len(found) > 1 or (found and not isinstance(found[0], Mapping)):
            raise _failure(f"{len(found)} entries fit where one must: {self._words}", "ambiguous")
        return found[0] if found else None

    def missing(self, client: RestClient) -> StepError:
        """Nothing fits."""
        return _failure(f"{client.service.name} has nothing of which {self._words}", "not_found")

    @property
    def _words(self) -> str:
        return " and ".join(map(str, self.where))


class Acting(Asking):
    """A request that changes something."""

    #: Doing it twice is the same as doing it once. None: by the method (PUT and DELETE).
    repeatable: bool | None = None
    #: Statuses beside 2xx that mean success.
    also_success: tuple[Annotated[int, Field(ge=200, le=499)], ...] = ()
    #: What must be so in the answer, beside its status.
    success: tuple[Condition, ...] = ()
    #: Values of the answer that the result keeps for later steps: name -> place.
    keep: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")], BodyPath] = Field(default_factory=dict)

    def send(self, client: RestClient, found: Found | None) -> tuple[Answer, dict[str, Any]]:
        """Send it. Gives the answer and what is to be kept. Raises StepError when the answer is not a success."""
        answer = client.send(self.call(found, may_repeat=self.repeatable), expect=self.also_success)
        body = answer.json
        failed = [str(c) for c in self.success if not c.holds(body, answer.status)]
        if failed:
            raise _refused(client, f"{self.shown} was answered {answer.status}, and not so that {' and '.join(failed)}")
        return answer, {name: _kept(at(body, place)) for name, place in self.keep.items()}


class Verifying(Asking):
    """A question, and what must be so when it is done."""

    method: Literal["GET", "HEAD", "POST"] = "GET"
    #: All must hold. A refusal is an answer here: `{is: "404"}` says that it is gone.
    done: tuple[Condition, ...] = Field(min_length=1)

    def holds(self, client: RestClient, found: Found | None) -> bool:
        """Ask. Raises RestRefused for 401, 403 and what is passing: they tell nothing of the state."""
        asked = tuple(
            int(s) for c in self.done if c.at is None for s in (c.is_, c.is_not, *(c.in_ or ())) if s and s.isdecimal()
        )
        answer = client.send(
            self.call(found, question=True), expect=tuple(s for s in asked if 400 <= s < 500 and s not in (401, 403, 429))
        )  # fmt: skip
        return all(c.holds(answer.json, answer.status) for c in self.done)

    @property
    def words(self) -> str:
        """What must be so."""
        return " and ".join(map(str, self.done))


def typed(value: Any, found: Found | None) -> Any:
    """A value of a body with the types of JSON. Raises StepError for what is none."""
    if isinstance(value, list | tuple):
        return [typed(item, found) for item in value]
    if not isinstance(value, Mapping):
        return value
    name = next(iter(value)) if len(value) == 1 else None
    if name not in _TYPED:
        return {key: typed(item, found) for key, item in value.items()}
    inner = value[name]
    if name == "object":
        return {key: typed(item, found) for key, item in inner.items()} if isinstance(inner, Mapping) else inner
    if name == "found":
        return _of(found, str(inner))
    if name == "nothing":
        return None
    text = str(inner).strip()
    if name == "boolean" and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    if name == "number" and _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    raise _failure(f"{text[:40]!r} is no {name}", "wrong_value")


def _text(value: Value, found: Found | None) -> str:
    if isinstance(value, str):
        return value
    plain = typed(value, found)
    if isinstance(plain, dict | list) or plain is None:
        raise _failure("a part of the address is no single value", "wrong_value")
    return as_text(plain)


def _of(found: Found | None, place: str) -> Any:
    value = at(found, place) if found is not None else None
    if value is None:
        raise _failure(f"what was found has no {place!r}", "wrong_value")
    return value


def _kept(value: Any) -> Any:
    if isinstance(value, str):
        return value[:KEPT]
    return value if value is None or isinstance(value, bool | int | float) else as_text(value)[:KEPT]


def _failure(message: str, code: str) -> StepError:
    kind = ACCOUNT_NOT_FOUND if code in ("not_found", "ambiguous") else INTEGRATION_ERROR
    return StepError(
        message[:1000], type=kind, code=code, remediation="Look at the values of the step and at the service."
    )


def _refused(client: RestClient, message: str) -> StepError:
    error = unexpected(client.service, message[:1000])
    return StepError(str(error), type=error.type, code="not_successful", remediation=error.remediation)
