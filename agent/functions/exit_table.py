"""Which fields of the exit report each function fills (seed 002, "Returned Data"). A new system adds its rows here."""

from __future__ import annotations

from collections.abc import Mapping

from agent.functions.exit_facts import (
    Field,
    Row,
    at,
    came_off,
    came_off_at,
    count,
    done,
    items,
    names,
    negated,
    pool_grew,
    value,
    when_done,
)
from agent.functions.exit_systems import CONTACT_THERE, ROWS

__all__ = ["CONTACT_THERE", "TABLE"]

_AD = "account_actions.active_directory"
_M365 = "account_actions.microsoft365"
_GROUPS = "group_memberships_removed"
_DATA = "data_preservation"
_DELEGATES = Field(
    f"{_DATA}.mailbox_conversion.delegates_granted",
    items("delegates", delegate="delegate", permission_level="permission_level", granted="granted"), "union",
)  # fmt: skip

_ROWS = (
    # --- Active Directory
    Row(
        "ad.disable_account", "active_directory_account_disable",
        (Field(f"{_AD}.account_disabled", done), Field(f"{_AD}.disabled_timestamp", value("disabled_timestamp"))),
        closes_account=True, check="active_directory_account_disabled",
    ),
    Row("ad.reset_password", "active_directory_password_reset", (Field(f"{_AD}.password_reset", done),)),
    Row(
        "ad.set_expiry", "active_directory_account_expiry",
        (Field(f"{_AD}.account_expiration_set", when_done(value("account_expiration_set"))),),
    ),
    Row(
        "ad.move_to_ou", "active_directory_account_move",
        (Field(f"{_AD}.account_moved_to_ou", when_done(value("account_moved_to_ou"))),),
    ),
    Row(
        "ad.remove_from_groups", "active_directory_group_removal",
        (
            Field(
                f"{_GROUPS}.active_directory_groups",
                items("active_directory_groups", group_name="group_name", group_dn="group_dn", removed=came_off, reason="reason"), "extend",
            ),
        ),
        revoked=count("active_directory_groups"),
    ),
    # --- Microsoft 365: the account
    Row(
        "m365.disable_sign_in", "microsoft365_sign_in_block",
        (
            Field(f"{_M365}.account_blocked", done), Field(f"{_M365}.sign_in_blocked", done),
            Field(f"{_M365}.blocked_timestamp", at),
        ),
        closes_account=True, check="sign_in_blocked",
    ),
    Row("m365.reset_password", "microsoft365_password_reset"),
    Row(
        "m365.revoke_sessions", "session_termination", (Field(f"{_M365}.sessions_revoked", done),),
        check="tokens_revoked",
    ),
    Row("m365.remove_mfa_methods", "mfa_removal", (Field(f"{_M365}.mfa_disabled", done),)),
    Row(
        "m365.wipe_devices", "mobile_device_wipe",
        (Field(f"{_M365}.mobile_devices_wiped", count("devices"), "sum"),),
    ),
    Row("m365.retire_devices", "mobile_device_retirement"),
    Row("m365.account_only_wipe", "mobile_account_wipe"),
    # --- Microsoft 365: groups, roles, rights
    Row(
        "m365.remove_from_groups", "group_membership_removal",
        (
            Field(
                f"{_GROUPS}.microsoft365_groups",
                items("groups", {"team": False}, group_name="name", group_type="type", removed=came_off, reason="reason"), "extend",
            ),
            Field(
                f"{_GROUPS}.teams_removed",
                items(
                    "groups", {"team": True}, team_name="name", team_id="id", owner_transferred="owner_transferred",
                    new_owner="new_owner", removed=came_off, reason="reason",
                ), "extend",
            ),
        ),
        revoked=count("groups"),
    ),
    Row(
        "m365.remove_sharepoint_direct_grants", "sharepoint_permission_removal",
        (Field(f"{_GROUPS}.sharepoint_sites_removed", count("sites"), "sum"),), revoked=count("sites"),
    ),
    Row("m365.remove_directory_roles", "admin_role_removal", revoked=count("roles")),
    Row(
        "m365.remove_mailbox_permissions_elsewhere", "shared_mailbox_access_removal", revoked=count("permissions"),
    ),
    Row("m365.remove_calendar_permissions_elsewhere", "calendar_sharing_removal", revoked=count("calendars")),
    # --- Microsoft 365: data
    Row(
        "m365.convert_to_shared", "mailbox_conversion",
        (
            Field(f"{_DATA}.mailbox_conversion.converted_to_shared", done),
            Field(f"{_DATA}.mailbox_conversion.shared_mailbox_name", when_done(value("shared_mailbox_name"))),
            Field(f"{_DATA}.mailbox_conversion.shared_mailbox_email", when_done(value("shared_mailbox_email"))),
            Field(f"{_M365}.mailbox_size_gb", value("mailbox_size_gb")),
        ),
        keeps_data=True,
    ),
    # The mailbox is shown by the account's name.
    Row(
        "m365.set_display_name_prefix", "display_name_prefix",
        (Field(f"{_DATA}.mailbox_conversion.shared_mailbox_name", when_done(value("after.displayName")), "replace"),),
    ),
    Row("m365.grant_full_access", "mailbox_delegation", (_DELEGATES,), check="mailbox_access_granted"),
    Row("m365.grant_send_as", "mailbox_send_as", (_DELEGATES,)),
    Row("m365.grant_send_on_behalf", "mailbox_send_on_behalf", (_DELEGATES,)),
    Row(
        "m365.set_forwarding", "email_forwarding",
        (
            Field(f"{_DATA}.email_forwarding.enabled", done),
            Field(f"{_DATA}.email_forwarding.forward_to", when_done(value("forward_to"))),
            Field(f"{_DATA}.email_forwarding.forwarding_expires", when_done(value("expires"))),
            Field(f"{_DATA}.email_forwarding.maintain_copy_in_mailbox", when_done(value("keep_copy"))),
        ),
        check="forwarding_works",
    ),
    Row(
        "m365.disable_forwarding", "email_forwarding_end", (Field(f"{_DATA}.email_forwarding.enabled", negated(done)),),
    ),
    Row(
        "m365.set_out_of_office", "out_of_office",
        (
            Field(f"{_DATA}.out_of_office.enabled", done),
            Field(f"{_DATA}.out_of_office.message", when_done(value("message"))),
            Field(f"{_DATA}.out_of_office.start_date", when_done(value("start"))),
            # The seed's word for a message without an end.
            Field(f"{_DATA}.out_of_office.end_date", when_done("perpetual")),
            Field(f"{_DATA}.out_of_office.end_date", when_done(value("end"))),
        ),
        check="out_of_office_set",
    ),
    Row(
        "m365.grant_onedrive_access", "onedrive_transfer",
        (
            Field(f"{_DATA}.onedrive_transfer.ownership_transferred", done),
            Field(f"{_DATA}.onedrive_transfer.transferred_to", names("delegates", {"granted": True}, "delegate")),
            Field(f"{_DATA}.onedrive_transfer.access_granted_timestamp", at),
            Field(f"{_DATA}.onedrive_transfer.onedrive_url", when_done(value("onedrive_url"))),
            Field(f"{_M365}.onedrive_size_gb", value("onedrive_size_gb")),
        ),
        keeps_data=True, check="onedrive_access_granted",
    ),
    # --- licences
    Row(
        "m365.remove_licenses", "license_removal",
        (
            Field(
                "licenses_reclaimed",
                items(
                    "licenses", sku_id="sku_id", sku_name="name", removed=came_off, removed_timestamp=came_off_at,
                    license_pool_updated=pool_grew,
                ), "extend",
            ),
            # Groups that assign licences were left out before, and are left here.
            Field(
                f"{_GROUPS}.microsoft365_groups",
                items("groups", group_name="name", group_type="type", removed=came_off), "update",
            ),
        ),
        check="licenses_reclaimed", revoked=count("groups"),
    ),
    # --- the person's record
    *(
        Row(
            function, step,
            (
                Field("psa_updates.contact_record.status_updated", when_done(value("status"))),
                Field("psa_updates.contact_record.last_updated", at),
            ),
        )
        for function, step in (("contact.set_status", "contact_status"), ("contact.close_offboarding", "retention_begin"))
    ),
    # --- backups
    Row(
        "m365.backup_onedrive", "onedrive_backup",
        (
            Field(f"{_DATA}.onedrive_backup.backed_up", done),
            Field(f"{_DATA}.onedrive_backup.backup_location", when_done(value("backup_location"))),
            Field(f"{_DATA}.onedrive_backup.backup_size_gb", when_done(value("backup_size_gb"))),
            Field(f"{_DATA}.onedrive_backup.file_count", when_done(value("file_count"))),
            Field(f"{_DATA}.onedrive_backup.backup_timestamp", when_done(value("backup_timestamp"))),
            Field(f"{_M365}.onedrive_size_gb", value("onedrive_size_gb")),
        ),
        keeps_data=True,
    ),
    Row(
        "m365.backup_mailbox", "mailbox_backup",
        tuple(
            Field(f"{_DATA}.email_backup.{name}", done if name == "backed_up" else when_done(value(name)))
            for name in (
                "backed_up", "backup_location", "backup_size_gb", "backup_format", "backup_timestamp", "verification_hash"
            )
        ),
        keeps_data=True,
    ),
    # They may be about anything: the name of the step says what.
    Row("task.create", ""), Row("task.checklist", ""), Row("package.note_child", ""),
    Row("backup.verify", "backup_verification", keeps_data=True, check="backups_verified"),
    *ROWS,
)  # fmt: skip

#: Function -> its row.
TABLE: Mapping[str, Row] = {row.function: row for row in _ROWS}
assert len(TABLE) == len(_ROWS), "two rows of the table are about one function"
