"""`m365.snapshot` keeps what an offboarding is about to change; `restoring` puts it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from agent.functions.base import Context, Outcome
from agent.functions.microsoft365 import groups
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work
from agent.functions.microsoft365.checks import roles_of
from agent.functions.microsoft365.delegation import rights_of
from agent.functions.microsoft365.grants import Grant
from agent.functions.microsoft365.mailboxes import mail
from agent.model.base import utcnow
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.exchange import Answered, answered
from agent.services.microsoft.graph import value_of

_USER = "id,userPrincipalName,displayName,accountEnabled,onPremisesImmutableId,assignedLicenses,licenseAssignmentStates"
_BOX = (
    "RecipientTypeDetails", "HiddenFromAddressListsEnabled", "ForwardingAddress", "ForwardingSmtpAddress",
    "DeliverToMailboxAndForward", "GrantSendOnBehalfTo",
)  # fmt: skip
#: What no snapshot can bring back.
CANNOT = (
    "the password of Microsoft 365: it was never known; set a new one",
    "sessions that were revoked and MFA methods that were removed: the person signs in and registers anew",
    "devices that were wiped or retired: what was on them is gone; enrol them again",
    "rights on single files, folders and lists of SharePoint that went with the person's place on a site",
    "places in private and shared channels of teams: somebody of the channel adds the person again",
    "owners that groups and teams were given in the meantime: they stay owners",
)


class Named(BaseModel):
    """Somebody or something else: by its id, and by its name at that time for people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str


class GroupPlace(Named):
    """A group, and what the account is in it."""

    member: bool
    owner: bool
    #: Only Exchange can change its members.
    by_exchange: bool


class Role(BaseModel):
    """A directory role that is assigned to the account itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    definition: str
    name: str
    scope: str


class Licence(BaseModel):
    """A licence that the account has by itself, not by a group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sku: str
    disabled_plans: tuple[str, ...]


class Box(BaseModel):
    """The mailbox. People are object ids where Exchange tells them, else the names that Exchange gives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    hidden: bool
    forwarding: str | None
    forwarding_smtp: str | None
    deliver: bool
    full_access: tuple[str, ...]
    send_as: tuple[str, ...]
    on_behalf: tuple[str, ...]
    #: `automaticRepliesSetting` of Graph; None: it could not be read.
    replies: dict[str, Any] | None


class Snapshot(BaseModel):
    """What an offboarding changes about an account, as it was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str
    object_id: str
    account: str
    taken_at: str
    enabled: bool
    display_name: str
    immutable_id: str | None
    manager: Named | None
    direct_reports: tuple[Named, ...]
    groups: tuple[GroupPlace, ...]
    roles: tuple[Role, ...]
    licences: tuple[Licence, ...]
    mailbox: Box | None
    #: What steps of the run wrote down before they took it away.
    grants: tuple[Grant, ...] = ()


