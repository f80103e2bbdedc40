"""Exchange's `InvokeCommand` over a TestTenant.

There is no public description of it. The shapes and the list of parameters below are our own reading; a request outside it is
noted as a violation. This fake cannot be better than that reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenant_state import Group, Mailbox, TestTenant, User

#: Cmdlet -> parameters that it takes and their types.
PARAMETERS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "Get-Mailbox": {"Identity": str, "ResultSize": str, "RecipientTypeDetails": list, "Filter": str},
    "Set-Mailbox": {
        "Identity": str, "Type": str, "HiddenFromAddressListsEnabled": bool, "ForwardingAddress": (str, type(None)),
        "ForwardingSmtpAddress": (str, type(None)), "DeliverToMailboxAndForward": bool, "GrantSendOnBehalfTo": dict,
        "RetentionPolicy": str,
    },
    "Get-MailboxStatistics": {"Identity": str},
    "Get-MailboxPermission": {"Identity": str, "User": str},
    "Add-MailboxPermission": {
        "Identity": str, "User": str, "AccessRights": list, "AutoMapping": bool, "InheritanceType": str, "Confirm": bool
    },
    "Remove-MailboxPermission": {"Identity": str, "User": str, "AccessRights": list, "Confirm": bool},
    "Get-RecipientPermission": {"Identity": str, "Trustee": str, "ResultSize": str},
    "Add-RecipientPermission": {"Identity": str, "Trustee": str, "AccessRights": list, "Confirm": bool},
    "Remove-RecipientPermission": {"Identity": str, "Trustee": str, "AccessRights": list, "Confirm": bool},
    "Get-Recipient": {"Identity": str},
    "Get-InboxRule": {"Mailbox": str, "IncludeHidden": bool},
    "Remove-InboxRule": {"Mailbox": str, "Identity": str, "Force": bool, "Confirm": bool},
    "Get-MobileDevice": {"Mailbox": str},
    "Remove-MobileDevice": {"Identity": str, "Confirm": bool},
    "Get-MobileDeviceStatistics": {"Mailbox": str},
    "Clear-MobileDevice": {"Identity": str, "AccountOnly": bool, "Confirm": bool},
    "Remove-CalendarEvents": {
        "Identity": str, "CancelOrganizedMeetings": bool, "QueryWindowInDays": int, "PreviewOnly": bool, "Confirm": bool
    },
    "Invoke-ChangeMeetingOrganizer": {"Identity": str, "EventId": str, "NewOrganizer": str, "Confirm": bool},
    "Get-MailboxMessageConfiguration": {"Identity": str},
    "Set-MailboxMessageConfiguration": {
        "Identity": str, "AutoAddSignature": bool, "AutoAddSignatureOnReply": bool, "SignatureHtml": str,
        "SignatureText": str,
    },
    "Remove-DistributionGroupMember": {
        "Identity": str, "Member": str, "BypassSecurityGroupManagerCheck": bool, "Confirm": bool
    },
    "Add-DistributionGroupMember": {
        "Identity": str, "Member": str, "BypassSecurityGroupManagerCheck": bool, "Confirm": bool
    },
}  # fmt: skip


#: Retention policies of every tenant.
POLICIES = ("Default MRM Policy", "Leavers")


class ExchangeError(Exception):
    """An error of a cmdlet: the class of its exception and its text."""

    def __init__(self, kind: str, text: str, status: int = 400) -> None:
        self.body = {
            "error": {
                "code": "BadRequest", "message": "Error executing cmdlet",
                "details": [{"code": "Context", "target": "", "message": f"|Microsoft.Exchange.{kind}|{text}"}],
            }
        }  # fmt: skip
        self.status = status
        super().__init__(text)


def violations_of(name: str, parameters: dict[str, Any]) -> list[str]:
    """What is wrong with a call, by our own reading."""
    known = PARAMETERS.get(name)
    if known is None:
        return [f"the schema has no {name}"]
    found = [f"{name} has no parameter {p}" for p in parameters if p not in known]
    return found + [
        f"{name} -{p} is a {type(v).__name__}" for p, v in parameters.items() if p in known and not isinstance(v, known[p])
    ]  # fmt: skip


def invoke(tenant: TestTenant, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries that a cmdlet gives. Raises ExchangeError."""
    return _CMDLETS[name](tenant, parameters)


def _found(tenant: TestTenant, identity: str) -> User:
    found = tenant.recipient(identity)
    if not isinstance(found, User) or found.mailbox is None:
        raise ExchangeError(
            "Configuration.Tasks.ManagementObjectNotFoundException",
            f"The operation couldn't be performed because object '{identity}' couldn't be found on 'EU.PROD'.", 404,
        )  # fmt: skip
    return found


def _box(tenant: TestTenant, identity: str) -> Mailbox:
    box = _found(tenant, identity).mailbox
    assert box is not None
    return box


