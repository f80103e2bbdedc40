"""Which functions there are: a name and where its class stands, imported on first use.

Three places are looked at: the table below; the modules of `agent.functions.systems`, where the part of a name before its
dot is the module (`zoom.delete_user` stands in `zoom.py`); and the entry point group `exeunt.functions`, by which third
parties add theirs. A name that is taken is refused.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any

from agent.errors import NotFound, SettingsError
from agent.functions import systems as files
from agent.functions.base import Function

BUILT_IN: dict[str, str] = {
    "remove_application": "agent.functions.applications:RemoveApplication",
    "screenconnect.uninstall": "agent.functions.screenconnect:Uninstall",
    "screenconnect.end_session": "agent.functions.screenconnect:EndSession",
    "agent.remove": "agent.functions.agents:Remove",
    "inventory.retire": "agent.functions.agents:Retire",
    "offboarding.informative_ticket": "agent.functions.offboarding:InformativeTicket",
    "offboarding.report": "agent.functions.offboarding:Report",
    "offboarding.mail_result": "agent.functions.telling_result:MailResult",
    "offboarding.webhook_result": "agent.functions.telling_result:WebhookResult",
    "offboarding.ticket_result": "agent.functions.telling_result:TicketResult",
    "offboarding.begin": "agent.functions.packages:Begin",
    "package.check_criteria": "agent.functions.packages:CheckCriteria",
    "package.note_child": "agent.functions.packages:NoteChild",
    "offboarding.escalate": "agent.functions.escalation:Escalate",
    "backup.verify": "agent.functions.backups:VerifyBackups",
    "backup.delete": "agent.functions.backup_deletion:DeleteBackups",
    "notify.manager": "agent.functions.notify:NotifyManager",
    "notify.it": "agent.functions.notify:NotifyIt",
    "notify.security": "agent.functions.notify:NotifySecurity",
    "notify.hr": "agent.functions.notify:NotifyHr",
    "notify.employee": "agent.functions.notify:NotifyEmployee",
    "notify.payroll": "agent.functions.notify:NotifyPayroll",
    "offboarding.tell_security": "agent.functions.contacts:TellSecurity",
    "assets.create_return_list": "agent.functions.contacts:CreateReturnList",
    "contact.set_status": "agent.functions.contacts:SetStatus",
    "contact.close_offboarding": "agent.functions.contacts:CloseOffboarding",
    "contact.undo_offboarding": "agent.functions.contacts:UndoOffboarding",
    "contact.check_deletion": "agent.functions.contacts:CheckDeletion",
    "contact.mark_deleted": "agent.functions.contacts:MarkDeleted",
    "contact.forwarding_ended": "agent.functions.contacts:EndForwarding",
    "task.create": "agent.functions.manual_tasks:TaskCreate",
    "task.checklist": "agent.functions.manual_tasks:Checklist",
    "ticket.create": "agent.functions.tickets:TicketCreate",
    "ticket.comment": "agent.functions.tickets:TicketComment",
    "mail.send": "agent.functions.tickets:MailSend",
    "m365.disable_sign_in": "agent.functions.microsoft365.account:DisableSignIn",
    "m365.reset_password": "agent.functions.microsoft365.account:ResetPassword",
    "m365.revoke_sessions": "agent.functions.microsoft365.account:RevokeSessions",
    "m365.set_display_name_prefix": "agent.functions.microsoft365.account:SetDisplayNamePrefix",
    "m365.clear_immutable_id": "agent.functions.microsoft365.account:ClearImmutableId",
    "m365.add_to_block_group": "agent.functions.microsoft365.account:AddToBlockGroup",
    "m365.remove_mfa_methods": "agent.functions.microsoft365.authentication:RemoveMfaMethods",
    "m365.wipe_devices": "agent.functions.microsoft365.devices:WipeDevices",
    "m365.retire_devices": "agent.functions.microsoft365.devices:RetireDevices",
    "m365.account_only_wipe": "agent.functions.microsoft365.devices:AccountOnlyWipe",
    "m365.remove_mobile_devices": "agent.functions.microsoft365.devices:RemoveMobileDevices",
    "m365.convert_to_shared": "agent.functions.microsoft365.mailbox:ConvertToShared",
    "m365.hide_from_address_lists": "agent.functions.microsoft365.mailbox:HideFromAddressLists",
    "m365.set_retention_policy": "agent.functions.microsoft365.mailbox:SetRetentionPolicy",
    "m365.set_forwarding": "agent.functions.microsoft365.mailbox:SetForwarding",
    "m365.disable_forwarding": "agent.functions.microsoft365.mailbox:DisableForwarding",
    "m365.grant_full_access": "agent.functions.microsoft365.delegation:GrantFullAccess",
    "m365.grant_send_as": "agent.functions.microsoft365.delegation:GrantSendAs",
    "m365.grant_send_on_behalf": "agent.functions.microsoft365.delegation:GrantSendOnBehalf",
    "m365.set_out_of_office": "agent.functions.microsoft365.content:SetOutOfOffice",
    "m365.remove_inbox_rules": "agent.functions.microsoft365.content:RemoveInboxRules",
    "m365.remove_signature": "agent.functions.microsoft365.content:RemoveSignature",
    "m365.cancel_meetings": "agent.functions.microsoft365.meetings:CancelMeetings",
    "m365.transfer_meetings": "agent.functions.microsoft365.meetings:TransferMeetings",
    "m365.remove_mailbox_permissions_elsewhere": "agent.functions.microsoft365.elsewhere:RemoveMailboxPermissionsElsewhere",
    "m365.remove_calendar_permissions_elsewhere": "agent.functions.microsoft365.elsewhere:RemoveCalendarPermissionsElsewhere",
    "m365.remove_from_groups": "agent.functions.microsoft365.groups:RemoveGroups",
    "m365.remove_directory_roles": "agent.functions.microsoft365.roles:RemoveDirectoryRoles",
    "m365.remove_licenses": "agent.functions.microsoft365.licences:RemoveLicenses",
    "m365.grant_onedrive_access": "agent.functions.microsoft365.onedrive:GrantAccess",
    "m365.disable_onedrive_sharing": "agent.functions.microsoft365.onedrive:DisableSharing",
    "m365.backup_onedrive": "agent.functions.microsoft365.backup:BackupOneDrive",
    "m365.backup_mailbox": "agent.functions.microsoft365.mailbox_backup:BackupMailbox",
    "m365.remove_sharepoint_direct_grants": "agent.functions.microsoft365.onedrive:RemoveSharePointGrants",
    "m365.reassign_direct_reports": "agent.functions.microsoft365.people:ReassignDirectReports",
    "m365.clear_manager": "agent.functions.microsoft365.people:ClearManager",
    "m365.unassign_teams_number": "agent.functions.microsoft365.people:UnassignTeamsNumber",
    "m365.delete_user": "agent.functions.microsoft365.deletion:DeleteUser",
    "m365.restore_user": "agent.functions.microsoft365.deletion:RestoreUser",
    "m365.transfer_sites": "agent.functions.microsoft365.ownership:TransferSites",
    "m365.transfer_teams": "agent.functions.microsoft365.ownership:TransferTeams",
    "m365.snapshot": "agent.functions.microsoft365.snapshots:TakeSnapshot",
    "m365.restore_from_snapshot": "agent.functions.microsoft365.restoring:RestoreFromSnapshot",
    "ad.disable_account": "agent.functions.active_directory.attributes:DisableAccount",
    "ad.reset_password": "agent.functions.active_directory.password:ResetPassword",
    "ad.set_expiry": "agent.functions.active_directory.attributes:SetExpiry",
    "ad.remove_from_groups": "agent.functions.active_directory.memberships:RemoveFromGroups",
    "ad.clear_manager": "agent.functions.active_directory.reporting_line:ClearManager",
    "ad.hide_from_address_lists": "agent.functions.active_directory.attributes:HideFromAddressLists",
    "ad.set_description": "agent.functions.active_directory.attributes:SetDescription",
    "ad.move_to_ou": "agent.functions.active_directory.moving:MoveToOu",
    "ad.delete_account": "agent.functions.active_directory.deleting:DeleteAccount",
    "ad.restore": "agent.functions.active_directory.deleting:Restore",
    "ad.snapshot": "agent.functions.active_directory.snapshots:TakeSnapshot",
    "ad.restore_from_snapshot": "agent.functions.active_directory.snapshots:RestoreFromSnapshot",
}


@cache
def systems() -> tuple[str, ...]:
    """The modules of `agent.functions.systems`, by name; nothing is imported."""
    return tuple(sorted(m.name for m in iter_modules(files.__path__)))


@cache
def of_system(system: str) -> dict[str, type[Function[Any]]]:
    """The functions of a system's module. Raises SettingsError for a module that does not keep to the form."""
    found: dict[str, type[Function[Any]]] = getattr(import_module(f"{files.__name__}.{system}"), "FUNCTIONS", {})
    for name, function in found.items():
        if function.name != name or not name.startswith(f"{system}."):
            raise SettingsError(
                f"{files.__name__}.{system}: {name!r} must be the function's name, `{system}.` and a word"
            )
    if not found:
        raise SettingsError(f"{files.__name__}.{system} has no FUNCTIONS: a mapping of names to classes")
    return found


