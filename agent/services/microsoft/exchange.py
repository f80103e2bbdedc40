"""Exchange Online by its admin interface `InvokeCommand`: one cmdlet per call, or ten in a batch.

The interface is the one that the module ExchangeOnlineManagement uses. It is not documented; functions know only the
protocol `MailSystem`, so that the documented Admin API or PowerShell can take its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from agent.errors import AnswerLost, StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.services.microsoft.errors import THROTTLED, ServiceRefused, answer_lost, refusal
from agent.services.microsoft.sending import Channel, decoded
from agent.services.rest.waiting import retry_after

#: Cmdlets that one batch may hold, and entries of one page.
BATCH, PAGE = 10, 1000
PAGES = 2000
#: Mailbox that requests without one of their own are routed by.
_SYSTEM = "APP:SystemMailbox{bb558c35-97f1-4cb9-8ff7-d53741dc928c}"


@dataclass(frozen=True)
class Cmdlet:
    """One cmdlet with its parameters; None sets nothing ($null)."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: User principal name of the mailbox it is about, for routing.
    anchor: str | None = None
    #: Whether doing it twice does no harm. Get-, Set- and Remove- are such; Add- answers that it is there already.
    may_repeat: bool = True
    #: Properties wanted, for Get-; none: all.
    select: tuple[str, ...] = ()

    @property
    def reads(self) -> bool:
        """It is a question and changes nothing."""
        return self.name.startswith("Get-") or self.parameters.get("PreviewOnly") is True


@dataclass(frozen=True)
class Answered:
    """What a cmdlet gave, and what it warned of."""

    entries: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()


Reply = Answered | ServiceRefused | AnswerLost


def answered(reply: Reply) -> Answered:
    """What was given. Raises the error."""
    if isinstance(reply, Answered):
        return reply
    raise reply


class MailSystem(Protocol):
    """What the functions need of Exchange."""

    def invoke(self, cmdlet: Cmdlet) -> Answered:
        """Run a cmdlet, all pages. Raises ServiceRefused, AnswerLost, CannotConnect, StepError."""

    def invoke_all(self, cmdlets: Sequence[Cmdlet]) -> list[Reply]:
        """Run many cmdlets in no certain order and judge each by itself; first pages only."""