def _recipient_id(tenant: TestTenant, identity: str) -> str:
    found = tenant.recipient(identity)
    if found is None:
        raise ExchangeError(
            "Management.Tasks.RecipientNotFoundException", f"The recipient '{identity}' couldn't be found.", 404
        )  # fmt: skip
    return found.id


def _mailbox_entry(tenant: TestTenant, user: User) -> dict[str, Any]:
    box = user.mailbox
    assert box is not None
    if box.converting:
        box.converting -= 1
        if not box.converting:
            box.kind = "SharedMailbox"
    forwarding = tenant.users.get(box.forwarding or "")
    return {
        "Identity": user.alias, "ExternalDirectoryObjectId": user.id, "PrimarySmtpAddress": user.mail,
        "DisplayName": user.name, "RecipientTypeDetails": box.kind, "HiddenFromAddressListsEnabled": box.hidden,
        "ForwardingAddress": forwarding.alias if forwarding else None, "ForwardingSmtpAddress": box.forwarding_smtp,
        "DeliverToMailboxAndForward": box.deliver, "RetentionPolicy": box.policy, "LitigationHoldEnabled": box.hold, "InPlaceHolds": [],
        "ArchiveStatus": "Active" if box.archive else "None",
        "GrantSendOnBehalfTo": [tenant.users[w].alias for w in sorted(box.on_behalf)],
        "DistinguishedName": f"CN={user.alias},OU={tenant.domain}",
    }  # fmt: skip


