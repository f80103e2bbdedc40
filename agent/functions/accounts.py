"""What functions on a person's account share, in a system that is reached by REST: the account is found once and bound to its id.

Every step of a run acts on the id that the first one found, so that an address which changes hands meanwhile cannot turn
a step against somebody else. Display names never identify anybody.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field, field_validator

from agent.errors import AnswerLost, CannotConnect, StepError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR
from agent.functions.base import Context, Finding, Function, Outcome, PreflightContext
from agent.functions.base import Parameters as BaseParameters
from agent.functions.confirming import judged, settled, still_there
from agent.functions.stored_accounts import ACCOUNTS, stored_id
from agent.services.rest.client import RestClient
from agent.services.rest.errors import RestRefused, answer_lost, missing_credential
from agent.services.rest.system import System


class AccountParameters(BaseParameters):
    """Whose account."""

    #: Id in the system, or an address (login, mail) by which the system finds exactly one account.
    user: str = Field(min_length=1, max_length=320)

    @field_validator("user")
    @classmethod
    def _one_line(cls, value: str) -> str:
        value = value.strip()
        if not value or not value.isprintable() or value in (".", ".."):
            raise ValueError("write an id or an address")
        return value


@dataclass(frozen=True)
class Account:
    """An account as it was found. `name`: its login or address; `body`: the system's own words, which are not stored."""

    id: str
    name: str
    body: Mapping[str, Any] = field(default_factory=dict)


P = TypeVar("P", bound=BaseParameters)
A = TypeVar("A", bound=AccountParameters)


class RestFunction(Function[P]):
    """A function in a system that is reached by REST. Errors get its type and impact, and "not known" its own outcome."""

    #: The system's service; its module has it under the name SYSTEM.
    rest: ClassVar[System[Any]]
    #: Type and impact of a failure that says nothing better of itself.
    failure_type: ClassVar[str] = INTEGRATION_ERROR
    impact: ClassVar[str] = "The account stays as it is."
    critical: ClassVar[bool] = False

    def service(self, parameters: P) -> System[Any]:
        """The system, where it depends on the parameters."""
        return self.rest

    @contextmanager
    def opened(self, context: Context, parameters: P) -> Iterator[RestClient]:
        """The service with the credential of the run's client. Raises StepError, AnswerLost, CannotConnect."""
        system = self.service(parameters)
        found = context.credential(system.service.kind)
        if found is None:
            raise missing_credential(system.service)
        settings = system.completed(found[0], context.system_property)
        with system.open(settings, found[1], run_id=context.root_id) as client:
            try:
                yield client
            except AnswerLost as error:
                if client.wrote or error.typed is None:
                    raise
                raise self._explained(client, error.typed) from error
            except CannotConnect as error:
                if client.wrote:
                    raise answer_lost(client.service, "the question after the change", str(error)) from error
                raise
            except StepError as error:
                if client.wrote and _says_nothing(error):
                    raise answer_lost(client.service, "the question after the change", str(error)) from error
                raise self._explained(client, error) from error

    def _explained(self, client: RestClient, error: StepError) -> StepError:
        refused = isinstance(error, RestRefused) and not error.passing
        kind = self.failure_type if error.type == INTEGRATION_ERROR and refused else error.type
        return StepError(
            str(error), type=kind, code=error.code, impact=error.impact or self.impact,
            remediation=error.remediation or f"Look at it in {client.service.name}, then retry the run.",
            critical=error.critical or self.critical,
        )  # fmt: skip


def _says_nothing(error: StepError) -> bool:
    """Whether an error is no answer to what was asked."""
    if isinstance(error, RestRefused):
        return error.passing
    return error.code == "unexpected_answer"


@dataclass(frozen=True)
class Work(Generic[A]):
    """One step at work: in which service, on whom, with what."""

    context: Context
    client: RestClient
    account: Account
    parameters: A


