"""How many HTTP requests a function makes for one leaver, once the run knows the account. A rise must be meant."""

from __future__ import annotations

import pytest
from m365_cases import CASES, Case
from m365_context import UserContext
from tenant_server import Server
from tenant_state import TestTenant

from agent.functions.base import FinishedStep
from agent.functions.microsoft365.base import account_of
from agent.model.runs import StepState

#: Requests to Graph, Exchange and SharePoint together; sign-ins are shared by all steps and not counted.
REQUESTS = {
    "disable_sign_in": 1,
    "reset_password": 2,
    "revoke_sessions": 2,
    "set_display_name_prefix": 2,
    "clear_immutable_id": 2,
    "add_to_block_group": 3,
    "remove_mfa_methods": 7,
    "wipe_devices": 3,
    "retire_devices": 3,
    "account_only_wipe": 3,
    "remove_mobile_devices": 3,
    "convert_to_shared": 3,
    "set_retention_policy": 3,
    "hide_from_address_lists": 3,
    "set_forwarding": 5,
    "disable_forwarding": 3,
    "grant_full_access": 5,
    "grant_send_as": 5,
    "grant_send_on_behalf": 5,
    "set_out_of_office": 3,
    "remove_inbox_rules": 3,
    "remove_signature": 2,
    "cancel_meetings": 3,
    "transfer_meetings": 4,
    "remove_mailbox_permissions_elsewhere": 10,
    "remove_calendar_permissions_elsewhere": 4,
    "remove_from_groups": 8,
    "remove_directory_roles": 3,
    "remove_licenses": 5,
    "grant_onedrive_access": 6,
    "grant_onedrive_access-write": 5,
    "disable_onedrive_sharing": 4,
    "remove_sharepoint_direct_grants": 13,
    "transfer_sites": 16,
    "transfer_teams": 7,
    "reassign_direct_reports": 4,
    "clear_manager": 3,
    "unassign_teams_number": 3,
    "delete_user": 4,
    "restore_user": 6,
}


@pytest.mark.parametrize("case", CASES, ids=[c.id or c.name for c in CASES])
def test_requests(context: UserContext, contoso: TestTenant, server: Server, case: Case) -> None:
    alex = contoso.named("alex")
    found = account_of({"id": alex.id, "userPrincipalName": alex.upn, "displayName": alex.name, "mail": alex.mail})
    asked = str(case.values.get("user", "alex@contoso.test"))
    user = {"user": found.shown(asked, contoso.id)}
    context.finished.append(FinishedStep("x", "x", "f", StepState.SUCCEEDED, "x", user, None, True))
    case.before(contoso)
    server.requests.clear()
    assert context.run(f"m365.{case.name}", **case.values).state == "succeeded"
    assert len(server.requests) <= REQUESTS[case.id or case.name], server.requests
