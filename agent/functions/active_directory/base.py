"""What the functions of Active Directory share: the client's directory, the one account, and changes that are read back.

An account is named by its objectGUID, mail address, UPN or sAMAccountName. The first step of a run that finds it binds
the run to its GUID: later steps act on that object, whatever becomes of its names meanwhile.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from pydantic import BeforeValidator, Field, field_validator

from agent.errors import AnswerLost, StepError, TransportError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.active_directory.cloud_only import CloudOnly, proven
from agent.functions.base import Context, Finding, Function, Outcome, PreflightContext
from agent.functions.base import Parameters as BaseParameters
from agent.model.base import utcnow
from agent.services.directory import groups
from agent.services.directory.accounts import Account, Protection, find, refuse_protected, reread
from agent.services.directory.connecting import connect
from agent.services.directory.port import Change, Directory
from agent.services.directory.settings import KIND, directory_settings

#: The state under which a run keeps which controller it changed something at.
CONTROLLER = "ad_controller"
#: How findings name the system.
SYSTEM = "Active Directory"


def _listed(value: Any) -> Any:
    """A text with semicolons between its parts is a list; a script's parameter can hold nothing else."""
    if isinstance(value, str):
        return [part.strip() for part in re.split(r"[;\n]", value) if part.strip()]
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class AccountParameters(BaseParameters):
    """Which account."""

    #: objectGUID, mail address, UPN or sAMAccountName; it must name exactly one account of the client.
    account: str = Field(min_length=1, max_length=256)
    #: Kinds of protected accounts that may be touched all the same: privileged, builtin, computer.
    allow: Annotated[tuple[Protection, ...], BeforeValidator(_listed)] = ()

    @field_validator("account")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if value != value.strip() or not value.isprintable():
            raise ValueError("an account's name is one line without blanks around it")
        return value


P = TypeVar("P", bound=AccountParameters)


@dataclass(frozen=True)
class Work:
    """One account of one client, in one conversation with its directory."""

    context: Context
    directory: Directory
    account: Account
    asked: str

    def sent(self, change: Callable[[], None]) -> AnswerLost | None:
        """Send a change; where it goes is stored first. Returns the error when its answer was lost."""
        controller = self.directory.controller
        if self.context.state(CONTROLLER) != controller:
            self.context.set_state(CONTROLLER, controller)
        try:
            change()
        except AnswerLost as error:
            return error
        return None

    def now(self) -> Account:
        """The account as it is now."""
        return reread(self.directory, self.account)

    def facts(self, account: Account | None = None, **more: Any) -> dict[str, Any]:
        """What every result says: which account this was, by which later steps find it again."""
        account = account or self.account
        return {
            "asked": self.asked, "object_guid": str(account.guid), "account": account.dn,
            "controller": self.directory.controller, **more,
        }  # fmt: skip


@contextmanager
def opened(context: Context) -> Iterator[tuple[Directory, str]]:
    """The directory of the target's client, and the user name it is asked with. Raises StepError without a credential."""
    found = context.credential(KIND)
    if found is None or "password" not in found[1]:
        lacks = "there is no credential" if found is None else "there is no secret `password` in the credential"
        raise StepError(
            f"{lacks} of the kind {KIND} for this client", type=INTEGRATION_ERROR, code="missing_credential",
            impact="Nothing was changed in Active Directory.",
            remediation=f"exeunt credential add NAME --kind {KIND} --client CLIENT --setting controllers=... --secret password",
        )  # fmt: skip
    settings = directory_settings(found[0])
    directory = connect(settings, found[1]["password"], prefer=context.state(CONTROLLER))
    try:
        yield directory, settings.username
    finally:
        directory.close()


@dataclass(frozen=True)
class Seen:
    """An account as it was found before anything changed, and the user name that the directory was asked with."""

    account: Account
    username: str
    findings: tuple[Finding, ...]


def find_or_prove(context: Context, directory: Directory, asked: str) -> Account | CloudOnly:
    """The one account of that name, or the proof that the person has none here. Raises StepError, TransportError."""
    try:
        return find(directory, asked)
    except StepError as error:
        if error.code != "not_found":
            raise
        return proven(context, directory, asked, error)


def look(context: Context, asked: str) -> Seen | CloudOnly:
    """Find the account and its groups, or that there need be none. Raises StepError, TransportError."""
    with opened(context) as (directory, username):
        account = find_or_prove(context, directory, asked)
        if isinstance(account, CloudOnly):
            return account
        direct = groups.memberships(directory, account)
        state = "disabled already" if account.disabled else "enabled"
        found = [
            Finding("info", SYSTEM, f"the account is {account.dn} ({account.guid}) at {directory.controller}"),
            Finding("info", SYSTEM, f"the account is {state}, and a member of {len(direct)} groups itself"),
        ]
        outside = [g.name for g in direct if not g.inside]
        if outside:
            found.append(
                Finding(
                    "warning", SYSTEM, f"groups that stand outside of {directory.base}: {', '.join(outside)}",
                    "Look whether the credential's account may change them.",
                )
            )  # fmt: skip
        return Seen(account, username, tuple(found))


def bound_guid(context: Context, asked: str) -> UUID | None:
    """The GUID that an earlier step of this run found for the same name."""
    for step in reversed(context.finished_steps()):
        if (step.function or "").startswith("ad.") and step.result.get("asked") == asked:
            guid = step.result.get("object_guid")
            if guid:
                return UUID(str(guid))
    return None


