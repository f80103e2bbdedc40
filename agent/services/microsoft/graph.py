"""Microsoft Graph v1.0: single calls, `$batch` of 20 whose items are judged and repeated each by itself, and paging.

Sources: Microsoft Graph, "Combine multiple HTTP requests using JSON batching", "Paging", "Throttling guidance".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from agent.errors import AnswerLost, StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.services.microsoft.downloading import Wanted, download, whole
from agent.services.microsoft.errors import THROTTLED, ServiceRefused, answer_lost, refusal
from agent.services.microsoft.sending import Channel, decoded
from agent.services.rest.waiting import Deadline, retry_after

#: Requests that one `$batch` may hold.
BATCH = 20
#: Pages after which a list is taken to have no end.
PAGES = 2000
#: Methods that may be done twice with the same effect.
_REPEATABLE = ("GET", "PATCH", "PUT", "DELETE")
_FAILED_DEPENDENCY = 424


@dataclass(frozen=True)
class Call:
    """One call. `path` begins with `/` and its parts are quoted (`path_of`)."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    #: In a batch: position of the call that must have succeeded before.
    after: int | None = None
    #: None: by the method.
    may_repeat: bool | None = None
    #: A POST that only asks.
    question: bool = False

    @property
    def reads(self) -> bool:
        """It changes nothing."""
        return self.method == "GET" or self.question

    @property
    def repeatable(self) -> bool:
        """Whether doing it twice does no harm."""
        return self.question or (self.method in _REPEATABLE if self.may_repeat is None else self.may_repeat)

    @property
    def address(self) -> str:
        """Path and query, after the version."""
        return self.path + ("?" + urlencode(self.query, quote_via=quote, safe="$,'()/") if self.query else "")

    @property
    def doing(self) -> str:
        """What it is called in messages: without the query, which may hold a long token of a page."""
        return f"{self.method} {self.path.split('?')[0]}"


#: What came of one call of a batch: its body ({} where there is none), or the error.
Reply = Mapping[str, Any] | ServiceRefused | AnswerLost


def path_of(*parts: str) -> str:
    """A path of parts, each quoted, so that no part can reach another resource. A part that begins with `$` stays."""
    return "".join("/" + (part if part == "$ref" else quote(part, safe="")) for part in parts)


def get(*parts: str, after: int | None = None, **query: str) -> Call:
    """A GET; `select="id,mail"` becomes `$select`."""
    return Call("GET", path_of(*parts), query={f"${name}": value for name, value in query.items()}, after=after)


def value_of(reply: Reply) -> Mapping[str, Any]:
    """The body of a reply. Raises its error."""
    if isinstance(reply, ServiceRefused | AnswerLost):
        raise reply
    return reply


