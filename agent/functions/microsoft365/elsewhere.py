"""The leaver's rights on the mailboxes and calendars of others.

Send As and Send on Behalf are asked for by the leaver, in one question each. Full Access and calendars can only be asked
mailbox by mailbox, ten and twenty to a request; so the scope is chosen, and the number of mailboxes asked is in the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from agent.functions.base import Outcome
from agent.functions.microsoft365 import grants
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work, judged, still_there
from agent.functions.microsoft365.delegation import HASH_TABLE, rights_of
from agent.functions.microsoft365.mailboxes import mail
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.exchange import PAGE, Cmdlet, answered
from agent.services.microsoft.graph import Call, get, path_of

_SHARED = ["SharedMailbox", "RoomMailbox", "EquipmentMailbox"]
_ALL = ["UserMailbox", *_SHARED]


class ScopeParameters(UserParameters):
    """Where it is looked for."""

    #: `shared`: shared, room and equipment mailboxes; `all`: those of people as well.
    scope: Literal["shared", "all"] = "all"


class RemoveMailboxPermissionsElsewhere(UserFunction[ScopeParameters]):
    """Takes the leaver's Full Access, Send As and Send on Behalf on every other mailbox away."""

    name = "m365.remove_mailbox_permissions_elsewhere"
    summary = "Remove Full Access, Send As and Send on Behalf of an account on all other mailboxes"
    Parameters = ScopeParameters
    destructive = True
    repeatable = True
    impact = "The leaver keeps rights on mailboxes of others."

    def preview(self, parameters: ScopeParameters) -> str:
        """The calls that would be made."""
        return (
            f"Remove-MailboxPermission, Remove-RecipientPermission and Set-Mailbox -GrantSendOnBehalfTo @{{remove=...}} for "
            f"{parameters.user} wherever it has rights (mailboxes: {parameters.scope})"
        )

    def change(self, work: Work[ScopeParameters]) -> Outcome:
        """Find, remove, and find again: what is found twice is still there."""
        mailboxes = _mailboxes(work)
        found = _rights(work, [str(m["ExternalDirectoryObjectId"]) for m in mailboxes])
        grants.keep(work, [grants.Grant(kind=kind, where=where) for kind, where in found])
        replies = work.tenant.mail.invoke_all([_removal(work, kind, where) for kind, where in found])
        left = set(_rights(work, sorted({where for kind, where in found if kind == "FullAccess"}))) if found else set()
        items = []
        for (kind, where), reply in zip(found, replies, strict=True):
            item: dict[str, Any] = {"mailbox": where, "right": kind, "outcome": "removed"}
            if (kind, where) in left:
                item |= still_there(error=reply)
            items.append(item)
        return judged(items, "permissions", mailboxes_asked=len(mailboxes))

    def done(self, work: Work[ScopeParameters]) -> bool:
        """Whether no right is found."""
        return not _rights(work, [str(m["ExternalDirectoryObjectId"]) for m in _mailboxes(work)])


def _mailboxes(work: Work[ScopeParameters]) -> list[Mapping[str, Any]]:
    """Mailboxes in scope but the leaver's."""
    kinds = _SHARED if work.parameters.scope == "shared" else _ALL
    ask = mail(
        work, "Get-Mailbox", ResultSize="Unlimited", RecipientTypeDetails=kinds, select=("ExternalDirectoryObjectId",)
    )
    found = work.tenant.mail.invoke(ask).entries
    return [m for m in found if m.get("ExternalDirectoryObjectId") not in (None, "", work.user.id)]


def _rights(work: Work[ScopeParameters], full_access_in: list[str]) -> list[tuple[grants.Kind, str]]:
    """The leaver's rights as (kind, object id or identity of the mailbox)."""
    # One after the other they would be three requests more, each time that is asked.
    me = mail(work, "Get-Recipient", Identity=work.user.id, select=("DistinguishedName",))
    send_as = mail(work, "Get-RecipientPermission", Trustee=work.user.id, ResultSize="Unlimited")
    asks = [mail(work, "Get-MailboxPermission", Identity=m, User=work.user.id) for m in full_access_in]
    replies = work.tenant.mail.invoke_all([me, send_as, *asks])
    found: list[tuple[grants.Kind, str]] = []
    for where, reply in zip(full_access_in, replies[2:], strict=True):
        if isinstance(reply, ServiceRefused) and reply.missing:
            continue
        if any(
            "FullAccess" in rights_of(e) and not e.get("IsInherited") and not e.get("Deny")
            for e in answered(reply).entries
        ):
            found.append(("FullAccess", where))
    if isinstance(replies[0], ServiceRefused) and replies[0].missing:
        return found
    entries = answered(replies[0]).entries
    if not entries:
        return found
    holders = answered(replies[1]).entries
    if len(holders) >= PAGE:
        # A batch gives first pages only.
        holders = _entries(work, send_as)
    found += [("SendAs", str(e["Identity"])) for e in holders if "SendAs" in rights_of(e)]
    name = str(entries[0]["DistinguishedName"]).replace("'", "''")
    behalf = mail(
        work, "Get-Mailbox", Filter=f"GrantSendOnBehalfTo -eq '{name}'", ResultSize="Unlimited",
        select=("ExternalDirectoryObjectId",),
    )  # fmt: skip
    found += [("SendOnBehalf", str(e["ExternalDirectoryObjectId"])) for e in _entries(work, behalf)]
    return found