@cache
def _third_party() -> dict[str, str]:
    """What others have installed; looking for it takes milliseconds."""
    found: dict[str, str] = {}
    for point in entry_points(group="exeunt.functions"):
        places = BUILT_IN | found
        taken = places.get(point.name) or (f"{files.__name__}.{s}" if (s := _system_of(point.name)) else None)
        if taken is not None:
            raise SettingsError(f"the function {point.name!r} of {point.value} is already defined by {taken}")
        found[point.name] = point.value
    return found


def _places() -> dict[str, str]:
    return BUILT_IN | _third_party()


def _system_of(name: str) -> str | None:
    """The system whose module a name belongs to. Names that are listed above stay where they are."""
    system, dot, _ = name.partition(".")
    return system if dot and name not in BUILT_IN and system in systems() else None


def names() -> list[str]:
    """Names of all functions, sorted. Imports the modules of all systems."""
    return sorted({*_places(), *(name for system in systems() for name in of_system(system))})


def get(name: str) -> Function[Any]:
    """The function of that name. Raises NotFound with the names that come nearest."""
    system = _system_of(name)
    if system is not None and name in of_system(system):
        return of_system(system)[name]()
    place = _places().get(name)
    if place is None:
        import difflib

        near = difflib.get_close_matches(name, names(), n=3)
        raise NotFound(f"there is no function {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    module, _, attribute = place.partition(":")
    function = getattr(import_module(module), attribute)()
    assert isinstance(function, Function), place
    return function
