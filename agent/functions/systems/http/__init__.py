"""Functions `http.*`: a task in any system that speaks REST, described by the step itself.

`http.request` sends one request, `http.ensure` makes something so and may be done again, `http.each` does so for every entry
of a list, and `http.confirm` only asks. Address and sign-in stand in the credential `http_<service>`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field

from agent.errors import AnswerLost, StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.accounts import RestFunction
from agent.functions.base import Context, Finding, Function, Outcome, PreflightContext
from agent.functions.base import Parameters as BaseParameters
from agent.functions.confirming import judged, not_confirmed, settled, still_there
from agent.functions.exit_systems import Report
from agent.functions.systems.http.requests import Acting, Find, Found, Verifying, as_text
from agent.functions.systems.http.service import SERVICE_NAME, system_of
from agent.services.rest.client import RestClient
from agent.services.rest.errors import RestRefused
from agent.services.rest.paging import at
from agent.services.rest.system import System

__all__ = ["FUNCTIONS", "system_of"]
FailureType = Literal[
    "INTEGRATION_ERROR", "ACCOUNT_NOT_FOUND", "LICENSE_REMOVAL_FAILED", "DATA_TRANSFER_FAILED", "DEVICE_WIPE_FAILED",
    "MANAGER_NOT_FOUND", "PERMISSION_DENIED", "BACKUP_STORAGE_UNAVAILABLE", "MAILBOX_CONVERSION_FAILED",
]  # fmt: skip


class HttpParameters(BaseParameters):
    """Which service, and what a failure means."""

    #: Ending of the credential's kind: `vpn` for `http_vpn`; empty: the kind is `http`.
    service: str = Field("", pattern=SERVICE_NAME)
    #: What is so when it fails, for people.
    impact: str = Field("It is as it was.", max_length=300)
    failure_type: FailureType = "INTEGRATION_ERROR"
    critical: bool = False
    #: Which part of a person's exit report it fills; empty: none.
    report: Report = ""


class HttpFunction(RestFunction[Any]):
    """A function on any service."""

    system = "REST services"
    rights = "what the service's own manual asks for these requests"

    def service(self, parameters: HttpParameters) -> System[Any]:
        """The service that the step names."""
        return system_of(parameters.service)

    def do(self, context: Context, parameters: Any) -> Outcome:
        """Do it. Raises StepError, AnswerLost when it may have been done, CannotConnect when nothing was sent."""
        try:
            with self.opened(context, parameters) as client:
                outcome = self.act(client, parameters)
        except StepError as error:
            raise _as_told(error, parameters) from error
        return Outcome(outcome.state, outcome.result, outcome.error and _as_told(outcome.error, parameters))

    @abstractmethod
    def act(self, client: RestClient, parameters: Any) -> Outcome:
        """Do it and ask back."""

    def preflight(self, context: PreflightContext, parameters: Any) -> list[Finding]:
        """Whether the service can be reached and what the step is about is there; nothing is changed."""
        find: Find | None = getattr(parameters, "find", None)
        with self.opened(context, parameters) as client:
            if find is not None and find.one(client) is None and find.when_missing == "fail":
                raise find.missing(client)
        return []


def _who(parameters: HttpParameters) -> str:
    return parameters.service or "the service"


def _as_told(error: StepError, parameters: HttpParameters) -> StepError:
    """An error with what the step says of its failure."""
    kind = parameters.failure_type if error.type == INTEGRATION_ERROR and error.code not in _NO_ANSWER else error.type
    return StepError(
        str(error), type=kind, code=error.code, impact=parameters.impact,
        remediation=error.remediation or "Look at it in the service, then retry the run.",
        critical=parameters.critical or error.critical,
    )  # fmt: skip


_NO_ANSWER = ("unreachable", "answer_lost", "unexpected_answer")


class RequestParameters(HttpParameters):
    """One request; before it, what it is about is looked up; after it, whether it is so."""

    find: Find | None = None
    request: Acting
    verify: Verifying | None = None


class Request(HttpFunction):
    """Sends a request once. Where it says how to verify, it asks first and afterwards."""

    name = "http.request"
    summary = "Send one request to a REST service; with `verify` it is asked before and after whether it is so"
    Parameters: ClassVar[type[BaseParameters]] = RequestParameters
    destructive = True

    def preview(self, parameters: RequestParameters) -> str:
        """The request that would be sent."""
        after = f", until {parameters.verify.words}" if parameters.verify else ""
        return f"{_who(parameters)}: {parameters.request.shown}{after}"

    def act(self, client: RestClient, parameters: RequestParameters) -> Outcome:
        """Look it up, ask, send, and ask again."""
        found, gone = _located(client, parameters.find)
        if gone or (parameters.verify is not None and parameters.verify.holds(client, found)):
            return Outcome.succeeded(outcome="already", verified=True)
        answer, kept = parameters.request.send(client, found)
        if parameters.verify is not None:
            verify = parameters.verify
            settled(lambda: verify.holds(client, found), bool, service=client.service.name)
        return Outcome.succeeded(
            outcome="changed", status=answer.status, verified=parameters.verify is not None, **kept
        )  # fmt: skip

    def verify(self, context: Context, parameters: RequestParameters) -> bool | None:
        """Ask as the step says; None where it does not say how."""
        if parameters.verify is None and parameters.find is None:
            return None
        with self.opened(context, parameters) as client:
            found, gone = _located(client, parameters.find)
            if gone or parameters.verify is None:
                return True if gone else None
            return parameters.verify.holds(client, found)


class EnsureParameters(RequestParameters):
    """One request, and how to ask whether it is so."""

    verify: Verifying


class Ensure(Request):
    """Makes something so: asks first, and may be done again after an interruption."""

    name = "http.ensure"
    summary = "Make something so in a REST service: ask, send a request only if it is not so, and ask again"
    Parameters = EnsureParameters
    repeatable = True


class ConfirmParameters(HttpParameters):
    """What must be so."""

    find: Find | None = None
    verify: Verifying


class Confirm(HttpFunction):
    """Only asks, and fails when it is not so."""

    name = "http.confirm"
    summary = "Ask a REST service whether something is so, and fail if it is not; nothing is changed"
    Parameters = ConfirmParameters
    repeatable = True

    def preview(self, parameters: ConfirmParameters) -> str:
        """The question that would be asked."""
        return f"{_who(parameters)}: {parameters.verify.shown}: {parameters.verify.words}"

    def act(self, client: RestClient, parameters: ConfirmParameters) -> Outcome:
        """Ask."""
        found, gone = _located(client, parameters.find)
        if not gone and not parameters.verify.holds(client, found):
            message = f"{client.service.name} does not say that {parameters.verify.words}"
            raise StepError(
                message, type=INTEGRATION_ERROR, code="not_so", remediation="See to it in the service, then retry the run."
            )  # fmt: skip
        return Outcome.succeeded(outcome="confirmed")


class EachParameters(HttpParameters):
    """Which entries, and the request for each."""

    entries: Find
    request: Acting
    #: Place of an entry's id and of its name, for people.
    id: str = "id"
    name: str = ""


class Each(HttpFunction):
    """Sends a request for every entry of a list that fits, and looks afterwards which of them still fit."""

    name = "http.each"
    summary = "Send a request for every entry of a list that fits, and see that none of them fits afterwards"
    Parameters = EachParameters
    destructive = True
    repeatable = True

    def preview(self, parameters: EachParameters) -> str:
        """The requests that would be sent."""
        return f"{_who(parameters)}: {parameters.request.shown} for each of {parameters.entries.shown} that fits"

    def act(self, client: RestClient, parameters: EachParameters) -> Outcome:
        """List, send for each, and list again."""
        items: list[dict[str, Any]] = []
        errors: dict[str, Exception] = {}
        for entry in parameters.entries.entries(client):
            item = {
                "id": _named(entry, parameters.id),
                "name": _named(entry, parameters.name) if parameters.name else None,
            }
            items.append(item)
            try:
                parameters.request.send(client, entry)
            except (RestRefused, AnswerLost, StepError) as error:
                if not (isinstance(error, RestRefused) and error.missing):
                    errors[str(item["id"])] = error
        left = self._left(client, parameters, {str(i["id"]) for i in items} - set(errors)) if items else set()
        for item in items:
            there = str(item["id"]) in left
            item |= still_there(client.service.name, errors.get(str(item["id"]))) if there else {"outcome": "changed"}
        return judged(items, "entries", changed=sum(i["outcome"] == "changed" for i in items))

    def verify(self, context: Context, parameters: EachParameters) -> bool:
        """Whether no entry fits."""
        with self.opened(context, parameters) as client:
            return not parameters.entries.entries(client)

    def _left(self, client: RestClient, parameters: EachParameters, expected: set[str]) -> set[str]:
        """Ids of entries that still fit; those that were accepted are waited for a little."""

        def ids() -> set[str]:
            return {_named(entry, parameters.id) for entry in parameters.entries.entries(client)}

        try:
            return settled(ids, lambda left: not expected & left, service=client.service.name)
        except StepError as error:
            if error.code != not_confirmed("").code:
                raise
            return ids()


def _located(client: RestClient, find: Find | None) -> tuple[Found | None, bool]:
    """What the step is about, and whether it is gone, which the step calls done. Raises StepError when there is none."""
    if find is None:
        return None, False
    found = find.one(client)
    if found is None and find.when_missing == "fail":
        raise find.missing(client)
    return found, found is None


def _named(entry: Any, place: str) -> str:
    return as_text(at(entry, place))


FUNCTIONS: dict[str, type[Function[Any]]] = {f.name: f for f in (Request, Ensure, Confirm, Each)}
