"""Sending one request to a service of Microsoft's, and repeating it only where that is safe and as long as there is time.

429 and 503 say that nothing was done, so any request may be repeated after `Retry-After` (Microsoft Graph error
responses). After another 5xx or a lost answer only a request that may be done twice is repeated; else its outcome is
unknown and the caller must ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from agent.errors import AnswerLost
from agent.services.microsoft.errors import THROTTLED, ServiceRefused, answer_lost, refusal, unreachable
from agent.services.microsoft.tokens import TokenProvider
from agent.services.rest.waiting import Deadline, retry_after


class Channel:
    """One service of one tenant."""

    def __init__(
        self, http: httpx.Client, tokens: TokenProvider, service: str, scope: str, call_seconds: float
    ) -> None:
        self.service, self.scope = service, scope
        self._http, self._tokens, self._call_seconds = http, tokens, call_seconds
        #: Whether anything but a question was sent.
        self.wrote = False

    def deadline(self) -> Deadline:
        """The time for one call from now."""
        return Deadline(self._call_seconds)

    def send(
        self, method: str, url: str, *, doing: str, repeatable: bool, reads: bool, json: Any = None,
        content: str | None = None, headers: Mapping[str, str] | None = None, deadline: Deadline | None = None,
    ) -> httpx.Response:  # fmt: skip
        """Send, and give the answer if it is a success (2xx). `reads`: it is a question and changes nothing.

        Raises ServiceRefused for a refusal, AnswerLost when it may have been carried out, CannotConnect when it was not
        sent, StepError when the sign-in is refused.
        """
        deadline = deadline or self.deadline()
        renewed = False
        while True:
            token = self._tokens.token(self.scope)
            self.wrote |= not reads
            asked: float | None = None
            try:
                answer = self._http.request(
                    method, url, json=json, content=content,
                    headers={"Authorization": f"Bearer {token}", **(headers or {})},
                )  # fmt: skip
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                failure: Exception = unreachable(self.service, type(error).__name__)
            except httpx.TransportError as error:
                failure = answer_lost(self.service, doing, type(error).__name__)
                if not repeatable:
                    raise failure from error
            else:
                if answer.is_success:
                    return answer
                if answer.status_code == 401 and not renewed:
                    renewed = True
                    self._tokens.refused(self.scope, token)
                    continue
                failure, asked = self._judged(answer, doing, repeatable, reads)
            if not deadline.wait(asked):
                raise failure

    @contextmanager
    def streamed(self, url: str, headers: Mapping[str, str], *, signed_in: bool) -> Iterator[httpx.Response]:
        """One GET whose answer is read piece by piece; redirects are the caller's. `signed_in`: the token goes with it.

        Raises httpx.TransportError, StepError when the sign-in is refused.
        """
        token = self._tokens.token(self.scope) if signed_in else None
        own = {"Authorization": f"Bearer {token}"} if token else {}
        with self._http.stream("GET", url, headers={**headers, **own}, follow_redirects=False) as answer:
            if token and answer.status_code == 401:
                self._tokens.refused(self.scope, token)
            yield answer

    def _judged(
        self, answer: httpx.Response, doing: str, repeatable: bool, reads: bool
    ) -> tuple[Exception, float | None]:
        """The error to raise when there is no time for another attempt. Raises it when there is no use in one."""
        asked = retry_after(answer.headers.get("Retry-After"))
        refused = refusal(self.service, doing, answer.status_code, decoded(answer), asked)
        if answer.status_code in THROTTLED or (refused.passing and answer.status_code < 500):
            return refused, asked
        if answer.status_code < 500:
            raise refused
        failure: Exception = refused if reads else self.lost(refused, doing)
        if not repeatable:
            raise failure
        return failure, asked

    def lost(self, refused: ServiceRefused, doing: str) -> AnswerLost:
        """A service that broke down in the middle may have done it."""
        return answer_lost(self.service, doing, f"it answered {refused.status}")


def decoded(answer: httpx.Response) -> Any:
    """The JSON of an answer, None when it is none."""
    try:
        return answer.json()
    except ValueError:
        return None
