"""What the functions on mailboxes share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from agent.errors import StepError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR, MANAGER_NOT_FOUND
from agent.functions.base import Finding, Outcome, PreflightContext
from agent.functions.microsoft365.base import (
    Account,
    UserParameters,
    Work,
    account_ahead,
    account_name,
    account_of,
    find_account,
    known_other,
    tenant_of,
)
from agent.functions.microsoft365.checks import SYSTEM
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.exchange import Answered, Cmdlet, answered

#: Stands for the leaver's manager, as the directory has it.
MANAGER = "manager"
_BYTES = re.compile(r"([\d,. ]+) bytes")
GIGABYTE = 1024**3
SHARED = "SharedMailbox"
#: What a shared mailbox may hold without a licence, and the size from which on it comes near that.
LIMIT_BYTES, WARN_BYTES = 50 * GIGABYTE, 49 * GIGABYTE


def mail(
    work: Work[Any], cmdlet: str, /, *, may_repeat: bool = True, select: Sequence[str] = (), **values: Any
) -> Cmdlet:
    """A cmdlet that is routed by the leaver's mailbox."""
    return Cmdlet(cmdlet, values, work.user.upn, may_repeat, tuple(select))


def mailbox(work: Work[Any], *select: str) -> Mapping[str, Any]:
    """The leaver's mailbox, by the account's object id. Raises ServiceRefused (missing) where there is none."""
    found = work.tenant.mail.invoke(mail(work, "Get-Mailbox", Identity=work.user.id, select=select)).entries
    if len(found) != 1:
        raise ServiceRefused(
            f"Exchange knows {len(found)} mailboxes of the account",
            type=ACCOUNT_NOT_FOUND,
            status=404,
            code="no_mailbox",
        )
    return found[0]


@dataclass(frozen=True)
class MailboxState:
    """What decides whether a mailbox can do without a licence."""

    shared: bool
    held: bool
    has_archive: bool
    #: Bytes; None when they cannot be read.
    size: int | None


def mailbox_state(work: Work[Any]) -> MailboxState | None:
    """How the mailbox is now, None where there is none. Raises the errors of Exchange."""
    select = ("RecipientTypeDetails", "LitigationHoldEnabled", "InPlaceHolds", "ArchiveStatus")
    asked = work.tenant.mail.invoke_all(
        [
            mail(work, "Get-Mailbox", Identity=work.user.id, select=select),
            mail(work, "Get-MailboxStatistics", Identity=work.user.id, select=("TotalItemSize",)),
        ]
    )
    first = asked[0]
    if isinstance(first, ServiceRefused) and first.missing:
        return None
    found = answered(first).entries[0]
    statistics = asked[1].entries if isinstance(asked[1], Answered) else ()
    return MailboxState(
        found.get("RecipientTypeDetails") == SHARED,
        bool(found.get("LitigationHoldEnabled") or found.get("InPlaceHolds")),
        found.get("ArchiveStatus") == "Active", size_of(statistics[0]) if statistics else None,
    )  # fmt: skip


def mailbox_findings(context: PreflightContext, user: str) -> list[Finding]:
    """What hinders a mailbox from becoming a shared one without a licence; asked once for all steps about it."""
    return list(context.once(("m365", "mailbox", user), lambda: _mailbox_looked(context, user)))


def _mailbox_looked(context: PreflightContext, user: str) -> list[Finding]:
    account = account_ahead(context, user)
    with tenant_of(context) as tenant:
        state = mailbox_state(Work(context, tenant, account, UserParameters(user=user)))
    if state is None:
        return [
            Finding("warning", SYSTEM, "the account has no mailbox", "Steps on the mailbox will be skipped or fail.")
        ]
    size = "of unknown size" if state.size is None else f"of {state.size / GIGABYTE:.1f} GB"
    found = [Finding("info", SYSTEM, f"the mailbox is {'a shared' if state.shared else 'a user'} one {size}")]
    reasons = (
        (state.size is not None and state.size >= WARN_BYTES,
         "the mailbox holds 49 GB or more; a shared mailbox without a licence may hold 50 GB", "Make it smaller"),
        (state.held, "the mailbox is under a hold, which needs a licence", "Have the hold lifted first"),
        (state.has_archive, "the mailbox has an archive, which needs a licence", "Export or disable it"),
    )  # fmt: skip
    return [*found, *(Finding("warning", SYSTEM, s, f"{r}, or keep its licence.") for so, s, r in reasons if so)]


def no_mailbox(error: ServiceRefused) -> Outcome:
    """The outcome of removing something from a mailbox that there is not. Raises any other error."""
    if not error.missing:
        raise error
    return Outcome.skipped("the account has no mailbox")


def needs_mailbox(error: ServiceRefused) -> StepError:
    """The error of wanting something of a mailbox that there is not."""
    if not error.missing:
        return error
    return StepError(
        "the account has no mailbox", type=ACCOUNT_NOT_FOUND, code="no_mailbox",
        remediation="Give the account a licence with Exchange for the time being, or leave this step out.",
    )  # fmt: skip


def size_of(statistics: Mapping[str, Any]) -> int | None:
    """Bytes of `TotalItemSize`, such as `12.4 GB (13,314,398,208 bytes)`; None when it cannot be read."""
    found = _BYTES.search(str(statistics.get("TotalItemSize") or ""))
    digits = re.sub(r"\D", "", found[1]) if found else ""
    return int(digits) if digits else None


def person_name(value: str) -> str:
    """`manager`, an object id or a user principal name. Raises ValueError."""
    return MANAGER if value.strip().lower() == MANAGER else account_name(value)


#: Somebody who takes over.
PersonName = Annotated[str, Field(max_length=320), AfterValidator(person_name)]


def split_names(value: Any) -> Any:
    """One or more accounts: a list, or a text with `,` or `;` or lines between them. Raises ValueError."""
    names = re.split(r"[,;\n]+", value) if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        raise ValueError("write one or more accounts")
    found = [str(n).strip() for n in names if str(n).strip()]
    return tuple(dict.fromkeys(person_name(n) for n in found))


def other_account(work: Work[Any], asked: str) -> Account:
    """The account of somebody who takes over; `manager` is the leaver's manager.

    Raises StepError: MANAGER_NOT_FOUND, ACCOUNT_NOT_FOUND, and for the leaver's own account.
    """
    found = known_other(work, asked.lower())
    if found is None:
        found = manager_of(work) if asked.lower() == MANAGER else find_account(work.tenant, asked)
        work.others[asked.lower()] = found
    if found.id == work.user.id:
        raise StepError(
            f"{asked} is the leaver", type=INTEGRATION_ERROR, code="is_the_leaver",
            remediation="Name somebody else.",
        )  # fmt: skip
    return found


def manager_of(work: Work[Any]) -> Account:
    """The leaver's manager. Raises StepError (MANAGER_NOT_FOUND)."""
    try:
        return account_of(work.tenant.graph.call(work.get(MANAGER)))
    except ServiceRefused as error:
        if not error.missing:
            raise
        raise StepError(
            "the directory names no manager of the account", type=MANAGER_NOT_FOUND, code="manager_not_found",
            remediation="Enter the manager in the directory, or name the person who takes over.",
        ) from error  # fmt: skip
