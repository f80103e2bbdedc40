"""What a service refuses, as typed errors; and what is told when it cannot be reached or its answer is lost.

The words of an error are looked for where the usual formats have them: `{code, message}`, `{error: {code, message}}`,
`{error, error_description}` (RFC 6749), `{errorCode, errorSummary}`, `{errorMessages, errors}`, `{detail, scimType}`
(RFC 7644), `{error: {code, errors: [{reason}]}}` (Google), `{type, title, detail}` (RFC 9457).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.errors import AnswerLost, CannotConnect, StepError
from agent.failure_types import INTEGRATION_ERROR, PERMISSION_DENIED

#: Statuses with which a service says that it did not do it and may be asked again.
THROTTLED = (429, 503)
#: Characters of a service's own words that are kept.
_WORDS = 400


def _never(body: Any) -> bool:
    return False


@dataclass(frozen=True)
class Service:
    """How one vendor's service is called, and what is peculiar to its errors."""

    #: As people call it.
    name: str
    #: Kind of the credential.
    kind: str
    #: Codes of errors that mean "there is no such thing", "not allowed", "later".
    missing: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    #: Whether the body of a 2xx says no, as some services do.
    refuses: Callable[[Any], bool] = _never
    #: Code or status -> what to do about it.
    remedies: Mapping[str, str] = field(default_factory=dict)


class RestRefused(StepError):
    """A service answered no. `status` is its HTTP status; `retry_after` the seconds that it asked to wait."""

    def __init__(
        self, message: str, *, type: str, status: int, code: str, missing: bool, passing: bool,
        remediation: str | None = None, retry_after: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, type=type, code=code, remediation=remediation)
        self.status, self.retry_after = status, retry_after
        #: What was asked for does not exist; it may work later, as it is.
        self.missing, self.passing = missing, passing


def refusal(service: Service, doing: str, status: int, body: Any, retry_after: float | None = None) -> RestRefused:
    """The error of an answer. `doing` names the call; `body` is the decoded answer, None when it was no JSON."""
    own, text = words_of(body)
    code = own or str(status)
    said = f"{service.name} answered {status}" + (f" ({code})" if own else "") + f" to {doing}"
    said += f": {text}" if text else ""
    denied = (status in (401, 403) and code not in service.busy) or code in service.denied
    missing = not denied and (status in (404, 410) or code in service.missing)
    passing = status in THROTTLED or status >= 500 or code in service.busy
    remedy = service.remedies.get(code) or service.remedies.get(str(status))
    if remedy is None and denied:
        remedy = f"Check the credential {service.kind}, and that it has the rights that the manual names, then retry the run."
    elif remedy is None and passing:
        remedy = "The service is busy or broken for the moment: retry the run."
    return RestRefused(
        said, type=PERMISSION_DENIED if denied else INTEGRATION_ERROR, status=status, code=code, missing=missing,
        passing=passing, remediation=remedy, retry_after=retry_after,
    )  # fmt: skip


def words_of(body: Any) -> tuple[str, str]:
    """Code and text of an error; empty where there is none."""
    if not isinstance(body, Mapping):
        return "", ""
    inner = body.get("error")
    if isinstance(inner, Mapping):
        return words_of(inner)
    code = next((body[k] for k in ("code", "errorCode", "scimType", "error") if _is_word(body.get(k))), "")
    found: list[str] = [str(body[k]) for k in _TEXTS if isinstance(body.get(k), str)][:1]
    if isinstance(body.get("errorMessages"), list):
        found += [str(m) for m in body["errorMessages"]]
    errors = body.get("errors")
    if isinstance(errors, Mapping):
        found += [f"{name}: {why}" for name, why in errors.items()]
    elif isinstance(errors, list):
        # Google's code is the status once more, and the reason says which.
        code = next((e["reason"] for e in errors if isinstance(e, Mapping) and _is_word(e.get("reason"))), code)
        found += [words_of(e)[1] or str(e) for e in errors[:3] if isinstance(e, Mapping | str)]
    return _short(str(code), 80), _short("; ".join(found), _WORDS)


_TEXTS = ("message", "errorSummary", "error_description", "detail", "title", "reason", "description")


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _short(text: str, limit: int) -> str:
    return " ".join(text.split())[:limit]


def unreachable(service: Service, why: str) -> CannotConnect:
    """Nothing was sent."""
    error = CannotConnect(f"{service.name} cannot be reached: {why}")
    error.typed = StepError(
        str(error), type=INTEGRATION_ERROR, code="unreachable", impact="Nothing was changed by this step.",
        remediation=f"Check the network and the address in the credential {service.kind}, then retry the run.",
    )  # fmt: skip
    return error


def answer_lost(service: Service, doing: str, why: str, *, question: bool = False) -> AnswerLost:
    """It was sent, and may have been carried out. `question`: it was to change nothing."""
    told = "" if question else ", which may have been carried out"
    error = AnswerLost(f"{service.name} gave no answer to {doing}{told}: {why}")
    error.typed = StepError(
        str(error), type=INTEGRATION_ERROR, code="answer_lost",
        impact=None if question else "It may or may not have happened.",
        remediation=f"Look in {service.name}; the step may be retried, it asks for the state first.",
    )  # fmt: skip
    return error


def unexpected(service: Service, message: str) -> StepError:
    """An answer that is not what the service's manual says."""
    return StepError(
        f"{service.name}: {message}", type=INTEGRATION_ERROR, code="unexpected_answer",
        remediation=f"Retry the run; if it stays, check the address in the credential {service.kind}.",
    )  # fmt: skip


def wrong_credential(service: Service, message: str) -> StepError:
    """A credential that cannot be used. `message` never holds a secret."""
    return StepError(
        f"the credential {service.kind}: {message}", type=PERMISSION_DENIED, code="wrong_credential",
        impact=f"Nothing was changed in {service.name}.", remediation="Correct it: exeunt credential update",
    )  # fmt: skip


def missing_credential(service: Service) -> StepError:
    """The client has no credential for the service."""
    return StepError(
        f"there is no credential of the kind {service.kind} for this client", type=PERMISSION_DENIED,
        code="missing_credential", impact=f"Nothing was changed in {service.name}.",
        remediation=f"Store it: exeunt credential add NAME --kind {service.kind} --client ... --setting url=https://...",
    )  # fmt: skip