def _entries(work: Work[Any], cmdlet: Cmdlet) -> list[Mapping[str, Any]]:
    """Entries of a question; none when what it asks about is not there."""
    try:
        return list(work.tenant.mail.invoke(cmdlet).entries)
    except ServiceRefused as error:
        if error.missing:
            return []
        raise


def _removal(work: Work[Any], kind: str, where: str) -> Cmdlet:
    leaver = work.user.id
    if kind == "FullAccess":
        return mail(
            work, "Remove-MailboxPermission", Identity=where, User=leaver, AccessRights=["FullAccess"], Confirm=False
        )
    if kind == "SendAs":
        return mail(
            work, "Remove-RecipientPermission", Identity=where, Trustee=leaver, AccessRights=["SendAs"], Confirm=False
        )
    return mail(work, "Set-Mailbox", Identity=where, GrantSendOnBehalfTo={"@odata.type": HASH_TABLE, "remove": leaver})


class RemoveCalendarPermissionsElsewhere(UserFunction[ScopeParameters]):
    """Takes the leaver out of the default calendar of everybody else."""

    name = "m365.remove_calendar_permissions_elsewhere"
    summary = "Remove the permissions of an account on the default calendars of others"
    Parameters = ScopeParameters
    destructive = True
    repeatable = True
    impact = "The leaver keeps rights on calendars of others."

    def preview(self, parameters: ScopeParameters) -> str:
        """The calls that would be made."""
        return (
            f"DELETE /users/{{id}}/calendar/calendarPermissions/{{id}} wherever {parameters.user} has one "
            f"(mailboxes: {parameters.scope})"
        )

    def change(self, work: Work[ScopeParameters]) -> Outcome:
        """Find by address, remove, and find again."""
        mailboxes = [str(m["ExternalDirectoryObjectId"]) for m in _mailboxes(work)]
        found = self._found(work, mailboxes)
        grants.keep(work, [grants.Grant(kind="calendar", where=m, what=role) for m, _, role in found])
        calls = [Call("DELETE", path_of("users", m, "calendar", "calendarPermissions", p)) for m, p, _ in found]
        replies = work.tenant.graph.batch(calls) if calls else []
        left = {(m, p) for m, p, _ in self._found(work, sorted({m for m, _, _ in found}))}
        items = []
        for (where, permission, role), reply in zip(found, replies, strict=True):
            item: dict[str, Any] = {"mailbox": where, "role": role, "outcome": "removed"}
            if (where, permission) in left:
                item |= still_there(error=reply)
            items.append(item)
        return judged(items, "calendars", mailboxes_asked=len(mailboxes))

    def done(self, work: Work[ScopeParameters]) -> bool:
        """Whether none is found."""
        return not self._found(work, [str(m["ExternalDirectoryObjectId"]) for m in _mailboxes(work)])

    def _found(self, work: Work[ScopeParameters], mailboxes: list[str]) -> list[tuple[str, str, str]]:
        """(mailbox, id of the permission, role) of every permission that is the leaver's by its address."""
        asks = [get("users", m, "calendar", "calendarPermissions") for m in mailboxes]
        addresses = {work.user.upn.lower(), work.user.mail.lower()} - {""}
        found = []
        for where, ask, reply in zip(mailboxes, asks, work.tenant.graph.batch(asks) if asks else [], strict=True):
            if isinstance(reply, ServiceRefused) and reply.missing:
                continue
            if isinstance(reply, Exception):
                raise reply
            for entry in work.tenant.graph.rest(reply, ask):
                if str((entry.get("emailAddress") or {}).get("address") or "").lower() in addresses:
                    found.append((where, str(entry["id"]), str(entry.get("role") or "")))
        return found