class ExchangeClient:
    """Exchange of one tenant by InvokeCommand."""

    def __init__(self, channel: Channel, base: str, tenant_id: str) -> None:
        self._channel, self._tenant = channel, tenant_id
        self._base = f"{base}/adminapi/beta/{quote(tenant_id, safe='')}"

    def invoke(self, cmdlet: Cmdlet) -> Answered:
        """Run a cmdlet; a list is read to its end."""
        url = self._url(cmdlet)
        entries: list[Mapping[str, Any]] = []
        warnings: list[str] = []
        seen: set[str] = set()
        while url not in seen and len(seen) < PAGES:
            seen.add(url)
            answer = self._channel.send(
                "POST", url, doing=cmdlet.name, repeatable=cmdlet.may_repeat, reads=cmdlet.reads,
                json=_body(cmdlet), headers=self._headers(cmdlet),
            )  # fmt: skip
            page = _page(decoded(answer) if answer.content else {})
            entries += page.entries
            warnings += page.warnings
            link = (decoded(answer) or {}).get("@odata.nextLink") if answer.content else None
            if link is None:
                return Answered(entries, warnings)
            url = self._own(str(link), cmdlet)
        raise _nonsense(f"the list of {cmdlet.name} has no end")

    def invoke_all(self, cmdlets: Sequence[Cmdlet]) -> list[Reply]:
        """Ten per request; each is matched by its id, judged and repeated by itself."""
        replies: dict[int, Reply] = {}
        for start in range(0, len(cmdlets), BATCH):
            self._chunk(cmdlets, list(range(start, min(start + BATCH, len(cmdlets)))), replies)
        return [replies[position] for position in range(len(cmdlets))]

    def _chunk(self, cmdlets: Sequence[Cmdlet], open_: list[int], replies: dict[int, Reply]) -> None:
        if len(open_) == 1:
            replies[open_[0]] = self._single(cmdlets[open_[0]])
            return
        deadline = self._channel.deadline()
        while open_:
            names = ", ".join(sorted({cmdlets[p].name for p in open_}))
            requests = [self._item(cmdlets[p], p) for p in open_]
            headers = {
                "Prefer": f"odata.maxpagesize={PAGE};odata.continue-on-error", "parameter-based-routing": "true",
                "X-CmdletName": cmdlets[open_[0]].name, "X-AnchorMailbox": self._anchor(cmdlets[open_[0]]),
            }  # fmt: skip
            try:
                answer = self._channel.send(
                    "POST", f"{self._base}/$batch", doing=f"a batch of {names}", json={"requests": requests},
                    repeatable=all(cmdlets[p].may_repeat for p in open_), reads=all(cmdlets[p].reads for p in open_),
                    headers=headers, deadline=deadline,
                )  # fmt: skip
                found = (decoded(answer) or {}).get("responses") or []
            except AnswerLost:
                found = []
            by_id = {str(e.get("id")): e for e in found if isinstance(e, dict)}
            again, longest = [], 0.0
            for position in open_:
                replies[position], wait = self._judge(cmdlets[position], by_id.get(str(position)))
                if wait is not None:
                    again.append(position)
                    longest = max(longest, wait)
            if not again or not deadline.wait(longest or None):
                return
            open_ = again

    def _single(self, cmdlet: Cmdlet) -> Reply:
        try:
            return self.invoke(cmdlet)
        except (ServiceRefused, AnswerLost) as error:
            return error

    def _judge(self, cmdlet: Cmdlet, answer: Mapping[str, Any] | None) -> tuple[Reply, float | None]:
        """What came of an item, and the seconds to wait before it is repeated; None: it is not."""
        if answer is None:
            lost = answer_lost("Exchange", cmdlet.name, "the batch was answered without it")
            return lost, 0.0 if cmdlet.may_repeat else None
        status, body = int(answer.get("status") or 0), answer.get("body")
        if 200 <= status < 300 and not (isinstance(body, dict) and body.get("error")):
            return _page(body), None
        headers = {str(k).lower(): str(v) for k, v in (answer.get("headers") or {}).items()}
        wait = retry_after(headers.get("retry-after"))
        refused = refusal("Exchange", cmdlet.name, status, body, wait)
        if status in THROTTLED or (refused.passing and status < 500):
            return refused, wait or 0.0
        if status >= 500:
            reply: Reply = refused if cmdlet.reads else self._channel.lost(refused, cmdlet.name)
            return reply, (wait or 0.0) if cmdlet.may_repeat else None
        return refused, None

    def _item(self, cmdlet: Cmdlet, position: int) -> dict[str, Any]:
        headers = {**self._headers(cmdlet), "Content-Type": "application/json"}
        return {
            "id": str(position), "method": "POST", "url": self._url(cmdlet), "body": _body(cmdlet), "headers": headers
        }  # fmt: skip

    def _url(self, cmdlet: Cmdlet) -> str:
        select = f"?$select={','.join(cmdlet.select)}" if cmdlet.select else ""
        return f"{self._base}/InvokeCommand{select}"

    def _headers(self, cmdlet: Cmdlet) -> dict[str, str]:
        return {
            "Prefer": f"odata.maxpagesize={PAGE}", "X-AnchorMailbox": self._anchor(cmdlet), "X-CmdletName": cmdlet.name
        }  # fmt: skip

    def _anchor(self, cmdlet: Cmdlet) -> str:
        # A header is ASCII; a name that is not is routed by the tenant.
        anchor = cmdlet.anchor
        return anchor if anchor and anchor.isascii() and anchor.isprintable() else f"{_SYSTEM}@{self._tenant}"

    def _own(self, link: str, cmdlet: Cmdlet) -> str:
        """A link to a next page. Raises StepError for one that leads elsewhere: it would get the token."""
        if not link.startswith(self._base + "/"):
            raise _nonsense(f"the next page of {cmdlet.name} is elsewhere: {urlsplit(link).netloc}")
        return link


def _body(cmdlet: Cmdlet) -> dict[str, Any]:
    return {"CmdletInput": {"CmdletName": cmdlet.name, "Parameters": dict(cmdlet.parameters)}}


def _page(body: Any) -> Answered:
    if body is None or body == "":
        return Answered()
    if not isinstance(body, dict):
        raise _nonsense("Exchange answered with something that is no JSON object")
    value, warnings = body.get("value"), body.get("@adminapi.warnings") or []
    entries = value if isinstance(value, list) else [] if value is None else [value]
    return Answered([e for e in entries if isinstance(e, dict)], [str(w) for w in warnings])


def _nonsense(message: str) -> StepError:
    return StepError(message, type=INTEGRATION_ERROR, code="unexpected_answer", remediation="Retry the run.")
