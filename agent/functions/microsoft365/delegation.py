"""Rights of others on the leaver's mailbox: Full Access, Send As, Send on Behalf."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, Field

from agent.errors import StepError
from agent.functions.base import Outcome
from agent.functions.microsoft365.base import (
    Account,
    UserFunction,
    UserParameters,
    Work,
    failed_item,
    is_object_id,
    judged,
    still_there,
)
from agent.functions.microsoft365.mailboxes import mail, mailbox, needs_mailbox, other_account, split_names
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.exchange import Answered, Cmdlet

#: One or more accounts; `manager` is the leaver's manager.
Delegates = Annotated[tuple[str, ...], BeforeValidator(split_names), Field(min_length=1, max_length=50)]
#: How a change of a list of values is written.
HASH_TABLE = "#Exchange.GenericHashTable"


class DelegateParameters(UserParameters):
    """To whom."""

    delegates: Delegates


class FullAccessParameters(DelegateParameters):
    """To whom, and how it appears."""

    #: Outlook opens the mailbox by itself.
    automap: bool = True


P = TypeVar("P", bound=DelegateParameters)


class DelegationFunction(UserFunction[P]):
    """Gives a right to each delegate, and asks who has it."""

    repeatable = True
    impact = "Whoever takes over has no access to the mailbox."
    right: ClassVar[str]

    @abstractmethod
    def grant(self, work: Work[P], delegate: Account) -> Cmdlet:
        """The cmdlet that gives the right."""

    @abstractmethod
    def holders(self, work: Work[P]) -> set[str]:
        """Names (ids, addresses, whatever Exchange shows; lower case) of those who have the right."""

    def change(self, work: Work[P]) -> Outcome:
        """Give it to each who has it not; one result per delegate."""
        found: dict[str, Account | StepError] = {}
        for asked in work.parameters.delegates:
            try:
                found[asked] = other_account(work, asked)
            except StepError as error:
                if isinstance(error, ServiceRefused):
                    raise
                found[asked] = error
        try:
            before = self.holders(work)
        except ServiceRefused as error:
            raise needs_mailbox(error) from error
        new = {a: d for a, d in found.items() if isinstance(d, Account) and not has(d, before)}
        replies = dict(zip(new, work.tenant.mail.invoke_all([self.grant(work, d) for d in new.values()]), strict=True))
        after = self.holders(work) if new else before
        items = [self._item(asked, found[asked], replies.get(asked), after) for asked in found]
        return judged(items, "delegates", permission_level=self.right)

    def _item(self, asked: str, found: Account | StepError, reply: Any, after: set[str]) -> dict[str, Any]:
        if isinstance(found, StepError):
            return {"delegate": asked, "granted": False, **failed_item(found)}
        item: dict[str, Any] = {"delegate": found.upn, "id": found.id, "permission_level": self.right}
        if has(found, after):
            return {**item, "granted": True, "outcome": "already" if reply is None else "granted"}
        return {**item, "granted": False, **still_there(error=reply)}

    def done(self, work: Work[P]) -> bool:
        """Whether all of them have it."""
        holders = self.holders(work)
        return all(has(other_account(work, asked), holders) for asked in work.parameters.delegates)


def has(account: Account, names: set[str]) -> bool:
    """Whether an account is among names of Exchange: by id, user principal name or address, never by display name."""
    return not names.isdisjoint({account.id.lower(), account.upn.lower(), account.mail.lower()} - {""})


class GrantFullAccess(DelegationFunction[FullAccessParameters]):
    """Lets delegates open the mailbox."""

    name = "m365.grant_full_access"
    summary = "Give accounts Full Access to the mailbox, with or without automapping"
    Parameters = FullAccessParameters
    right = "Full Access"

    def preview(self, parameters: FullAccessParameters) -> str:
        """The calls that would be made."""
        return (
            f"Add-MailboxPermission {parameters.user} -AccessRights FullAccess "
            f"-AutoMapping {str(parameters.automap).lower()} -User {', '.join(parameters.delegates)}"
        )

    def grant(self, work: Work[FullAccessParameters], delegate: Account) -> Cmdlet:
        """Add-MailboxPermission."""
        return mail(
            work, "Add-MailboxPermission", Identity=work.user.id, User=delegate.id, AccessRights=["FullAccess"],
            AutoMapping=work.parameters.automap, InheritanceType="All", Confirm=False,
        )  # fmt: skip

    def holders(self, work: Work[FullAccessParameters]) -> set[str]:
        """Those with FullAccess that is not denied."""
        found = work.tenant.mail.invoke(mail(work, "Get-MailboxPermission", Identity=work.user.id)).entries
        return {
            str(e.get("User")).lower() for e in found
            if "FullAccess" in rights_of(e) and not e.get("Deny") and not e.get("IsInherited")
        }  # fmt: skip


class GrantSendAs(DelegationFunction[DelegateParameters]):
    """Lets delegates send under the leaver's address."""

    name = "m365.grant_send_as"
    summary = "Give accounts Send As on the mailbox"
    Parameters = DelegateParameters
    right = "Send As"

    def preview(self, parameters: DelegateParameters) -> str:
        """The calls that would be made."""
        return (
            f"Add-RecipientPermission {parameters.user} -AccessRights SendAs -Trustee {', '.join(parameters.delegates)}"
        )

    def grant(self, work: Work[DelegateParameters], delegate: Account) -> Cmdlet:
        """Add-RecipientPermission."""
        return mail(
            work, "Add-RecipientPermission", Identity=work.user.id, Trustee=delegate.id, AccessRights=["SendAs"],
            Confirm=False,
        )  # fmt: skip

    def holders(self, work: Work[DelegateParameters]) -> set[str]:
        """Those with SendAs."""
        found = work.tenant.mail.invoke(mail(work, "Get-RecipientPermission", Identity=work.user.id)).entries
        return recipients(work, [str(e.get("Trustee")) for e in found if "SendAs" in rights_of(e)])


