"""Every input of a user offboarding, declared once: type, default, description, and what cannot go together.

From this one model come the options of the command line, the parameters of the scripts that say `inputs: user_offboarding`,
and the plan's parameters. The names are those of seed 002 (Rewst) where it has one; `cipp` gives the option of the
Offboarding Wizard that means the same. `field` names the client's extra field that holds the client's default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

#: What `inputs:` of a script can be.
USER_OFFBOARDING = "user_offboarding"
_ADDRESS = re.compile(r"[^@\s,;<>\"]{1,64}@[^@\s,;<>\"]{1,255}")
VARIABLE = re.compile(r"%([A-Za-z_]+)%")
#: Variables of the out-of-office message, and what each stands for.
VARIABLES: Mapping[str, str] = {
    "leaver": "name of the leaver", "leaver_email": "address of the leaver", "manager": "name of the manager",
    "manager_email": "address of the manager", "contact": "name of who takes over",
    "contact_email": "address of who takes over", "company": "name of the client", "tenantname": "name of the client",
}  # fmt: skip


def _address(value: str) -> str:
    if value and not _ADDRESS.fullmatch(value):
        raise ValueError(f"{value!r} is no e-mail address")
    return value.lower()


def _split(value: Any) -> Any:
    """A list as text: divided by commas (addresses) or semicolons."""
    if isinstance(value, str):
        return tuple(part.strip() for part in re.split(r"[,;]", value) if part.strip())
    return value


def _items(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in re.split(r"[;\n]", value) if part.strip())
    return value


def _one_item(value: str) -> str:
    """An item survives being written into a list and read again: it holds nothing that divides items."""
    if re.search(r"[;\n\0]", value) or value != value.strip() or not value:
        raise ValueError(f"{value!r} is no item of a list: text without semicolons and line ends")
    return value


def _no_control(value: str) -> str:
    if "\0" in value:
        raise ValueError("text cannot hold a NUL character")
    return value


def known_variables(text: str) -> str:
    """The text as it is. Raises ValueError for a variable that no message has."""
    unknown = {name.lower() for name in VARIABLE.findall(text)} - set(VARIABLES)
    if unknown:
        raise ValueError(f"there is no variable %{min(unknown)}%; there are {', '.join(f'%{v}%' for v in VARIABLES)}")
    return text


def _day(value: Any) -> Any:
    """Nothing is guessed: neither 31.12.2026 nor a number of seconds."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError(f"{value!r} is no date: write it as 2026-01-31")
    return value


Day = Annotated[date, BeforeValidator(_day)]
Text = Annotated[str, AfterValidator(_no_control)]
#: As long as the function takes it.
Message = Annotated[Text, Field(max_length=20_000), AfterValidator(known_variables)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_split)]
Items = Annotated[tuple[Annotated[str, AfterValidator(_one_item)], ...], BeforeValidator(_items)]
Days = Annotated[int, Field(ge=0, le=3650)]


def _input(
    default: Any, description: str, *, field: str | None = None, cipp: str | None = None, act: bool = False,
    required: bool = False,
) -> Any:  # fmt: skip
    """`act`: it does something to an account or mailbox, so it cannot go with a mere deletion.

    `required`: it must be known when somebody plans an offboarding by hand; what a monitor starts goes on without it.
    """
    extra = {"field": field, "cipp": cipp, "act": act, "required": required}
    return Field(default, description=description, json_schema_extra={k: v for k, v in extra.items() if v})