class AccountFunction(RestFunction[A]):
    """A function on one account. Subclasses say how it is found, what to change, and how to ask whether it is so."""

    @abstractmethod
    def find(self, client: RestClient, asked: str, parameters: A) -> Account | None:
        """The account of an id or address, None when there is none. Raises StepError when there are several."""

    @abstractmethod
    def change(self, work: Work[A]) -> Outcome:
        """Do it and ask back. Raises the errors of the service."""

    def done(self, work: Work[A]) -> bool | None:
        """Whether the system says that it is so."""
        return None

    def gone(self, context: Context, client: RestClient, parameters: A) -> bool:
        """Whether there is no account because this function deleted it."""
        return False

    def do(self, context: Context, parameters: A) -> Outcome:
        """Do it. Raises StepError, AnswerLost when it may have been done, CannotConnect when nothing was sent."""
        with self.opened(context, parameters) as client:
            account = self._bound(context, client, parameters)
            if account is None:
                if self.gone(context, client, parameters):
                    return Outcome.succeeded(outcome="already")
                raise not_found(client, parameters.user)
            outcome = self.change(Work(context, client, account, parameters))
            shown = {"asked": parameters.user, "at": client.settings.url, "id": account.id, "name": account.name}
            error = outcome.error and self._explained(client, outcome.error)
            return Outcome(outcome.state, {"user": shown, **outcome.result}, error)

    def verify(self, context: Context, parameters: A) -> bool | None:
        """Ask the system. An account that is not there has nothing done to it, unless it was deleted here."""
        with self.opened(context, parameters) as client:
            account = self._bound(context, client, parameters)
            if account is None:
                if self.gone(context, client, parameters):
                    return True
                raise not_found(client, parameters.user)
            return self.done(Work(context, client, account, parameters))

    def preflight(self, context: PreflightContext, parameters: A) -> list[Finding]:
        """The account as the system has it; asked once for all steps about the same account."""
        kind = self.service(parameters).service.kind
        return list(context.once((kind, "account", parameters.user), lambda: self._looked(context, parameters)))

    def _looked(self, context: PreflightContext, parameters: A) -> list[Finding]:
        with self.opened(context, parameters) as client:
            account = self.find(client, parameters.user, parameters)
            if account is None:
                raise not_found(client, parameters.user)
            return [Finding("info", client.service.name, f"the account is {account.name} ({account.id})")]

    def _bound(self, context: Context, client: RestClient, parameters: A) -> Account | None:
        known = bound_id(context, client, parameters.user)
        return self.find(client, known or parameters.user, parameters)


def bound_id(context: Context, client: RestClient, asked: str) -> str | None:
    """The id that an earlier step of the run found under the same name in the same place."""
    for step in reversed(context.finished_steps()):
        user = step.result.get("user")
        if isinstance(user, Mapping) and (user.get("asked"), user.get("at")) == (asked, client.settings.url):
            return str(user["id"])
    return None


def not_found(client: RestClient, asked: str) -> StepError:
    """There is no such account."""
    return StepError(
        f"there is no account {asked!r} in {client.service.name}", type=ACCOUNT_NOT_FOUND, code="account_not_found",
        impact="Nothing was changed.",
        remediation=f"Check the name, and what the client's credential {client.service.kind} is for.",
    )  # fmt: skip


def ambiguous(client: RestClient, asked: str, ids: list[str]) -> StepError:
    """Several accounts have that address."""
    return StepError(
        f"{len(ids)} accounts of {client.service.name} have the address {asked!r}: {', '.join(ids[:5])}",
        type=ACCOUNT_NOT_FOUND, code="account_ambiguous", impact="Nothing was changed.",
        remediation="Write the id of the right one instead of the address.",
    )  # fmt: skip


