"""Every function `m365.*`: what it is called with, which calls change something, and how the tenant looks when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenant_state import Mailbox, TestTenant, made_id

MIA, DANA = "mia@contoso.test", "dana@contoso.test"


@dataclass(frozen=True)
class Case:
    """One function."""

    name: str
    #: Pattern of the calls that change something.
    writes: str
    #: Whether the tenant is as it must be.
    done: Callable[[TestTenant], bool]
    values: dict[str, Any] = field(default_factory=dict)
    #: What the tenant must be like before.
    before: Callable[[TestTenant], object] = lambda tenant: None
    #: Calls of the second run that may change something although it is done.
    writes_again: bool = False
    #: It acts on deleted accounts: "not found" is another matter.
    finds_deleted: bool = False
    #: More of the same name.
    id: str = ""


def box(tenant: TestTenant, name: str = "alex") -> Mailbox:
    """A mailbox."""
    found = tenant.named(name).mailbox
    assert found is not None
    return found


def left_groups(tenant: TestTenant) -> bool:
    """Only the dynamic, the synchronised and the licence group have the leaver; the team has a new owner."""
    alex, mia = made_id("contoso", "alex"), made_id("contoso", "mia")
    kept = {g.name for g in tenant.groups.values() if alex in g.members}
    owned = [g for g in tenant.groups.values() if alex in g.owners]
    team = tenant.group("Sales team")
    return kept == {"Everybody", "From AD", "Visio users"} and not owned and mia in team.owners & team.members


def handed_teams(tenant: TestTenant) -> bool:
    """Mia owns the team and the two channels that Alex alone had; not the one that has another owner."""
    mia, team = made_id("contoso", "mia"), tenant.group("Sales team")
    owned = {name for name, c in team.channels.items() if mia in c.owners & c.members}
    return mia in team.owners & team.members and owned == {"deals", "fresh"}


def _shared(tenant: TestTenant) -> None:
    box(tenant).kind = "SharedMailbox"


def _forward(tenant: TestTenant) -> None:
    box(tenant).forwarding, box(tenant).deliver = made_id("contoso", "mia"), True


def _delete(tenant: TestTenant) -> None:
    alex = tenant.named("alex")
    tenant.deleted[alex.id] = tenant.users.pop(alex.id)


def _rights_elsewhere(tenant: TestTenant) -> bool:
    alex = made_id("contoso", "alex")
    boxes = [u.mailbox for u in tenant.users.values() if u.mailbox and u.id != alex]
    mia_stays = made_id("contoso", "mia") in box(tenant, "info").full_access
    return mia_stays and not any(alex in b.full_access or alex in b.send_as or alex in b.on_behalf for b in boxes)


def _site(tenant: TestTenant) -> Any:
    return tenant.sites[f"/personal/{made_id('contoso', 'alex')}"]


CASES = [
    Case("disable_sign_in", r"PATCH /users/", lambda t: not t.named("alex").enabled, writes_again=True),
    Case("reset_password", r"PATCH /users/", lambda t: t.named("alex").password != "old", writes_again=True),
    Case("revoke_sessions", r"revokeSignIn", lambda t: t.named("alex").sessions_from.year > 2025, writes_again=True),
    Case("set_display_name_prefix", r"PATCH /users/", lambda t: t.named("alex").name == "Former - Alex Baker"),
    Case("clear_immutable_id", r"PATCH /users/", lambda t: t.named("alex").immutable_id is None, writes_again=True),
    Case(
        "add_to_block_group", r"POST /groups/", lambda t: made_id("contoso", "alex") in t.group("Blocked").members,
        {"group": made_id("contoso.test", "Blocked")},
    ),
    Case(
        "remove_mfa_methods", r"DELETE /users/.*/authentication",
        lambda t: [kind for kind, _ in t.named("alex").methods.values()] == ["password"],
    ),
    Case(
        "wipe_devices", r"POST .*/wipe",
        lambda t: sorted(d[2] for d in t.named("alex").devices.values()) == ["managed", "wipePending"],
    ),
    Case(
        "retire_devices", r"POST .*/retire",
        lambda t: {d[2] for d in t.named("alex").devices.values()} == {"retirePending"}, {"ownership": "all"},
    ),
    Case(
        "account_only_wipe", "Clear-MobileDevice",
        lambda t: set(box(t).phones.values()) == {"AccountOnlyDeviceWipePending"},
    ),
    Case("remove_mobile_devices", "Remove-MobileDevice", lambda t: not box(t).phones),
    Case("convert_to_shared", "Set-Mailbox", lambda t: box(t).kind == "SharedMailbox"),
    Case(
        "set_retention_policy", "Set-Mailbox", lambda t: box(t).policy == "Leavers", {"policy": "Leavers"},
    ),
    Case("hide_from_address_lists", "Set-Mailbox", lambda t: box(t).hidden),
    Case(
        "set_forwarding", "Set-Mailbox", lambda t: box(t).forwarding == made_id("contoso", "mia") and box(t).deliver,
        {"forward_to": "manager"}, writes_again=True,
    ),
    Case("disable_forwarding", "Set-Mailbox", lambda t: not box(t).forwarding and not box(t).deliver, before=_forward),
    Case(
        "grant_full_access", "Add-MailboxPermission",
        lambda t: box(t).full_access == {made_id("contoso", "mia"): False, made_id("contoso", "dana"): False},
        {"delegates": f"manager; {DANA}", "automap": False},
    ),
    Case(
        "grant_send_as", "Add-RecipientPermission", lambda t: box(t).send_as == {made_id("contoso", "dana")},
        {"delegates": [DANA]},
    ),
    Case(
        "grant_send_on_behalf", "Set-Mailbox", lambda t: box(t).on_behalf == {made_id("contoso", "dana")},
        {"delegates": [DANA]},
    ),
    Case(
        "set_out_of_office", r"PATCH /users/.*/mailboxSettings",
        lambda t: box(t).replies["status"] == "alwaysEnabled" and "mia@contoso.test" in box(t).replies["externalReplyMessage"],
        {"message": "%leaver% has left %company%.\nWrite to %manager_email%."}, writes_again=True,
    ),
    Case("remove_inbox_rules", "Remove-InboxRule", lambda t: set(box(t).rules) == {"junk", "oof"}),
    Case("remove_signature", "Set-MailboxMessageConfiguration", lambda t: not box(t).signature, writes_again=True),
    Case("cancel_meetings", "Remove-CalendarEvents", lambda t: box(t).meetings == {"invited": False}),
    Case(
        "transfer_meetings", "Invoke-ChangeMeetingOrganizer",
        lambda t: box(t).meetings == {"invited": False} and set(box(t, "dana").meetings) == {"meeting1", "series1"},
        {"new_organizer": DANA},
    ),
    Case(
        "remove_mailbox_permissions_elsewhere", "Remove-MailboxPermission|Remove-RecipientPermission|Set-Mailbox",
        _rights_elsewhere,
    ),
    Case(
        "remove_calendar_permissions_elsewhere", r"DELETE /users/.*/calendarPermissions",
        lambda t: set(box(t, "dana").calendar) == {"p2"},
    ),
    Case(
        "remove_from_groups", r"(DELETE|POST) /groups/|Remove-DistributionGroupMember", left_groups, {"new_owner": "manager"}
    ),
    Case(
        "remove_directory_roles", r"DELETE /roleManagement",
        lambda t: list(t.roles.values()) == [(made_id("contoso", "mia"), "Global Reader")],
    ),
    Case("remove_licenses", r"assignLicense|DELETE /groups", lambda t: not t.named("alex").licences, before=_shared),
    Case(
        "grant_onedrive_access", r"POST /personal/.*(ensureuser|MERGE)",
        lambda t: _site(t).users[MIA] in _site(t).admins, {"delegates": "manager"},
    ),
    Case(
        "grant_onedrive_access", r"POST /drives/.*/invite", lambda t: _site(t).writers == {made_id("contoso", "dana")},
        {"delegates": DANA, "access": "write"}, id="grant_onedrive_access-write",
    ),
    Case("disable_onedrive_sharing", "ProcessQuery Update", lambda t: _site(t).sharing == 0),
    Case(
        "remove_sharepoint_direct_grants", "removebyloginname",
        lambda t: t.sites["/sites/sales"].users == {MIA: 10} and t.sites["/sites/quiet"].users == {MIA: 3},
    ),
    Case(
        "transfer_sites", r"POST /sites/.*(ensureuser|MERGE)",
        lambda t: all(t.sites[s].users.get(MIA) in t.sites[s].admins for s in ("/sites/own", "/sites/sales-team"))
        and not t.sites["/sites/sales"].admins,
        {"new_owner": "manager"},
    ),
    Case(
        "transfer_teams", r"(POST|PATCH) /teams/", handed_teams, {"new_owner": "manager"},
    ),
    Case(
        "reassign_direct_reports", r"PUT /users/", lambda t: t.named("rob").manager == made_id("contoso", "mia"),
        {"new_manager": "manager"},
    ),
    Case("clear_manager", r"DELETE /users/.*/manager", lambda t: t.named("alex").manager is None),
    Case(
        "unassign_teams_number", "unassignNumber",
        lambda t: t.numbers == {"+15550100": None, "+15550101": made_id("contoso", "mia")},
    ),
    Case("delete_user", r"DELETE /users/", lambda t: t.user("alex@contoso.test") is None and bool(t.deleted), finds_deleted=True),
    Case(
        "restore_user", r"/restore", lambda t: t.user("alex@contoso.test") is not None and not t.deleted,
        {"user": made_id("contoso", "alex")}, before=_delete, finds_deleted=True,
    ),
]  # fmt: skip
