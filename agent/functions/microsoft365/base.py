"""What the functions `m365.*` share: the tenant of the client's credential, and the leaver, bound to the object id.

Every step of a run acts on the object id that the first one found, so a name that changes hands meanwhile, or is given to
somebody else, cannot turn a step against another person. Display names never identify anybody.
"""

from __future__ import annotations

import re
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, Field

from agent.errors import AnswerLost, StepError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR, PERMISSION_DENIED
from agent.functions import backups
from agent.functions.base import Context, Finding, Function, Outcome, PreflightContext
from agent.functions.base import Parameters as BaseParameters
from agent.functions.confirming import FIRST_LOOK as FIRST_LOOK
from agent.functions.confirming import LOOKS as LOOKS
from agent.functions.confirming import failed_item as failed_item
from agent.functions.confirming import judged as judged
from agent.functions.confirming import not_confirmed as not_confirmed
from agent.functions.confirming import settled as settled
from agent.functions.confirming import still_there as still_there
from agent.functions.microsoft365 import rights
from agent.functions.microsoft365.checks import SYSTEM, account_findings
from agent.services.microsoft.errors import ServiceRefused, answer_lost
from agent.services.microsoft.graph import Call, get, path_of, value_of
from agent.services.microsoft.settings import KIND
from agent.services.microsoft.tenant import Tenant

#: What is asked about an account whenever it is looked up.
SELECT = "id,userPrincipalName,displayName,mail,onPremisesSyncEnabled"
_GONE = "Microsoft 365 deleted account"


def account_name(value: str) -> str:
    """An object id or a user principal name (or mail address), as written. Raises ValueError."""
    value = value.strip()
    if not is_object_id(value) and not re.fullmatch(r"[^@\s/\\]+@[^@\s/\\]+", value):
        raise ValueError("write an object id, or a user principal name such as name@company.com")
    return value


def is_object_id(value: str) -> bool:
    """Whether it is a GUID."""
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


AccountName = Annotated[str, Field(max_length=320), AfterValidator(account_name)]


def text_items(value: Any) -> Any:
    """A list as text, divided by semicolons or lines."""
    return [p.strip() for p in re.split(r"[;\n]", value) if p.strip()] if isinstance(value, str) else value


class UserParameters(BaseParameters):
    """Whose account."""

    #: Object id or user principal name of the leaver; a mail address is found as well.
    user: AccountName


@dataclass(frozen=True)
class Account:
    """An account as it was found."""

    id: str
    upn: str
    name: str
    mail: str
    #: It is kept in the local Active Directory.
    synced: bool

    def shown(self, asked: str, tenant: str) -> dict[str, Any]:
        """The form in results, by which later steps of the run find the same account."""
        return {
            "asked": asked, "tenant": tenant, "id": self.id, "upn": self.upn, "name": self.name, "mail": self.mail,
            "synced": self.synced,
        }  # fmt: skip


P = TypeVar("P", bound=UserParameters)


@dataclass(frozen=True)
class Work(Generic[P]):
    """One step at work: in which tenant, on whom, with what."""

    context: Context
    tenant: Tenant
    user: Account
    parameters: P
    #: Others whom this step has looked up, by the name that was asked for; later steps of the run need not ask again.
    others: dict[str, Account] = field(default_factory=dict)

    def path(self, *parts: str) -> str:
        """A path below the leaver."""
        return path_of("users", self.user.id, *parts)

    def get(self, *parts: str, after: int | None = None, **query: str) -> Call:
        """A question about the leaver."""
        return get("users", self.user.id, *parts, after=after, **query)