def timestamp(moment: datetime | None = None) -> str:
    """A moment (now) as the exit report writes it."""
    return (moment or utcnow()).strftime("%Y-%m-%dT%H:%M:%SZ")


class AccountFunction(Function[P]):
    """A function about one account."""

    destructive = True
    #: Doing it again changes nothing more: each looks first.
    repeatable = True
    #: What it means when it fails, for the exit report.
    impact: ClassVar[str]
    #: A failure leaves the person a way in.
    critical: ClassVar[bool] = False
    system = SYSTEM
    #: In the words of the delegation of control.
    rights: ClassVar[str]
    #: A person who is proven to have no account here leaves it nothing to do.
    skips_cloud_only: ClassVar[bool] = True

    def do(self, context: Context, parameters: P) -> Outcome:
        """Find the account, refuse a protected one, act, and read back. Skipped for somebody who is cloud-only."""
        try:
            with opened(context) as (directory, username):
                account = self.found(context, directory, parameters)
                if isinstance(account, CloudOnly):
                    return account.skipped(parameters.account)
                refuse_protected(account, parameters.allow, username=username)
                return self.told(self.act(Work(context, directory, account, parameters.account), parameters))
        except StepError as error:
            self._meaning(error)
            raise
        except TransportError as error:
            if error.typed is not None:
                self._meaning(error.typed)
            raise

    def verify(self, context: Context, parameters: P) -> bool | None:
        """Ask the directory. A "no" of a controller that is not the one that was asked to change it tells nothing."""
        with opened(context) as (directory, _):
            account = self.found(context, directory, parameters)
            if isinstance(account, CloudOnly):
                # Not done, and `do` finds that there is nothing to do.
                return False
            done = self.is_done(Work(context, directory, account, parameters.account), parameters)
            asked = context.state(CONTROLLER)
            return None if done is False and asked not in (None, directory.controller) else done

    def preflight(self, context: PreflightContext, parameters: P) -> list[Finding]:
        """The account as the directory has it, asked once for all steps about it; a protected one is refused as by `do`."""
        seen = context.once(("ad", parameters.account), lambda: look(context, parameters.account))
        if isinstance(seen, CloudOnly):
            return [Finding("info", SYSTEM, f"{seen.reason}: the steps about the account will be skipped")]
        try:
            refuse_protected(seen.account, parameters.allow, username=seen.username)
        except StepError as error:
            return [*seen.findings, Finding.of(SYSTEM, error)]
        return list(seen.findings)

    def found(self, context: Context, directory: Directory, parameters: P) -> Account | CloudOnly:
        """The account that is meant. Raises StepError, also for one that an earlier step found and that is gone."""
        bound = self.bound(context, parameters)
        if bound is None and self.skips_cloud_only:
            return find_or_prove(context, directory, parameters.account)
        return find(directory, parameters.account, bound=bound)

    def bound(self, context: Context, parameters: P) -> UUID | None:
        """The object that is meant, whatever its names are now; None: whose name fits."""
        return bound_guid(context, parameters.account)

    @abstractmethod
    def act(self, work: Work, parameters: P) -> Outcome:
        """Do it to the account that was found."""

    @abstractmethod
    def is_done(self, work: Work, parameters: P) -> bool | None:
        """Whether it is already so; None when that cannot be told."""

    def told(self, outcome: Outcome) -> Outcome:
        """The outcome, its error with this function's impact."""
        if outcome.error is not None:
            self._meaning(outcome.error)
        return outcome

    def _meaning(self, error: StepError) -> None:
        error.impact = error.impact or self.impact
        error.critical = error.critical or self.critical


def not_kept(doing: str, directory: Directory) -> StepError:
    """The directory said yes, and what it shows says no."""
    return StepError(
        f"{directory.controller} accepted to {doing} and does not show it afterwards", type=INTEGRATION_ERROR,
        code="unverified", remediation="Look whether something sets it back, such as an identity synchronisation.",
    )  # fmt: skip


class AttributeFunction(AccountFunction[P]):
    """A function that changes attributes of the account itself. `changes` decides everything: none left means done."""

    #: Completes "accepted to ...".
    doing: ClassVar[str]

    @abstractmethod
    def changes(self, work: Work, account: Account, parameters: P) -> Sequence[Change]:
        """What must still be changed for this account, as it was read; empty when all is as it should be."""

    @abstractmethod
    def shown(self, work: Work, before: Account, after: Account, parameters: P) -> dict[str, Any]:
        """The result, once it is done."""

    def act(self, work: Work, parameters: P) -> Outcome:
        """Change, read back; after a lost answer look, and send it once more if it did not arrive."""
        before = account = work.account
        changes = first = self.changes(work, account, parameters)
        lost: AnswerLost | None = None
        for _ in range(2):
            if not changes:
                break
            pending = changes
            lost = work.sent(lambda: work.directory.modify(account.reference, pending))  # noqa: B023 - called at once
            account = work.now()
            changes = self.changes(work, account, parameters)
            if lost is None:
                break
        facts = work.facts(account, already=not first)
        if changes:
            error = (lost.typed if lost else None) or not_kept(self.doing, work.directory)
            return Outcome.failed(error, **facts)
        more = {"verified_after": "answer_lost"} if lost else {}
        return Outcome.succeeded(**facts, **self.shown(work, before, account, parameters), **more)

    def is_done(self, work: Work, parameters: P) -> bool | None:
        """Nothing is left to change."""
        return not self.changes(work, work.account, parameters)
