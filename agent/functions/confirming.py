"""What a function says of its work after asking the system: confirmed, not confirmed, or so and so of many things."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from agent.errors import AnswerLost, StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.base import Outcome
from agent.services.rest import waiting

#: Systems answer from several copies: looks until they agree, and the first wait in seconds.
LOOKS, FIRST_LOOK = 5, 0.5
#: Outcomes of one thing among several that are as good as done, or left alone for a reason.
FINE = ("removed", "granted", "changed", "already", "kept", "accepted")
T = TypeVar("T")


def settled(
    ask: Callable[[], T], good: Callable[[T], bool], *, first: T | None = None, looks: int = LOOKS,
    service: str = "the tenant",
) -> T:  # fmt: skip
    """Ask until the answer is as wanted. Raises StepError when it never is: the change is not confirmed."""
    answer = ask() if first is None else first
    for look in range(looks - 1):
        if good(answer):
            return answer
        waiting.pause(FIRST_LOOK * 2**look)
        answer = ask()
    if good(answer):
        return answer
    raise not_confirmed(f"{service} accepted the change, and does not show it")


def not_confirmed(message: str, kind: str = INTEGRATION_ERROR) -> StepError:
    """Done by the word of the service, and not seen when asked."""
    return StepError(message, type=kind, code="not_confirmed", remediation="Retry the run: the step asks first.")


def failed_item(error: Exception) -> dict[str, Any]:
    """The result of one thing of which the system, asked afterwards, says that it is not done."""
    said = error.typed if isinstance(error, AnswerLost) else error
    if not isinstance(said, StepError):
        return {"outcome": "failed", "reason": str(error), "code": None, "error_type": INTEGRATION_ERROR}
    item = {"outcome": "failed", "reason": str(error), "code": said.code, "error_type": said.type}
    return item | ({"remediation": said.remediation} if said.remediation else {})


def still_there(service: str = "Exchange", error: object = None) -> dict[str, Any]:
    """The result of one thing that a service shows as before: its error, or that it gave none."""
    if isinstance(error, Exception):
        return failed_item(error)
    return {
        "outcome": "failed",
        "reason": f"{service} accepted it and still shows it as before",
        "code": "not_confirmed",
    }


def judged(items: Sequence[Mapping[str, Any]], what: str, **result: Any) -> Outcome:
    """The outcome over many things: failed when one failed. `items` stand under `what` in the result."""
    result = {what: [dict(item) for item in items], **result}
    failed = [i for i in items if i["outcome"] not in FINE]
    if not failed:
        return Outcome.succeeded(**result)
    first = failed[0]
    error = StepError(
        f"{len(failed)} of {len(items)} {what} did not work: {first['reason']}",
        type=first.get("error_type") or INTEGRATION_ERROR, code=first.get("code") or "not_confirmed",
        remediation=first.get("remediation"),
    )  # fmt: skip
    return Outcome.failed(error, **result)