class GraphClient:
    """Graph of one tenant."""

    def __init__(self, channel: Channel, base: str) -> None:
        self._channel, self.base = channel, base + "/v1.0"

    def reference(self, kind: str, object_id: str) -> dict[str, str]:
        """The body that refers to an object: `users` or `directoryObjects`, and its id."""
        return {"@odata.id": self.base + path_of(kind, object_id)}

    def call(self, call: Call) -> Mapping[str, Any]:
        """Make one call and give its body. Raises as Channel.send does."""
        answer = self._channel.send(
            call.method, self.base + call.address, doing=call.doing, repeatable=call.repeatable,
            reads=call.reads, json=call.body,
        )  # fmt: skip
        body = decoded(answer) if answer.content else {}
        if not isinstance(body, dict):
            raise _nonsense(f"{call.doing} was answered with something that is no JSON object")
        return body

    def all(self, call: Call) -> list[Mapping[str, Any]]:
        """Every entry of a list, page by page."""
        return self.rest(self.call(call), call)

    def rest(self, page: Mapping[str, Any], call: Call) -> list[Mapping[str, Any]]:
        """The entries of a first page and of all pages after it."""
        return [entry for entries in self._pages(page, call) for entry in entries]

    def pages(self, call: Call) -> Iterator[list[Mapping[str, Any]]]:
        """A list page by page, for one that is too long to be held."""
        return self._pages(self.call(call), call)

    def _pages(self, page: Mapping[str, Any], call: Call) -> Iterator[list[Mapping[str, Any]]]:
        seen: set[str] = set()
        while True:
            yield _entries(page, call)
            link = page.get("@odata.nextLink")
            if link is None:
                return
            if link in seen or len(seen) >= PAGES:
                raise _nonsense(f"the list of {call.doing} has no end")
            seen.add(link)
            page = self.call(Call("GET", self._own(str(link), call)))

    def download(
        self, call: Call, *, doing: str, size: int, offset: int, into: Callable[[bytes], None], until: float
    ) -> None:
        """The content at a path, from a byte on. See `downloading.download`; `until`: moment of `time.monotonic`."""
        download(self._channel, Wanted(self.base + call.address, doing, size, until), offset, into)

    def page(self, link: str) -> Mapping[str, Any]:
        """What stands behind a link that Graph gave before. Raises StepError for one that leads elsewhere."""
        return self.call(Call("GET", self._own(link, Call("GET", "/(a stored link)"))))

    def content(self, call: Call, *, doing: str, largest: int) -> bytes:
        """The content at a path that Graph gives itself, such as a message; `largest`: bytes that are taken at most."""
        return whole(self._channel, self.base + call.address, doing, largest)

    def _own(self, link: str, call: Call) -> str:
        """A link to a next page as a path. Raises StepError for one that leads elsewhere: it would get the token."""
        if not link.startswith(self.base + "/"):
            raise _nonsense(f"the next page of {call.doing} is on another host: {urlsplit(link).netloc}")
        return link.removeprefix(self.base)

    def lists(self, *calls: Call) -> list[list[Mapping[str, Any]]]:
        """Several lists, their first pages in one batch. Raises the first error."""
        return [
            self.rest(value_of(reply), call) for call, reply in zip(calls, self.batch(calls), strict=True)
        ]  # fmt: skip

    def batch(self, calls: Sequence[Call]) -> list[Reply]:
        """Make many calls, 20 per request, and judge each by itself; a call with `after` follows in the same request.

        Raises only when nothing can be sent at all; the errors of single calls stand in the list.
        """
        replies: dict[int, Reply] = {}
        for chunk in _chunks(calls):
            self._chunk(calls, chunk, replies)
        return [replies[position] for position in range(len(calls))]

    def _chunk(self, calls: Sequence[Call], open_: list[int], replies: dict[int, Reply]) -> None:
        deadline = self._channel.deadline()
        while open_:
            answers = self._send(calls, open_, deadline)
            again, longest = [], 0.0
            for position in open_:
                reply, wait = self._judge(calls[position], answers.get(str(position)))
                replies[position] = reply
                if wait is not None or (_is_dependency(reply) and calls[position].after in again):
                    again.append(position)
                    longest = max(longest, wait or 0.0)
            if not again or not deadline.wait(longest or None):
                return
            open_ = again

    def _send(self, calls: Sequence[Call], positions: list[int], deadline: Deadline) -> dict[str, Mapping[str, Any]]:
        """Send one batch. Gives the answers by their ids; none when the answer as a whole was lost."""
        requests = [_item(calls[p], p, positions) for p in positions]
        doing = "POST /$batch (" + ", ".join(sorted({calls[p].doing.split("?")[0] for p in positions}))[:300] + ")"
        repeatable = all(calls[p].repeatable for p in positions)
        reads = all(calls[p].reads for p in positions)
        try:
            answer = self._channel.send(
                "POST", self.base + "/$batch", doing=doing, repeatable=repeatable, reads=reads,
                json={"requests": requests}, deadline=deadline,
            )  # fmt: skip
        except AnswerLost:
            return {}
        body = decoded(answer)
        found = body.get("responses") if isinstance(body, dict) else None
        if not isinstance(found, list):
            return {}
        return {str(entry["id"]): entry for entry in found if isinstance(entry, dict) and "id" in entry}

    def _judge(self, call: Call, answer: Mapping[str, Any] | None) -> tuple[Reply, float | None]:
        """What came of an item, and the seconds to wait before it is repeated; None: it is not."""
        if answer is None:
            return answer_lost(
                "Graph", call.doing, "the batch was answered without it"
            ), 0.0 if call.repeatable else None
        status, body = int(answer["status"]), answer.get("body")
        if 200 <= status < 300:
            return (body if isinstance(body, dict) else {}), None
        headers = {str(k).lower(): str(v) for k, v in (answer.get("headers") or {}).items()}
        wait = retry_after(headers.get("retry-after"))
        refused = refusal("Graph", call.doing, status, body, wait)
        if status in THROTTLED:
            return refused, wait or 0.0
        if status >= 500:
            reply: Reply = refused if call.reads else self._channel.lost(refused, call.doing)
            return reply, (wait or 0.0) if call.repeatable else None
        return refused, None


def _item(call: Call, position: int, positions: Sequence[int]) -> dict[str, Any]:
    """A call as an item of a batch; what it depends on is named only while that is in the same batch."""
    item: dict[str, Any] = {"id": str(position), "method": call.method, "url": call.address}
    if call.body is not None:
        item |= {"body": dict(call.body), "headers": {"Content-Type": "application/json"}}
    if call.after in positions:
        item["dependsOn"] = [str(call.after)]
    return item


def _chunks(calls: Sequence[Call]) -> list[list[int]]:
    """Positions in lists of at most 20; a call stands in the list of the one it follows."""
    chunks: list[list[int]] = []
    group: list[int] = []
    for position, call in enumerate(calls):
        if group and call.after is None:
            _place(chunks, group)
            group = []
        group.append(position)
    if group:
        _place(chunks, group)
    return chunks


def _place(chunks: list[list[int]], group: list[int]) -> None:
    assert len(group) <= BATCH, "calls that follow one another fit into one batch"
    if chunks and len(chunks[-1]) + len(group) <= BATCH:
        chunks[-1].extend(group)
    else:
        chunks.append(list(group))


def _is_dependency(reply: Reply) -> bool:
    return isinstance(reply, ServiceRefused) and reply.status == _FAILED_DEPENDENCY


def _entries(page: Mapping[str, Any], call: Call) -> list[Mapping[str, Any]]:
    value = page.get("value")
    if not isinstance(value, list):
        raise _nonsense(f"{call.doing} was answered without a list")
    return value


def _nonsense(message: str) -> StepError:
    return StepError(message, type=INTEGRATION_ERROR, code="unexpected_answer", remediation="Retry the run.")