class TakeSnapshot(UserFunction[UserParameters]):
    """Reads what the other functions change. Its result is what a later restoration needs."""

    name = "m365.snapshot"
    summary = "Keep what an offboarding is about to change in Microsoft 365, so that it can be put back"
    Parameters = UserParameters
    repeatable = True
    impact = "The account cannot be put back as it was."

    def preview(self, parameters: UserParameters) -> str:
        """What would be read."""
        return f"GET /users/{parameters.user}: state, name, manager, reports, groups, roles, licences, mailbox settings"

    def do(self, context: Context, parameters: UserParameters) -> Outcome:
        """Once in a run: a later one would keep what the run itself has changed."""
        for step in context.finished_steps():
            user = step.result.get("user") or {}
            if step.function == self.name and user.get("asked") == parameters.user and step.result.get("snapshot"):
                return Outcome.skipped(f"the step {step.name!r} of this run has kept it")
        return super().do(context, parameters)

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Read everything; nothing is changed."""
        snapshot = taken(work).model_dump(mode="json")
        return Outcome.succeeded(snapshot=snapshot, object_id=work.user.id, rollback_available=True)


def taken(work: Work[Any]) -> Snapshot:
    """The account as it is now. Raises the errors of the services: half a snapshot is none."""
    member = work.get("memberOf", "microsoft.graph.group", select=groups.SELECT, top="999")
    owned, reports, roles = (
        work.get("ownedObjects", top="999"),
        work.get("directReports", top="999"),
        roles_of(work.user.id),
    )
    graph = work.tenant.graph
    replies = graph.batch(
        [work.get(select=_USER), work.get("manager"), work.get("mailboxSettings"), member, owned, reports, roles]
    )
    user = value_of(replies[0])
    manager, settings = _if_there(replies[1]), _if_there(replies[2])
    lists = [graph.rest(value_of(r), c) for r, c in zip(replies[3:], (member, owned, reports, roles), strict=True)]
    return Snapshot(
        tenant=work.tenant.id, object_id=work.user.id, account=str(user["userPrincipalName"]),
        taken_at=utcnow().isoformat(timespec="seconds"), enabled=bool(user.get("accountEnabled")),
        display_name=str(user.get("displayName") or ""), immutable_id=user.get("onPremisesImmutableId"),
        manager=_person(manager) if manager else None, direct_reports=tuple(_person(r) for r in lists[2]),
        groups=tuple(_places(lists[0], lists[1])), roles=tuple(_role(r) for r in lists[3]), licences=tuple(_licences(user)),
        mailbox=_box(work, (settings or {}).get("automaticRepliesSetting")),
    )  # fmt: skip


def _if_there(reply: Any) -> Mapping[str, Any] | None:
    if isinstance(reply, ServiceRefused) and reply.missing:
        return None
    return value_of(reply)


def _person(body: Mapping[str, Any]) -> Named:
    return Named(id=str(body["id"]), name=str(body.get("userPrincipalName") or body.get("displayName") or body["id"]))


def _places(member: Sequence[Mapping[str, Any]], owned: Sequence[Mapping[str, Any]]) -> list[GroupPlace]:
    """Groups but those that nothing here can change: dynamic and synchronised ones."""
    owns = {str(o["id"]): o for o in owned if o.get("@odata.type") == "#microsoft.graph.group"}
    known = {str(g["id"]): g for g in member}
    found = []
    for group_id, group in {**owns, **known}.items():
        if groups.kept_because({**group, "assignedLicenses": None}) is None:
            found.append(
                GroupPlace(
                    id=group_id, name=str(group.get("displayName") or ""), member=group_id in known, owner=group_id in owns,
                    by_exchange=groups.by_exchange(group),
                )
            )  # fmt: skip
    return found


def _role(assignment: Mapping[str, Any]) -> Role:
    definition = assignment.get("roleDefinition") or {}
    return Role(
        definition=str(assignment["roleDefinitionId"]), name=str(definition.get("displayName") or ""),
        scope=str(assignment.get("directoryScopeId") or "/"),
    )  # fmt: skip


def _licences(user: Mapping[str, Any]) -> list[Licence]:
    states = user.get("licenseAssignmentStates") or []
    by_group = {str(s.get("skuId")) for s in states if s.get("assignedByGroup")}
    direct = {str(s.get("skuId")) for s in states if not s.get("assignedByGroup")}
    return [
        Licence(sku=str(e["skuId"]), disabled_plans=tuple(str(p) for p in e.get("disabledPlans") or []))
        for e in user.get("assignedLicenses") or [] if str(e["skuId"]) in direct or str(e["skuId"]) not in by_group
    ]  # fmt: skip


def _box(work: Work[Any], replies: dict[str, Any] | None) -> Box | None:
    asked = work.tenant.mail.invoke_all(
        [
            mail(work, "Get-Mailbox", Identity=work.user.id, select=_BOX),
            mail(work, "Get-MailboxPermission", Identity=work.user.id),
            mail(work, "Get-RecipientPermission", Identity=work.user.id),
        ]
    )
    if isinstance(asked[0], ServiceRefused) and asked[0].missing:
        return None
    found = answered(asked[0]).entries[0]
    full = [
        str(e.get("User")) for e in answered(asked[1]).entries
        if "FullAccess" in rights_of(e) and not e.get("Deny") and not e.get("IsInherited")
    ]  # fmt: skip
    send_as = [str(e.get("Trustee")) for e in answered(asked[2]).entries if "SendAs" in rights_of(e)]
    behalf = [str(n) for n in found.get("GrantSendOnBehalfTo") or []]
    forwarding = [str(found["ForwardingAddress"])] if found.get("ForwardingAddress") else []
    ids = _ids(work, {*full, *send_as, *behalf, *forwarding})
    return Box(
        type=str(found.get("RecipientTypeDetails")), hidden=bool(found.get("HiddenFromAddressListsEnabled")),
        forwarding=next((ids.get(n, n) for n in forwarding), None), forwarding_smtp=found.get("ForwardingSmtpAddress") or None,
        deliver=bool(found.get("DeliverToMailboxAndForward")), full_access=_told(full, ids), send_as=_told(send_as, ids),
        on_behalf=_told(behalf, ids), replies=replies,
    )  # fmt: skip


def _told(names: list[str], ids: Mapping[str, str]) -> tuple[str, ...]:
    """Names as object ids, in an order that does not change; NT AUTHORITY\\SELF is not anybody's choice."""
    return tuple(sorted(ids.get(n, n) for n in names if not n.upper().startswith("NT AUTHORITY")))


def _ids(work: Work[Any], names: set[str]) -> dict[str, str]:
    """The object ids of recipients by the names that Exchange gives; without those that it knows no more."""
    asked = sorted(n for n in names if not n.upper().startswith("NT AUTHORITY"))
    asks = [mail(work, "Get-Recipient", Identity=n, select=("ExternalDirectoryObjectId",)) for n in asked]
    found = {}
    for name, reply in zip(asked, work.tenant.mail.invoke_all(asks), strict=True):
        entries = reply.entries if isinstance(reply, Answered) else ()
        if len(entries) == 1 and entries[0].get("ExternalDirectoryObjectId"):
            found[name] = str(entries[0]["ExternalDirectoryObjectId"])
        elif not isinstance(reply, Answered) and not (isinstance(reply, ServiceRefused) and reply.missing):
            raise reply
    return found