class UserInputs(BaseModel):
    """The inputs of one offboarding after defaults. Texts and lists that are empty mean: nobody, nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # --- the person
    employee_email: Address = _input("", "E-mail address of the person who leaves", required=True)
    employee_id: Text = _input("", "Employee id of the HR system")
    termination_date: Day | None = _input(None, "Effective date, YYYY-MM-DD", required=True)
    last_working_day: Day | None = _input(None, "Last day in the office; default: the termination date")
    termination_type: Literal["", "voluntary", "involuntary", "retirement", "contract_end"] = _input(
        "", "Why the person leaves", required=True
    )
    manager_email: Address = _input("", "Manager; default: the contact's manager", required=True)
    reason_for_leaving: Text = _input("", "Reason, for the records")
    company_name: Text = _input("", "Name of the client, as a check")
    reference: Text = _input("", "Text that appears in the title of the result")
    # --- phase 1: security
    immediate_disable: bool = _input(False, "High risk: run the security phase at once and tell security")
    disable_sign_in: bool = _input(True, "Disable the sign-in of the account", cipp="Disable Sign-In", act=True)
    reset_password: bool = _input(True, "Set a random password that nobody knows", cipp="Reset Password", act=True)
    hand_over_password: bool = _input(False, "Send the manager a one-time link to the new password")
    revoke_sessions: bool = _input(True, "End all sessions and tokens", cipp="Revoke all sessions", act=True)
    revoke_vpn_access: bool = _input(True, "Revoke VPN and remote access", act=True)
    remove_mfa_devices: bool = _input(True, "Remove all MFA methods", cipp="Remove all MFA Devices", act=True)
    mobile_device_action: Literal["none", "account_only", "retire", "wipe"] = _input(
        "account_only", "What becomes of managed phones; default in high-risk mode: wipe", act=True
    )
    remove_mobile_devices: bool = _input(
        True, "Remove the mailbox's mobile device partnerships", cipp="Remove all Mobile Devices", act=True
    )
    # --- phase 2: access
    remove_groups: bool = _input(True, "Remove from all groups and teams", cipp="Remove from all Groups", act=True)
    security_group_order: Items = _input((), "Groups that are left first, in this order", field="security_group_order")
    block_group: Text = _input(
        "",
        "Object id of a group that Conditional Access keeps out; the person is added",
        field="conditional_access_block_group",
    )
    transfer_groups_to: Address = _input("", "Who gets groups and teams that would have no owner; default: the manager")
    remove_admin_roles: bool = _input(True, "Remove administrator roles", act=True)
    remove_sharepoint_permissions: bool = _input(True, "Remove direct rights on SharePoint sites", act=True)
    remove_mailbox_permissions: bool = _input(
        True, "Remove the person's rights on other mailboxes", cipp="Remove user's mailbox permissions", act=True
    )
    remove_calendar_permissions: bool = _input(
        True, "Remove the person's rights on other calendars", cipp="Remove user's calendar permissions", act=True
    )
    disable_business_applications: bool = _input(True, "Disable the accounts in business applications", act=True)
    # --- phase 3: data
    backup_user_data: bool = _input(True, "Back up mailbox and files", act=True)
    backup_location: Text = _input(
        "", "Where backups are stored: a folder, or s3://bucket/prefix", field="backup_location"
    )
    email_retention_policy: Text = _input("", "Name of the mailbox's retention policy", field="email_retention_policy")
    convert_mailbox_to_shared: bool = _input(
        True, "Convert the mailbox to a shared one", cipp="Convert to Shared Mailbox", act=True
    )
    mailbox_conversion_method: Literal["shared_mailbox", "forward_only"] = _input(
        "shared_mailbox", "What becomes of the mailbox", field="mailbox_conversion_method"
    )
    mailbox_delegate: Address = _input(
        "", "Who gets the mailbox; default: the manager", field="mailbox_delegation_default"
    )
    full_access_automap: Addresses = _input(
        (), "Who gets full access, shown in Outlook", cipp="Mailbox Full Access (automap)", act=True
    )
    full_access_no_automap: Addresses = _input(
        (), "Who gets full access, not shown in Outlook, also where named as a delegate", cipp="Mailbox Full Access (no automap)", act=True
    )
    send_as: Addresses = _input((), "Who may send as this mailbox", act=True)
    send_on_behalf: Addresses = _input((), "Who may send on behalf of this mailbox", act=True)
    maintain_email_forwarding: bool = _input(True, "Forward mail to the delegate", act=True)
    forward_to: Address = _input(
        "", "Who gets forwarded mail; default: the delegate", cipp="Forward Email To", act=True
    )
    keep_copy: bool = _input(True, "Keep a copy of forwarded mail", cipp="Keep a copy of forwarded email")
    forwarding_duration_days: Annotated[int, Field(ge=1, le=3650)] = _input(
        90, "Days until forwarding ends; it ends with the account when that is deleted earlier"
    )
    disable_forwarding: bool = _input(False, "Take any forwarding away", act=True)
    out_of_office: Message = _input(
        "",
        "Out-of-office text, with variables such as %leaver%, %contact% and %contact_email%; empty: none",
        field="out_of_office_default",
        cipp="Out of Office Message",
        act=True,
    )
    remove_rules: bool = _input(True, "Remove all inbox rules", cipp="Remove all Rules", act=True)
    cancel_calendar_invites: bool = _input(
        False, "Cancel meetings that the person organised", cipp="Cancel all calendar invites", act=True
    )
    transfer_meetings_to: Address = _input("", "Who becomes the organiser of the person's meetings", act=True)
    calendar_window_days: Annotated[int, Field(ge=1, le=1825)] = _input(
        730, "Days ahead in which meetings are cancelled or transferred"
    )
    onedrive_transfer_to: Address = _input("", "Who gets the OneDrive", field="onedrive_transfer_default", act=True)
    onedrive_full_access: Addresses = _input((), "Who else gets it", cipp="OneDrive Full Access", act=True)
    disable_onedrive_sharing: bool = _input(False, "Stop external sharing of the OneDrive", act=True)
    onedrive_retention_days: Days = _input(
        90, "Days for which the OneDrive is kept; if longer than the account's retention, the account is kept as long",
        field="onedrive_retention_days",
    )  # fmt: skip
    # --- phase 4: licences
    reclaim_licenses_immediately: bool = _input(
        False, "Take licences away now, not after the retention", field="license_reclaim_immediate",
        cipp="Remove Licenses", act=True,
    )  # fmt: skip
    licenses_to_keep: Items = _input(
        (), "Licences that stay, by part number such as VISIOCLIENT, with semicolons", field="licenses_to_keep"
    )
    remove_teams_phone: bool = _input(True, "Take the Teams telephone number away", act=True)
    # --- phase 5: things and tasks
    equipment_to_return: Items = _input((), "Equipment to give back, with semicolons")
    asset_return_owner: Text = _input(
        "Facilities", "Who collects badge, keys and parking permit", field="asset_return_owner"
    )
    asset_return_days: Annotated[int, Field(ge=0, le=365)] = _input(
        0, "Days after the last working day by which everything must be back", field="asset_return_days"
    )
    asset_reminder_recipients: Addresses = _input(
        (), "Who is reminded of what is not back, beside the manager", field="asset_reminder_recipients"
    )
    it_offboarding_checklist_template: Items = _input(
        (), "Further manual tasks, with semicolons", field="it_offboarding_checklist_template"
    )
    # --- phase 6: clean-up
    hide_from_gal: bool = _input(True, "Hide from address lists", cipp="Hide from Global Address List", act=True)
    clear_manager: bool = _input(True, "Take out of the organisation chart", act=True)
    move_to_disabled_ou: bool = _input(True, "Move the account to the OU for disabled accounts", act=True)
    ad_disabled_users_ou: Text = _input("", "Distinguished name of that OU", field="ad_disabled_users_ou")
    display_name_prefix: Text = _input("", "Put before the display name, such as `Former - `", act=True)
    clear_immutable_id: bool = _input(
        False, "Clear the id that ties the account to the directory on premises", cipp="Clear Immutable ID", act=True
    )
    # --- phase 7: people are told
    notify_security_team: bool = _input(True, "Tell the security team")
    security_notification_recipients: Addresses = _input(
        (), "Addresses of the security team", field="security_notification_recipients"
    )
    notify_email: bool = _input(
        False, "Mail the result to it_notification_recipients, else to who started it", cipp="E-mail"
    )
    notify_webhook: bool = _input(False, "Send the result to every webhook of the client", cipp="Webhook")
    notify_psa: bool = _input(
        False, "Put the result on the ticket in the PSA; without one, in a ticket here", cipp="PSA"
    )
    exit_interview_required: bool = _input(False, "An exit interview is mandatory", field="exit_interview_required")
    exit_interview_completed: bool = _input(False, "The exit interview took place")
    exit_document_template: Text = _input(
        "", "Exit document for HR: the file NAME.j2 among the client's messages", field="exit_document_template"
    )
    # --- phase 8: deletion
    offboarding_retention_days: Annotated[int, Field(ge=1, le=36500)] = _input(
        90, "Days after which the account may be deleted", field="offboarding_retention_days"
    )
    delete_after_retention: bool = _input(
        True, "Delete the account when the retention is over", field="delete_after_retention"
    )
    delete_user: bool = _input(False, "Only delete an account whose offboarding is over", cipp="Delete User")


@dataclass(frozen=True)
class Input:
    """One input as lists, options and scripts need it."""

    name: str
    #: text, address, addresses, items, number, checkbox, dropdown, date
    kind: str
    options: tuple[str, ...]
    required: bool
    default: Any
    description: str
    #: The client's extra field with the client's default.
    field: str | None
    #: The option of seed 003 that means the same.
    cipp: str | None
    act: bool


def _kind(annotation: Any, metadata: list[Any]) -> tuple[str, tuple[str, ...]]:
    if get_origin(annotation) is Literal:
        return "dropdown", get_args(annotation)
    if get_origin(annotation) is tuple:
        return ("addresses" if any(getattr(m, "func", None) is _split for m in metadata) else "items"), ()
    if annotation is bool:
        return "checkbox", ()
    if annotation is int:
        return "number", ()
    if annotation is str:
        return ("address" if any(getattr(m, "func", None) is _address for m in metadata) else "text"), ()
    return "date", ()


def _inputs() -> Iterator[Input]:
    for name, field in UserInputs.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        kind, options = _kind(field.annotation, field.metadata)
        yield Input(
            name, kind, options, bool(extra.get("required")), field.default, field.description or "",
            _text(extra, "field"), _text(extra, "cipp"), bool(extra.get("act")),
        )  # fmt: skip


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    return str(value) if value is not None else None


#: Name -> input, in the order of the phases.
INPUTS: dict[str, Input] = {i.name: i for i in _inputs()}

_PARAMETER_TYPES = {"number": "number", "checkbox": "checkbox", "dropdown": "dropdown", "date": "date"}


def parameter(value: Any) -> str:
    """An input's value as a script's parameter holds it: text; lists with semicolons, which every reader divides at."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, tuple | list):
        return "; ".join(str(item) for item in value)
    return value.isoformat() if isinstance(value, date) else str(value)


def parameter_definitions() -> dict[str, dict[str, Any]]:
    """The inputs as parameters of a script, in the shape of its YAML. Nothing is required: the planner fills them all."""
    found: dict[str, dict[str, Any]] = {}
    for item in INPUTS.values():
        kind = _PARAMETER_TYPES.get(item.kind, "text")
        made: dict[str, Any] = {"type": kind, "description": item.description}
        if item.options:
            made["options"] = list(item.options)
        made["default"] = parameter(item.default)
        found[item.name] = made
    return found


def with_parameters(script: Any) -> Any:
    """A script as its file has it, with the inputs among its parameters if it asks for them.

    They are written into the definition, so that a stored revision says which inputs there were.
    """
    if not isinstance(script, dict) or script.get("inputs") != USER_OFFBOARDING:
        return script
    own = script.get("parameters", {})
    return {**script, "parameters": {**parameter_definitions(), **own}} if isinstance(own, dict) else script
