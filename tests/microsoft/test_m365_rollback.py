"""A person's offboarding in Microsoft 365 is taken back from its snapshot: what comes back, what is told not to, and faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from m365_cases import DANA, MIA, box
from m365_context import UserContext
from m365_runs import execute, states
from tenant_server import Server
from tenant_state import TestTenant, made_id

from agent.errors import Conflict
from agent.functions.base import FinishedStep, Outcome
from agent.functions.microsoft365 import grants
from agent.installation import Installation
from agent.model.runs import RunState, StepState
from agent.running.rollback import draft_rollback, store_rollback
from agent.running.tree import RunTree

#: Steps whose changes the snapshot holds, in the order of an offboarding.
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("disable_sign_in", {}), ("transfer_sites", {"new_owner": "manager"}),
    ("remove_directory_roles", {}), ("remove_from_groups", {"new_owner": "manager"}),
    ("remove_sharepoint_direct_grants", {}), ("remove_mailbox_permissions_elsewhere", {}),
    ("remove_calendar_permissions_elsewhere", {}), ("set_out_of_office", {"message": "Gone."}), ("convert_to_shared", {}),
    ("grant_full_access", {"delegates": DANA}), ("grant_send_as", {"delegates": DANA}),
    ("grant_send_on_behalf", {"delegates": DANA}), ("set_forwarding", {"forward_to": "manager"}),
    ("disable_onedrive_sharing", {}), ("grant_onedrive_access", {"delegates": MIA}), ("remove_licenses", {}),
    ("hide_from_address_lists", {}), ("reassign_direct_reports", {"new_manager": "manager"}), ("clear_manager", {}),
    ("set_display_name_prefix", {}), ("clear_immutable_id", {}),
]  # fmt: skip


def seen(tenant: TestTenant) -> dict[str, Any]:
    """Everything that a restoration must bring back; without what is told to stay."""
    found = tenant.snapshot()
    for user in found["users"].values():
        user.sessions_from = user.password = user.password_at = None
        # A disabled reply keeps its text; people of a site keep their number there.
        if user.mailbox and user.mailbox.replies["status"] == "disabled":
            user.mailbox.replies = {"status": "disabled"}
        if user.mailbox:
            user.mailbox.calendar = dict(sorted(user.mailbox.calendar.values()))
    for group in found["groups"].values():
        # Who became owner in the meantime stays owner.
        group.channels = {}
        group.owners.discard(made_id("contoso", "mia"))
        group.members.discard(made_id("contoso", "mia"))
    for path, site in found["sites"].items():
        site.users = set(site.users)
        site.admins = len(site.admins)
        site.groups = {g: len(m) for g, m in site.groups.items()}
        site.roles = sorted(map(sorted, site.roles.values()))
        if path.startswith(("/personal", "/sites/own", "/sites/sales-team")):
            site.users.discard(MIA)
    found["roles"] = sorted(found["roles"].values())
    return found


def finished(context: UserContext, function: str, outcome: Outcome) -> None:
    context.finished.append(
        FinishedStep(function, "x", f"m365.{function}", StepState.SUCCEEDED, "x", outcome.result, None, True)
    )


def leave(context: UserContext) -> dict[str, Any]:
    """Offboard, and give the snapshot with what the steps wrote down."""
    kept = context.run("m365.snapshot")
    assert kept.state == "succeeded", kept
    finished(context, "snapshot", kept)
    for function, values in STEPS:
        outcome = context.run(f"m365.{function}", **values)
        assert outcome.state == "succeeded", (function, outcome)
    given = grants.read(context.states.get(grants.variable(context.root_id)))
    return {**kept.result["snapshot"], "grants": [g.model_dump(mode="json") for g in given]}


def restore(context: UserContext, snapshot: dict[str, Any]) -> Outcome:
    return context.run("m365.restore_from_snapshot", user=snapshot["object_id"], snapshot=snapshot)


@pytest.fixture(autouse=True)
def the_other_client(fabrikam: TestTenant) -> Any:
    before = fabrikam.snapshot()
    yield
    assert fabrikam.snapshot() == before


def test_everything_that_the_snapshot_holds_comes_back(
    context: UserContext, contoso: TestTenant, server: Server
) -> None:
    before = seen(contoso)
    box(contoso).full_access[made_id("contoso", "rob")] = True
    with_rob = seen(contoso)
    snapshot = leave(context)
    assert seen(contoso) != before
    outcome = restore(context, snapshot)
    assert outcome.state == "succeeded", outcome
    assert seen(contoso) == with_rob
    parts = {row["part"]: row for row in outcome.result["restored"]}
    assert all(row["restored"] for row in parts.values())
    assert list(parts)[-1] == "sign-in" and next(iter(parts)).startswith("licence")
    assert any("password" in text for text in outcome.result["cannot_be_restored"])
    server.calls.clear()
    again = restore(context, snapshot)
    assert again.state == "succeeded" and not any(row.get("changed") for row in again.result["restored"])
    assert not [
        c for _, c in server.calls if c.split()[0] in ("PATCH", "PUT", "DELETE") or c.startswith(("Set-", "Add-"))
    ]


def test_only_the_first_snapshot_of_a_run_is_kept(context: UserContext, contoso: TestTenant, server: Server) -> None:
    finished(context, "snapshot", context.run("m365.snapshot"))
    context.run("m365.disable_sign_in")
    server.calls.clear()
    second = context.run("m365.snapshot")
    assert second.state == "skipped" and server.calls == []


def test_what_is_taken_away_is_written_down_before(context: UserContext, contoso: TestTenant, server: Server) -> None:
    """The worker ends in the middle: the next attempt finds less, and the first finding is still there."""
    server.fault("Remove-MailboxPermission", 403)
    assert context.run("m365.remove_mailbox_permissions_elsewhere").state == "failed"
    first = grants.read(context.states[grants.variable("root1")])
    assert {g.kind for g in first} == {"FullAccess", "SendAs", "SendOnBehalf"}
    server.faults.clear()
    context.run("m365.remove_mailbox_permissions_elsewhere")
    assert grants.read(context.states[grants.variable("root1")]) == first


def test_a_part_that_is_refused_is_named_and_the_others_come_back(
    context: UserContext, contoso: TestTenant, server: Server
) -> None:
    snapshot = leave(context)
    server.fault("POST /roleManagement", 403)
    outcome = restore(context, snapshot)
    assert outcome.state == "failed" and outcome.error is not None and outcome.error.type == "PERMISSION_DENIED"
    assert [r["part"] for r in outcome.result["restored"] if not r["restored"]] == ["role User Administrator on /"]
    assert contoso.named("alex").enabled and box(contoso).kind == "UserMailbox"
    server.faults.clear()
    assert restore(context, snapshot).state == "succeeded"


@pytest.mark.parametrize("fault", ["lose", 429, 503])
def test_answers_that_are_lost_and_throttled(
    context: UserContext, contoso: TestTenant, server: Server, fault: Any
) -> None:
    before = seen(contoso)
    snapshot = leave(context)
    server.fault(r"^(PATCH|PUT|POST) /(?!\$)|^(Set|Add)-", fault, times=4, retry_after=1)
    outcome = restore(context, snapshot)
    assert outcome.state == "succeeded", outcome
    assert seen(contoso) == before


def test_a_deleted_account_comes_back_first(context: UserContext, contoso: TestTenant) -> None:
    before = seen(contoso)
    snapshot = leave(context)
    alex = contoso.named("alex")
    contoso.deleted[alex.id] = contoso.users.pop(alex.id)
    assert context.verify("m365.restore_from_snapshot", user=alex.id, snapshot=snapshot) is False
    assert alex.id in contoso.deleted, "verification changes nothing"
    assert restore(context, snapshot).state == "succeeded"
    assert seen(contoso) == before


def test_a_snapshot_of_another_tenant_is_refused(context: UserContext, contoso: TestTenant, server: Server) -> None:
    snapshot = {**context.run("m365.snapshot").result["snapshot"], "tenant": "another"}
    before = contoso.snapshot()
    outcome = restore(context, snapshot)
    assert outcome.error is not None and outcome.error.code == "other_tenant"
    assert contoso.snapshot() == before


def test_half_a_snapshot_is_none(context: UserContext, contoso: TestTenant, server: Server) -> None:
    for what in ("memberOf", "roleManagement", "Get-MailboxPermission", "manager"):
        server.fault(what, 403)
        outcome = context.run("m365.snapshot")
        assert outcome.state == "failed" and "snapshot" not in outcome.result
        server.faults.clear()


def test_a_run_is_rolled_back(
    installation: Installation,
    run: Callable[..., RunTree],
    contoso: TestTenant,
) -> None:
    before = seen(contoso)
    done = run("Access Revocation", employee_email="alex@contoso.test", transfer_groups_to="mia@contoso.test")
    assert done.root.state == RunState.SUCCEEDED, states(done)
    assert seen(contoso) != before
    found = draft_rollback(installation, done.root.id, actor="ann", reason="she stays")
    assert found.account == "alex@contoso.test" and any("revoked" in c for c in found.cannot_be_restored)
    stored = store_rollback(installation, found, actor="ann", reason="she stays")
    with pytest.raises(Conflict, match="another run on"):
        draft_rollback(installation, done.root.id, actor="ann", reason="twice")
    back = execute(installation, stored.run_ids[0])
    assert back.root.state == RunState.SUCCEEDED, states(back)
    assert seen(contoso) == before


def test_what_a_run_did_beyond_the_snapshot_is_named(
    installation: Installation,
    run: Callable[..., RunTree],
    contoso: TestTenant,
) -> None:
    done = run("Data Transfer", employee_email="alex@contoso.test", cancel_calendar_invites="1")
    found = draft_rollback(installation, done.root.id, actor="ann", reason="she stays")
    named = " ".join(found.cannot_be_restored)
    assert "Remove Inbox Rules (m365.remove_inbox_rules)" in named and "Cancel Meetings" in named
    assert "m365.disable_forwarding" not in named
