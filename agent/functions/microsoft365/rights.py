"""The least rights of each function, and which of them a token lacks.

Application permissions as "Microsoft Graph permissions reference" and the x-ms-permissions of Graph's contract have them. What a
token may do stands in its `roles` claim. It is read without a check of the signature: it is shown to people and decides
nothing; the services decide.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from agent.functions.base import Finding
from agent.functions.microsoft365.checks import SYSTEM
from agent.services.microsoft.tenant import Tenant

Service = Literal["graph", "exchange", "sharepoint"]
_NAMES: Mapping[Service, str] = {
    "graph": "Microsoft Graph",
    "exchange": "Office 365 Exchange Online",
    "sharepoint": "SharePoint",
}


@dataclass(frozen=True)
class Right:
    """One application permission, by its name in the API that grants it."""

    name: str
    service: Service = "graph"


#: A right -> rights that hold it as well.
_BROADER: Mapping[str, tuple[str, ...]] = {
    "User.Read.All": ("User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"),
    "User.ReadWrite.All": ("Directory.ReadWrite.All",),
    "User.EnableDisableAccount.All": ("User.ReadWrite.All", "Directory.ReadWrite.All"),
    "User-PasswordProfile.ReadWrite.All": ("User.ReadWrite.All", "Directory.ReadWrite.All"),
    "User.RevokeSessions.All": ("User.ReadWrite.All", "Directory.ReadWrite.All"),
    "User.DeleteRestore.All": ("User.ReadWrite.All",),
    "GroupMember.Read.All": (
        "GroupMember.ReadWrite.All", "Group.Read.All", "Group.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All",
    ),
    "GroupMember.ReadWrite.All": ("Group.ReadWrite.All", "Directory.ReadWrite.All"),
    "Group.ReadWrite.All": ("Directory.ReadWrite.All",),
    "LicenseAssignment.Read.All": (
        "LicenseAssignment.ReadWrite.All", "Organization.Read.All", "Organization.ReadWrite.All", "Directory.Read.All",
        "Directory.ReadWrite.All",
    ),
    "LicenseAssignment.ReadWrite.All": ("User.ReadWrite.All", "Directory.ReadWrite.All"),
    "RoleManagement.Read.Directory": (
        "RoleManagement.ReadWrite.Directory", "Directory.Read.All", "Directory.ReadWrite.All"
    ),
    "MailboxSettings.Read": ("MailboxSettings.ReadWrite",),
    "Mail.Read": ("Mail.ReadWrite",),
    "Calendars.ReadBasic": ("Calendars.Read", "Calendars.ReadWrite"),
    "Files.Read.All": ("Files.ReadWrite.All", "Sites.Read.All", "Sites.ReadWrite.All"),
    "Files.ReadWrite.All": ("Sites.ReadWrite.All",),
    "Sites.Read.All": ("Sites.ReadWrite.All", "Sites.FullControl.All"),
    "DeviceManagementManagedDevices.Read.All": ("DeviceManagementManagedDevices.ReadWrite.All",),
    "TeamMember.ReadWrite.All": (),
    "ChannelMember.ReadWrite.All": (),
}  # fmt: skip

_EXCHANGE = Right("Exchange.ManageAsApp", "exchange")
_SHAREPOINT = Right("Sites.FullControl.All", "sharepoint")


def _graph(*names: str) -> tuple[Right, ...]:
    return tuple(Right(name) for name in ("User.Read.All", *names))


_MAILBOX = (*_graph(), _EXCHANGE)
#: What every function needs; names without `m365.`.
NEEDED: Mapping[str, tuple[Right, ...]] = {
    "disable_sign_in": _graph("User.EnableDisableAccount.All"),
    "reset_password": _graph("User-PasswordProfile.ReadWrite.All"),
    "revoke_sessions": _graph("User.RevokeSessions.All"),
    "set_display_name_prefix": _graph("User.ReadWrite.All"),
    "clear_immutable_id": _graph("User.ReadWrite.All"),
    "add_to_block_group": _graph("GroupMember.Read.All", "GroupMember.ReadWrite.All"),
    "remove_mfa_methods": _graph("UserAuthenticationMethod.ReadWrite.All"),
    "wipe_devices": _graph("DeviceManagementManagedDevices.Read.All", "DeviceManagementManagedDevices.PrivilegedOperations.All"),
    "retire_devices": _graph("DeviceManagementManagedDevices.Read.All", "DeviceManagementManagedDevices.PrivilegedOperations.All"),
    "account_only_wipe": _MAILBOX, "remove_mobile_devices": _MAILBOX, "convert_to_shared": _MAILBOX,
    "hide_from_address_lists": _MAILBOX, "set_retention_policy": _MAILBOX, "set_forwarding": _MAILBOX, "disable_forwarding": _MAILBOX,
    "grant_full_access": _MAILBOX, "grant_send_as": _MAILBOX, "grant_send_on_behalf": _MAILBOX,
    "set_out_of_office": _graph("MailboxSettings.ReadWrite"),
    "remove_inbox_rules": _MAILBOX, "remove_signature": _MAILBOX,
    "cancel_meetings": (*_graph("Calendars.ReadBasic"), _EXCHANGE),
    "transfer_meetings": (*_graph("Calendars.ReadBasic"), _EXCHANGE),
    "remove_mailbox_permissions_elsewhere": _MAILBOX,
    "remove_calendar_permissions_elsewhere": (*_graph("Calendars.ReadWrite"), _EXCHANGE),
    "remove_from_groups": (*_graph("GroupMember.ReadWrite.All", "Group.ReadWrite.All"), _EXCHANGE),
    "remove_directory_roles": _graph("RoleManagement.ReadWrite.Directory"),
    "remove_licenses": (
        *_graph("LicenseAssignment.ReadWrite.All", "LicenseAssignment.Read.All", "GroupMember.ReadWrite.All"), _EXCHANGE
    ),
    "grant_onedrive_access": (*_graph("Files.ReadWrite.All"), _SHAREPOINT),
    "disable_onedrive_sharing": (*_graph("Files.Read.All"), _SHAREPOINT),
    "backup_onedrive": _graph("Files.Read.All"),
    "backup_mailbox": _graph("Mail.Read"),
    "remove_sharepoint_direct_grants": (*_graph("Sites.Read.All"), _SHAREPOINT),
    "transfer_sites": (*_graph("Sites.Read.All"), _SHAREPOINT),
    "transfer_teams": _graph(
        "Team.ReadBasic.All", "Channel.ReadBasic.All", "TeamMember.ReadWrite.All", "ChannelMember.ReadWrite.All"
    ),
    "reassign_direct_reports": _graph("User.ReadWrite.All"),
    "clear_manager": _graph("User.ReadWrite.All"),
    "unassign_teams_number": _graph("TeamsTelephoneNumber.ReadWrite.All"),
    "delete_user": _graph("User.DeleteRestore.All"),
    "restore_user": _graph("User.DeleteRestore.All"),
    "snapshot": (
        *_graph("GroupMember.Read.All", "RoleManagement.Read.Directory", "MailboxSettings.Read"), _EXCHANGE
    ),
    "restore_from_snapshot": (
        *_graph(
            "User.ReadWrite.All", "User.DeleteRestore.All", "GroupMember.ReadWrite.All", "Group.ReadWrite.All",
            "RoleManagement.ReadWrite.Directory", "LicenseAssignment.ReadWrite.All", "MailboxSettings.ReadWrite",
            "Calendars.ReadWrite",
        ),
        _EXCHANGE, _SHAREPOINT,
    ),
}  # fmt: skip


def needed(function: str) -> tuple[Right, ...]:
    """The least rights of a function `m365.NAME`; an own one that declares none needs what reading the account needs."""
    return NEEDED.get(function.removeprefix("m365."), _graph())


def text_of(function: str) -> str:
    """The same in words."""
    return ", ".join(_said(r) for r in needed(function))


def lacking(rights: tuple[Right, ...], roles: Mapping[Service, Collection[str] | None]) -> list[Right]:
    """Those rights that no role grants. A service whose token says nothing of roles lacks none: nobody knows."""
    found = []
    for right in rights:
        held = roles.get(right.service)
        if held is not None and not {right.name, *_BROADER.get(right.name, ())} & set(held):
            found.append(right)
    return found


def findings(tenant: Tenant, function: str) -> list[Finding]:
    """The rights that the client's app registration lacks for a function, or that it lacks none. Raises StepError."""
    rights = needed(function)
    roles: dict[Service, frozenset[str] | None] = {}
    for service in dict.fromkeys(r.service for r in rights):
        roles[service] = tenant.roles(service)
    unknown = [_NAMES[service] for service, held in roles.items() if held is None]
    if unknown:
        said = f"{function} needs the right: {text_of(function)}; the token for {' and '.join(unknown)} does not say what it grants"
        return [Finding("info", SYSTEM, said)]
    missing = [_said(r) for r in lacking(rights, roles)]
    if not missing:
        return [Finding("info", SYSTEM, f"{function} has the rights that it needs: {text_of(function)}")]
    return [
        Finding(
            "error", SYSTEM, f"{function} lacks the right: {', '.join(missing)}",
            "Add it to the app registration as an application permission, and let an administrator of the tenant consent to it.",
        )
    ]  # fmt: skip


def _said(right: Right) -> str:
    return right.name if right.service == "graph" else f"{right.name} of {_NAMES[right.service]}"
