"""What a step takes away outside the leaver's own account is kept first: rights on mailboxes, calendars and sites of others.

Nobody could ask for all of it in advance without asking every mailbox and site of the tenant twice. So each function that finds
such rights writes down what it is about to remove, before it does; `m365.restore_from_snapshot` gets it with the snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from agent.functions.microsoft365.base import Work
from agent.functions.microsoft365.delegation import HASH_TABLE, rights_of
from agent.functions.microsoft365.mailboxes import mail
from agent.services.microsoft.exchange import Cmdlet
from agent.services.microsoft.graph import Call, get, path_of

Kind = Literal["FullAccess", "SendAs", "SendOnBehalf", "calendar", "site", "sharing", "admin_given"]
#: How the variable of a run's state is called that holds what was removed.
_VARIABLE = "Microsoft 365 grants of"


class Grant(BaseModel):
    """One right that is taken away, or (`admin_given`) was given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    #: Identity of the mailbox, or address of the site.
    where: str
    #: Role on the calendar, sharing of the site, or whose right it is.
    what: str = ""
    #: On a site: administrator, ids of the site's groups, ids of the role definitions that were assigned directly.
    admin: bool = False
    groups: tuple[int, ...] = ()
    roles: tuple[int, ...] = ()

    @property
    def part(self) -> str:
        """How it is called in results."""
        return f"{self.kind} on {self.where}" + (f" ({self.what})" if self.what else "")


def variable(root_id: str) -> str:
    """The variable of the state of a run's script that holds the run's grants."""
    return f"{_VARIABLE} {root_id}"


def read(text: str | None) -> tuple[Grant, ...]:
    """The grants of a variable's value."""
    return tuple(Grant.model_validate(g) for g in json.loads(text or "[]"))


def keep(work: Work[Any], found: Iterable[Grant]) -> None:
    """Write down what is about to change, beside what this run has written down before. Must come before the change."""
    name = variable(work.context.root_id)
    before = read(work.context.state(name))
    all_ = tuple(dict.fromkeys((*before, *found)))
    if all_ != before:
        work.context.set_state(name, json.dumps([g.model_dump(mode="json", exclude_defaults=True) for g in all_]))


def on_site(work: Work[Any], site: str, known: Mapping[str, Any]) -> Grant:
    """What the leaver may do on a site: `known` is what the site says of the account. Single files and lists are not asked."""
    groups, roles = work.tenant.sharepoint.rights(site, int(known["Id"]))
    return Grant(kind="site", where=site, admin=bool(known.get("IsSiteAdmin")), groups=groups, roles=roles)


def stands(work: Work[Any], grant: Grant) -> bool:
    """Whether it is as before the change. Raises the errors of the services."""
    sharepoint = work.tenant.sharepoint
    if grant.kind == "calendar":
        return any(e.get("role") == grant.what for e in _calendar(work, grant.where))
    if grant.kind == "sharing":
        return sharepoint.sharing(grant.where) == grant.what
    if grant.kind == "admin_given":
        known = sharepoint.user(grant.where, grant.what)
        return not (known and known.get("IsSiteAdmin"))
    if grant.kind == "site":
        known = sharepoint.user(grant.where, work.user.upn)
        now = on_site(work, grant.where, known) if known else None
        return now is not None and (now.admin or not grant.admin) and (
            set(grant.groups) <= set(now.groups) and set(grant.roles) <= set(now.roles)
        )  # fmt: skip
    entries = work.tenant.mail.invoke(_question(work, grant)).entries
    if grant.kind == "SendOnBehalf":
        listed = {str(n).lower() for e in entries for n in e.get("GrantSendOnBehalfTo") or []}
        return not listed.isdisjoint(_names(work))
    return any(grant.kind in rights_of(e) for e in entries)


def restore(work: Work[Any], grant: Grant) -> None:
    """Give it back. Raises the errors of the services."""
    sharepoint, upn = work.tenant.sharepoint, work.user.upn
    if grant.kind == "calendar":
        body = {"emailAddress": {"name": work.user.name, "address": work.user.mail or upn}, "role": grant.what}
        path = path_of("users", grant.where, "calendar", "calendarPermissions")
        for entry in _calendar(work, grant.where):
            work.tenant.graph.call(Call("DELETE", f"{path}/{path_of(str(entry['id'])).lstrip('/')}"))
        work.tenant.graph.call(Call("POST", path, body, may_repeat=True))
    elif grant.kind == "sharing":
        sharepoint.set_sharing(grant.where, grant.what)
    elif grant.kind == "admin_given":
        known = sharepoint.user(grant.where, grant.what)
        if known:
            sharepoint.set_site_admin(grant.where, int(known["Id"]), False)
    elif grant.kind == "site":
        number = sharepoint.ensure_user(grant.where, upn)
        sharepoint.give(grant.where, upn, number, grant.groups, grant.roles)
        if grant.admin:
            sharepoint.set_site_admin(grant.where, number, True)
    else:
        work.tenant.mail.invoke(_giving(work, grant))


def _calendar(work: Work[Any], where: str) -> list[Mapping[str, Any]]:
    addresses = {work.user.upn.lower(), work.user.mail.lower()} - {""}
    found = work.tenant.graph.all(get("users", where, "calendar", "calendarPermissions"))
    return [e for e in found if str((e.get("emailAddress") or {}).get("address") or "").lower() in addresses]


def _names(work: Work[Any]) -> set[str]:
    """How Exchange may list the leaver."""
    ask = mail(work, "Get-Recipient", Identity=work.user.id, select=("Identity", "PrimarySmtpAddress"))
    entries = work.tenant.mail.invoke(ask).entries
    shown = {str(v).lower() for e in entries for v in e.values() if v}
    return shown | {work.user.id.lower(), work.user.upn.lower(), work.user.mail.lower()} - {""}


def _question(work: Work[Any], grant: Grant) -> Cmdlet:
    if grant.kind == "FullAccess":
        return mail(work, "Get-MailboxPermission", Identity=grant.where, User=work.user.id)
    if grant.kind == "SendAs":
        return mail(work, "Get-RecipientPermission", Identity=grant.where, Trustee=work.user.id)
    return mail(work, "Get-Mailbox", Identity=grant.where, select=("GrantSendOnBehalfTo",))


def _giving(work: Work[Any], grant: Grant) -> Cmdlet:
    leaver = work.user.id
    if grant.kind == "FullAccess":
        # Whether Outlook had opened it by itself cannot be asked.
        return mail(
            work, "Add-MailboxPermission", Identity=grant.where, User=leaver, AccessRights=["FullAccess"], AutoMapping=True,
            InheritanceType="All", Confirm=False,
        )  # fmt: skip
    if grant.kind == "SendAs":
        return mail(
            work,
            "Add-RecipientPermission",
            Identity=grant.where,
            Trustee=leaver,
            AccessRights=["SendAs"],
            Confirm=False,
        )
    return mail(
        work, "Set-Mailbox", Identity=grant.where, GrantSendOnBehalfTo={"@odata.type": HASH_TABLE, "add": leaver}
    )