class UserFunction(Function[P]):
    """A function on one account. Subclasses say what to change, and how to ask whether it is so."""

    #: Type and impact of a failure that says nothing better of itself.
    failure_type: ClassVar[str] = INTEGRATION_ERROR
    impact: ClassVar[str] = "The account stays as it is."
    critical: ClassVar[bool] = False
    system = SYSTEM

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" in cls.__dict__:
            cls.rights = rights.text_of(cls.name)

    @abstractmethod
    def change(self, work: Work[P]) -> Outcome:
        """Do it and ask back. Raises the errors of the services."""

    def done(self, work: Work[P]) -> bool | None:
        """Whether the tenant says that it is so."""
        return None

    def account(self, tenant: Tenant, context: Context, parameters: P) -> Account:
        """Whose account it is. Raises StepError."""
        return find_account(tenant, parameters.user, bound=context)

    def do(self, context: Context, parameters: P) -> Outcome:
        """Do it. Raises StepError, AnswerLost when it may have been done, CannotConnect when nothing was sent."""
        with tenant_of(context) as tenant:
            with self._typed(tenant):
                user = self.account(tenant, context, parameters)
                work = Work(context, tenant, user, parameters)
                outcome = self.change(work)
            result = {"user": user.shown(parameters.user, tenant.id), **outcome.result}
            if work.others:
                result["others"] = [other.shown(asked, tenant.id) for asked, other in work.others.items()]
            return Outcome(outcome.state, result, outcome.error and self._explained(outcome.error))

    def verify(self, context: Context, parameters: P) -> bool | None:
        """Ask the tenant. An account that is not there has nothing done to it."""
        with tenant_of(context) as tenant, self._typed(tenant):
            return self.done(Work(context, tenant, self.account(tenant, context, parameters), parameters))

    def rights_ahead(self, context: PreflightContext) -> list[Finding]:
        """The rights of this function that the app registration has or lacks."""

        def ask() -> list[Finding]:
            with tenant_of(context) as tenant:
                return rights.findings(tenant, self.name)

        return list(context.once(("m365", "rights", self.name), ask))

    def preflight(self, context: PreflightContext, parameters: P) -> list[Finding]:
        """The account as the tenant has it, and the store of a backup; asked once for all steps about the same."""
        store = backups.findings(context) if self.backs_up else []
        return [*store, *context.once(("m365", "account", parameters.user), lambda: self._looked(context, parameters))]

    def _looked(self, context: PreflightContext, parameters: P) -> list[Finding]:
        user = account_ahead(context, parameters.user)
        with tenant_of(context) as tenant:
            found = [Finding("info", SYSTEM, f"the account is {user.upn} ({user.id}) in the tenant {tenant.id}")]
            if user.synced:
                found.append(
                    Finding(
                        "warning", SYSTEM, "the account is synchronised from the local Active Directory",
                        "What that directory keeps is changed there: give the client its credential active_directory "
                        "and list the scripts of Active Directory.",
                    )
                )  # fmt: skip
            return [*found, *account_findings(tenant.graph, user.id)]

    @contextmanager
    def _typed(self, tenant: Tenant) -> Iterator[None]:
        """Give errors the type and impact of this function, and tell "not done" from "not known"."""
        try:
            yield
        except AnswerLost as error:
            if tenant.wrote or error.typed is None:
                raise
            raise self._explained(error.typed) from error
        except ServiceRefused as error:
            if error.passing and error.status >= 500 and tenant.wrote:
                raise answer_lost("Microsoft 365", "the question after the change", str(error)) from error
            raise self._explained(error) from error
        except StepError as error:
            raise self._explained(error) from error

    def _explained(self, error: StepError) -> StepError:
        kind = self.failure_type if error.type == INTEGRATION_ERROR and _is_refusal(error) else error.type
        return StepError(
            str(error), type=kind, code=error.code, impact=error.impact or self.impact,
            remediation=error.remediation or "Look at the account in the Microsoft 365 admin centre, then retry the run.",
            critical=error.critical or self.critical,
        )  # fmt: skip


def _is_refusal(error: StepError) -> bool:
    """Whether the service itself refused this act, rather than being busy, broken or out of reach."""
    if isinstance(error, ServiceRefused):
        return not error.passing
    return error.code not in ("unreachable", "answer_lost", "unexpected_answer")


@contextmanager
def tenant_of(context: Context) -> Iterator[Tenant]:
    """The tenant of the run's client. Raises StepError when the client has no credential for one."""
    found = context.credential(KIND)
    if found is None:
        raise StepError(
            f"there is no credential of the kind {KIND} for this client", type=PERMISSION_DENIED,
            code="missing_credential", impact="Nothing was changed in Microsoft 365.",
            remediation=f"Store it: exeunt credential add NAME --kind {KIND} --client ... --setting tenant_id=... "
            "--setting client_id=... --secret client_secret",
        )  # fmt: skip
    with Tenant(*found, run_id=context.root_id) as tenant:
        yield tenant