class GrantSendOnBehalf(DelegationFunction[DelegateParameters]):
    """Lets delegates send on behalf of the leaver."""

    name = "m365.grant_send_on_behalf"
    summary = "Give accounts Send on Behalf on the mailbox"
    Parameters = DelegateParameters
    right = "Send on Behalf"

    def preview(self, parameters: DelegateParameters) -> str:
        """The calls that would be made."""
        return f"Set-Mailbox {parameters.user} -GrantSendOnBehalfTo @{{add={', '.join(parameters.delegates)}}}"

    def grant(self, work: Work[DelegateParameters], delegate: Account) -> Cmdlet:
        """Set-Mailbox with an addition to the list."""
        return mail(
            work, "Set-Mailbox", Identity=work.user.id,
            GrantSendOnBehalfTo={"@odata.type": HASH_TABLE, "add": delegate.id},
        )  # fmt: skip

    def holders(self, work: Work[DelegateParameters]) -> set[str]:
        """Those in the list."""
        names = mailbox(work, "GrantSendOnBehalfTo").get("GrantSendOnBehalfTo") or []
        return recipients(work, [str(n) for n in names])


def recipients(work: Work[Any], names: list[str]) -> set[str]:
    """The names with the object ids and addresses behind them: Exchange lists recipients by names of its own."""
    known = {n.lower() for n in names}
    unknown = [n for n in names if "@" not in n and not n.upper().startswith("NT AUTHORITY") and not is_object_id(n)]
    select = ("ExternalDirectoryObjectId", "PrimarySmtpAddress")
    asks = [mail(work, "Get-Recipient", Identity=n, select=select) for n in unknown]
    for reply in work.tenant.mail.invoke_all(asks):
        entries = reply.entries if isinstance(reply, Answered) and len(reply.entries) == 1 else ()
        known |= {str(v).lower() for e in entries for v in e.values() if v}
    return known


def rights_of(entry: Mapping[str, Any]) -> list[str]:
    """The rights of an entry, which Exchange gives as a list or as one text."""
    rights = entry.get("AccessRights") or []
    return [r.strip() for r in rights.split(",")] if isinstance(rights, str) else [str(r) for r in rights]