def _get_mailbox(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    if "Identity" in p:
        return [_mailbox_entry(tenant, _found(tenant, p["Identity"]))]
    users = [u for u in tenant.users.values() if u.mailbox]
    if "Filter" in p:
        name = p["Filter"].removeprefix("GrantSendOnBehalfTo -eq 'CN=").split(",OU=")[0]
        ids = {u.id for u in users if u.alias == name}
        return [_mailbox_entry(tenant, u) for u in users if u.mailbox and u.mailbox.on_behalf & ids]
    kinds = p["RecipientTypeDetails"]
    return [_mailbox_entry(tenant, u) for u in users if u.mailbox and u.mailbox.kind in kinds]


def _set_mailbox(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    box = _box(tenant, p["Identity"])
    if p.get("Type") == "Shared" and box.kind != "SharedMailbox":
        box.converting = box.converting or box.conversion_takes
        if not box.converting:
            box.kind = "SharedMailbox"
    if p.get("Type") == "Regular" and box.kind != "UserMailbox":
        box.kind = "UserMailbox"
    if "HiddenFromAddressListsEnabled" in p:
        box.hidden = p["HiddenFromAddressListsEnabled"]
    if "RetentionPolicy" in p:
        if p["RetentionPolicy"] not in POLICIES:
            raise ExchangeError("Configuration.ManagementObjectNotFoundException", "The policy couldn't be found.", 404)
        box.policy = p["RetentionPolicy"]
    if "ForwardingAddress" in p:
        box.forwarding = _recipient_id(tenant, p["ForwardingAddress"]) if p["ForwardingAddress"] else None
    if "ForwardingSmtpAddress" in p:
        box.forwarding_smtp = p["ForwardingSmtpAddress"]
    if "DeliverToMailboxAndForward" in p:
        box.deliver = p["DeliverToMailboxAndForward"]
    change = p.get("GrantSendOnBehalfTo")
    if change:
        assert change["@odata.type"] == "#Exchange.GenericHashTable", change
        if "add" in change:
            box.on_behalf.add(_recipient_id(tenant, change["add"]))
        if "remove" in change:
            box.on_behalf.discard(_recipient_id(tenant, change["remove"]))
    return []


def _get_permission(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    box = _box(tenant, p["Identity"])
    wanted = _recipient_id(tenant, p["User"]) if "User" in p else None
    own = [] if wanted else [{"User": "NT AUTHORITY\\SELF", "AccessRights": ["FullAccess", "ReadPermission"]}]
    return [
        *own,
        *(
            {"User": tenant.users[w].upn, "AccessRights": ["FullAccess"], "IsInherited": False, "Deny": False}
            for w in sorted(box.full_access) if wanted in (None, w)
        ),
    ]  # fmt: skip


def _add_permission(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    _box(tenant, p["Identity"]).full_access[_recipient_id(tenant, p["User"])] = p["AutoMapping"]
    return []


def _remove_permission(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    _box(tenant, p["Identity"]).full_access.pop(_recipient_id(tenant, p["User"]), None)
    return []


def _get_send_as(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    users = [_found(tenant, p["Identity"])] if "Identity" in p else [u for u in tenant.users.values() if u.mailbox]
    wanted = _recipient_id(tenant, p["Trustee"]) if "Trustee" in p else None
    return [
        {"Identity": u.alias, "Trustee": tenant.users[w].alias, "AccessRights": ["SendAs"]}
        for u in users if u.mailbox for w in sorted(u.mailbox.send_as) if wanted in (None, w)
    ]  # fmt: skip


def _add_send_as(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    _box(tenant, p["Identity"]).send_as.add(_recipient_id(tenant, p["Trustee"]))
    return []


def _remove_send_as(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    _box(tenant, p["Identity"]).send_as.discard(_recipient_id(tenant, p["Trustee"]))
    return []


def _get_recipient(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    found = _found(tenant, p["Identity"])
    return [
        {"Identity": found.alias, "ExternalDirectoryObjectId": found.id, "PrimarySmtpAddress": found.mail,
         "DistinguishedName": f"CN={found.alias},OU={tenant.domain}"}
    ]  # fmt: skip


def _get_rules(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    rules = _box(tenant, p["Mailbox"]).rules
    return [{"Identity": f"alex\\{key}", "RuleIdentity": key, "Name": name} for key, name in rules.items()]


def _remove_rule(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    if _box(tenant, p["Mailbox"]).rules.pop(p["Identity"], None) is None:
        raise ExchangeError("Management.ManagementObjectNotFoundException", "The rule couldn't be found.", 404)
    return []


def _phone(tenant: TestTenant, identity: str) -> dict[str, str]:
    for user in tenant.users.values():
        if user.mailbox and identity in user.mailbox.phones:
            return user.mailbox.phones
    raise ExchangeError("Management.ManagementObjectNotFoundException", "The device couldn't be found.", 404)


def _get_phones(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    phones = _box(tenant, p["Mailbox"]).phones
    return [
        {"Identity": key, "DeviceId": key[-6:], "DeviceModel": "Pixel", "Status": state} for key, state in phones.items()
    ]  # fmt: skip


def _remove_phone(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    del _phone(tenant, p["Identity"])[p["Identity"]]
    return []


def _clear_phone(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    state = "AccountOnlyDeviceWipePending" if p["AccountOnly"] else "DeviceWipePending"
    _phone(tenant, p["Identity"])[p["Identity"]] = state
    return []


def _cancel(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    box = _box(tenant, p["Identity"])
    if not p.get("PreviewOnly"):
        box.meetings = {key: mine for key, mine in box.meetings.items() if not mine}
    return []


def _transfer(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    old, new = _box(tenant, p["Identity"]), _box(tenant, p["NewOrganizer"])
    if old.kind != "UserMailbox" or p["EventId"] not in old.meetings:
        raise ExchangeError("Management.InvalidOperationException", "The meeting cannot be transferred.")
    new.meetings[p["EventId"]] = old.meetings.pop(p["EventId"])
    return []


def _get_message(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    signature = _box(tenant, p["Identity"]).signature
    return [{"AutoAddSignature": bool(signature), "SignatureHtml": signature, "SignatureText": ""}]


def _set_message(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    _box(tenant, p["Identity"]).signature = p["SignatureHtml"]
    return []


def _join(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    group, who = tenant.recipient(p["Identity"]), _recipient_id(tenant, p["Member"])
    if not isinstance(group, Group) or not group.mail_enabled or "Unified" in group.types:
        raise ExchangeError("Management.ManagementObjectNotFoundException", "The group couldn't be found.", 404)
    group.members.add(who)
    return []


def _leave(tenant: TestTenant, p: dict[str, Any]) -> list[dict[str, Any]]:
    group, who = tenant.recipient(p["Identity"]), _recipient_id(tenant, p["Member"])
    if not isinstance(group, Group) or not group.mail_enabled or "Unified" in group.types:
        raise ExchangeError("Management.ManagementObjectNotFoundException", "The group couldn't be found.", 404)
    if who not in group.members:
        raise ExchangeError("Management.MemberNotFoundException", "The recipient isn't a member of the group.")
    group.members.discard(who)
    return []


_CMDLETS: dict[str, Callable[[TestTenant, dict[str, Any]], list[dict[str, Any]]]] = {
    "Get-Mailbox": _get_mailbox, "Set-Mailbox": _set_mailbox,
    "Get-MailboxStatistics": lambda t, p: [
        {"TotalItemSize": f"{_box(t, p['Identity']).size / 1024**3:.1f} GB ({_box(t, p['Identity']).size:,} bytes)"}
    ],
    "Get-MailboxPermission": _get_permission, "Add-MailboxPermission": _add_permission,
    "Remove-MailboxPermission": _remove_permission, "Get-RecipientPermission": _get_send_as,
    "Add-RecipientPermission": _add_send_as, "Remove-RecipientPermission": _remove_send_as,
    "Get-Recipient": _get_recipient, "Get-InboxRule": _get_rules, "Remove-InboxRule": _remove_rule,
    "Get-MobileDevice": _get_phones, "Get-MobileDeviceStatistics": _get_phones, "Remove-MobileDevice": _remove_phone,
    "Clear-MobileDevice": _clear_phone, "Remove-CalendarEvents": _cancel, "Invoke-ChangeMeetingOrganizer": _transfer,
    "Get-MailboxMessageConfiguration": _get_message, "Set-MailboxMessageConfiguration": _set_message,
    "Remove-DistributionGroupMember": _leave, "Add-DistributionGroupMember": _join,
}  # fmt: skip