def find_account(tenant: Tenant, asked: str, *, bound: Context | None = None) -> Account:
    """The account of an object id, user principal name or mail address. Raises StepError (ACCOUNT_NOT_FOUND).

    `bound`: what an earlier step of the run found under the same name and tenant counts.
    """
    known = _bound(bound, asked, tenant.id) if bound else None
    if known is not None:
        return known
    try:
        return account_of(tenant.graph.call(get("users", asked, select=SELECT)))
    except ServiceRefused as error:
        if not error.missing:
            raise
    if "@" in asked:
        # The mail address may differ from the name that one signs in with.
        quoted = asked.replace("'", "''")
        words = f"mail eq '{quoted}' or proxyAddresses/any(a:a eq 'smtp:{quoted}')"
        found = tenant.graph.all(get("users", select=SELECT, filter=words))
        if len(found) == 1:
            return account_of(found[0])
    raise StepError(
        f"there is no account {asked!r} in the tenant {tenant.id}", type=ACCOUNT_NOT_FOUND, code="account_not_found",
        impact="Nothing was changed.", remediation="Check the name, and which tenant the client's credential is for.",
    )  # fmt: skip


def account_ahead(context: PreflightContext, asked: str) -> Account:
    """The account of a name, before anything changes; looked for once. Raises as `find_account`."""

    def ask() -> Account:
        with tenant_of(context) as tenant:
            return find_account(tenant, asked)

    return context.once(("m365", "found", asked), ask)


def _bound(context: Context, asked: str, tenant: str) -> Account | None:
    for step in reversed(context.finished_steps()):
        user = step.result.get("user")
        if isinstance(user, Mapping) and user.get("asked") == asked and user.get("tenant") == tenant:
            return Account(user["id"], user["upn"], user["name"], user["mail"], bool(user["synced"]))
    return None


def known_other(work: Work[Any], asked: str) -> Account | None:
    """Somebody whom this step, or an earlier one of the run about the same leaver, has looked up under the same name."""
    if asked in work.others:
        return work.others[asked]
    for step in reversed(work.context.finished_steps()):
        user = step.result.get("user")
        others = step.result.get("others")
        if not isinstance(user, Mapping) or user.get("id") != work.user.id or not isinstance(others, list):
            continue
        for other in others:
            if other.get("asked") == asked and other.get("tenant") == work.tenant.id:
                return Account(other["id"], other["upn"], other["name"], other["mail"], bool(other["synced"]))
    return None


def account_of(body: Mapping[str, Any]) -> Account:
    """An account from Graph's answer."""
    return Account(
        str(body["id"]), str(body.get("userPrincipalName") or ""), str(body.get("displayName") or ""),
        str(body.get("mail") or ""), bool(body.get("onPremisesSyncEnabled")),
    )  # fmt: skip


def deleted_account(context: Context, asked: str, tenant: str) -> str | None:
    """The object id of an account that was deleted by us under that name, None when none was."""
    if is_object_id(asked):
        return asked
    name, _, rest = (context.state(_GONE) or "").partition(" ")
    where, _, object_id = rest.partition(" ")
    return object_id if (name, where) == (asked, tenant) else None


def remember_deleted(work: Work[Any]) -> None:
    """Keep the object id before the account is deleted: afterwards its name finds nothing."""
    work.context.set_state(_GONE, f"{work.parameters.user} {work.tenant.id} {work.user.id}")


def patch_user(
    work: Work[Any], body: Mapping[str, Any], select: str, good: Callable[[Mapping[str, Any]], bool]
) -> Outcome:
    """Look, change and look again in one request; changes nothing that is as wanted. Raises when it does not come true.

    Result: `before`, `after` (what `select` names) and `outcome`: changed or already.
    """
    before, wrote, after = work.tenant.graph.batch(
        [work.get(select=select), Call("PATCH", work.path(), body, after=0), work.get(select=select, after=1)]
    )
    first = _only(value_of(before), select)
    value_of(wrote)
    last = settled(lambda: work.tenant.graph.call(work.get(select=select)), good, first=value_of(after))
    return Outcome.succeeded(outcome="already" if good(first) else "changed", before=first, after=_only(last, select))


def _only(body: Mapping[str, Any], select: str) -> dict[str, Any]:
    return {name: body.get(name) for name in select.split(",")}