class DeletesAccount(AccountFunction[A]):
    """Deletes the account. Its id is kept first: afterwards its name finds nothing."""

    destructive = True
    repeatable = True
    deletes_account = True
    impact = "The account still exists."

    @abstractmethod
    def delete(self, work: Work[A]) -> None:
        """Send it. Raises the errors of the service."""

    def change(self, work: Work[A]) -> Outcome:
        """Keep the id, delete, and see that it is gone."""
        kept = f"{self._mark(work.client, work.parameters)}{work.account.id}\n{work.context.root_id}"
        work.context.set_state(self._variable(work.client), kept)
        try:
            self.delete(work)
        except RestRefused as error:
            # An answer that was lost is repeated, and finds nothing the second time.
            if not error.missing:
                raise
        settled(
            lambda: self.find(work.client, work.account.id, work.parameters), lambda found: found is None,
            service=work.client.service.name,
        )  # fmt: skip
        return Outcome.succeeded(outcome="removed")

    def done(self, work: Work[A]) -> bool | None:
        """It is still there."""
        return False

    def gone(self, context: Context, client: RestClient, parameters: A) -> bool:
        """Whether an account was about to be deleted under that name, and its id finds nothing."""
        kept, _ = self._kept(context, client, parameters)
        return kept is not None and self.find(client, kept, parameters) is None

    def _bound(self, context: Context, client: RestClient, parameters: A) -> Account | None:
        """What this run began to delete counts: meanwhile the address may be somebody else's."""
        kept, run = self._kept(context, client, parameters)
        if kept is not None and run == context.root_id:
            return self.find(client, kept, parameters)
        stored = self._stored(context, client, parameters.user)
        return super()._bound(context, client, parameters) if stored is None else self.find(client, stored, parameters)

    def _stored(self, context: Context, client: RestClient, asked: str) -> str | None:
        """The account that was offboarded there, whose address may be somebody else's by now. Raises StepError.

        None where the offboarding acted on no account: then the name in the step counts.
        """
        system, place = self.name.partition(".")[0], client.settings.url
        mine = [a for a in context.plan.get(ACCOUNTS) or () if (a["system"], a["place"]) == (system, place)]
        if not mine:
            return None
        # What is neither an address nor a name that was asked for before is an id.
        is_id = "@" not in asked and asked.casefold() not in {a["asked"].casefold() for a in mine}
        return stored_id(context, system, place, asked, is_id=is_id or asked in {a["id"] for a in mine})

    def _kept(self, context: Context, client: RestClient, parameters: A) -> tuple[str | None, str]:
        """The id that was about to be deleted under that name, and the run that began it."""
        kept, mark = context.state(self._variable(client)) or "", self._mark(client, parameters)
        if not kept.startswith(mark):
            return None, ""
        account, _, run = kept.removeprefix(mark).partition("\n")
        return account, run

    def _mark(self, client: RestClient, parameters: A) -> str:
        return f"{parameters.user}\n{client.settings.url}\n"

    def _variable(self, client: RestClient) -> str:
        return f"{client.service.name} deleted account"


def each_removed(
    work: Work[Any], what: str, items: list[dict[str, Any]], remove: Callable[[dict[str, Any]], None],
    left: Callable[[], list[str]], *, verb: str = "removed",
) -> Outcome:  # fmt: skip
    """Remove things one by one, and judge each by what the system shows afterwards.

    `items` have an `id`, and `outcome` where they are left alone; `left` gives the ids that are still there.
    """
    errors: dict[str, Exception] = {}
    todo = [item for item in items if "outcome" not in item]
    for item in todo:
        try:
            remove(item)
        except (RestRefused, AnswerLost) as error:
            if not (isinstance(error, RestRefused) and error.missing):
                errors[item["id"]] = error
    try:
        still = settled(
            left, lambda ids: not {i["id"] for i in todo if i["id"] not in errors} & set(ids),
            service=work.client.service.name,
        ) if todo else []  # fmt: skip
    except StepError as error:
        if error.code != "not_confirmed":
            raise
        still = left()
    for item in todo:
        there = item["id"] in still
        item |= still_there(work.client.service.name, errors.get(item["id"])) if there else {"outcome": verb}
    return judged(items, what, **{verb: sum(i["outcome"] == verb for i in items)})
