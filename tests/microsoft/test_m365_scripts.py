"""The shipped child scripts, planned and executed by the engine on a contact, against the test tenants."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from m365_cases import box
from m365_runs import states
from tenant_server import Server
from tenant_state import TestTenant, made_id

from agent.model.runs import RunState
from agent.running.tree import RunTree

PACKAGE = "Microsoft 365 - "
ORDER = ("Security Actions", "Access Revocation", "Data Transfer", "License Reclamation", "Cleanup", "Deletion")


def test_a_person_leaves_phase_by_phase(
    run: Callable[..., RunTree],
    contoso: TestTenant,
    fabrikam: TestTenant,
    server: Server,
    caplog: pytest.LogCaptureFixture,
    app_certificate: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    other = fabrikam.snapshot()
    everything = {
        "employee_email": "alex@contoso.test", "mobile_device_action": "wipe", "transfer_groups_to": "mia@contoso.test",
        "out_of_office": "I have left %company%. Write to %contact_email%.", "mailbox_delegate": "mia@contoso.test",
        "full_access_no_automap": "dana@contoso.test", "send_as": "dana@contoso.test", "send_on_behalf": "dana@contoso.test",
        "forward_to": "mia@contoso.test", "onedrive_transfer_to": "mia@contoso.test", "disable_onedrive_sharing": "1",
        "cancel_calendar_invites": "1", "reclaim_licenses_immediately": "1", "clear_immutable_id": "1",
        "display_name_prefix": "Former - ", "manager_email": "mia@contoso.test",
    }  # fmt: skip
    box(contoso).conversion_takes = 4
    stored = []
    for script in ORDER[:-1]:
        tree = run(script, **everything)
        assert tree.root.state == RunState.SUCCEEDED, states(tree)
        stored.append(
            json.dumps([[s.parameters, s.options, s.result, s.error, s.output] for s in tree.steps], default=str)
        )
    alex = contoso.named("alex")
    assert (alex.enabled, alex.licences, alex.manager, alex.immutable_id) == (False, {}, None, None)
    assert alex.name == "Former - Alex Baker" and alex.password != "old"
    assert {g.name for g in contoso.groups.values() if alex.id in g.members} == {"Everybody", "From AD"}
    assert box(contoso).kind == "SharedMailbox" and box(contoso).hidden and not box(contoso).meetings.get("meeting1")
    assert box(contoso).full_access == {made_id("contoso", "mia"): True, made_id("contoso", "dana"): False}
    assert fabrikam.snapshot() == other
    assert {domain for domain, _ in server.calls} == {"contoso.test"}
    said = caplog.text + "".join(stored)
    for secret in (alex.password, contoso.secret, *server.tokens, app_certificate[100:140]):
        assert secret not in said
    assert all(agent.startswith("exeunt/") and "(run:" in agent for agent in server.agents if agent != "exeunt")


def test_who_is_named_without_automapping_has_none_though_a_delegate_too(
    run: Callable[..., RunTree], contoso: TestTenant
) -> None:
    chosen = {"mailbox_delegate": "mia@contoso.test", "full_access_automap": "dana@contoso.test, mia@contoso.test"}
    tree = run(
        "Data Transfer",
        employee_email="alex@contoso.test",
        full_access_no_automap="mia@contoso.test, info@contoso.test",
        **chosen,
    )
    assert tree.root.state == RunState.SUCCEEDED, states(tree)
    mapped = {made_id("contoso", who): is_shown for who, is_shown in (("mia", False), ("info", False), ("dana", True))}
    assert box(contoso).full_access == mapped


def test_nothing_is_deleted_before_an_offboarding_is_over(run: Callable[..., RunTree], contoso: TestTenant) -> None:
    """The engine asks for holds, backups and retention before such a script is planned at all."""
    with pytest.raises(AssertionError, match="must not be deleted"):
        run("Deletion", employee_email="alex@contoso.test")
    assert contoso.user("alex@contoso.test") is not None and not contoso.deleted


def test_a_mailbox_that_is_only_forwarded_keeps_its_licence_until_then(
    run: Callable[..., RunTree], contoso: TestTenant
) -> None:
    """Without its licence there is no mailbox that forwards."""
    chosen = {
        "employee_email": "alex@contoso.test", "reclaim_licenses_immediately": "1",
        "mailbox_conversion_method": "forward_only", "licenses_to_keep": "VISIOCLIENT",
    }  # fmt: skip
    assert run("License Reclamation", **chosen).root.state == RunState.SUCCEEDED
    assert len(contoso.named("alex").licences) == 2
    assert run("Forwarding Expired", **chosen).root.state == RunState.SUCCEEDED
    assert len(contoso.named("alex").licences) == 1
    assert run("License Reclamation", **{**chosen, "maintain_email_forwarding": "0"}).root.state == RunState.SUCCEEDED


def test_what_is_chosen_for_access_and_mail_is_done(run: Callable[..., RunTree], contoso: TestTenant) -> None:
    """The group that Conditional Access blocks is joined after all groups were left; the meetings go before the conversion."""
    alex, blocked = contoso.named("alex").id, contoso.group("Blocked")
    team = contoso.group("Sales team").id
    tree = run(
        "Access Revocation",
        employee_email="alex@contoso.test",
        block_group=blocked.id,
        transfer_groups_to="mia@contoso.test",
    )
    assert tree.root.state == RunState.SUCCEEDED, states(tree)
    groups = next((s.result or {})["groups"] for s in tree.steps if s.name == "Leave Groups and Teams")
    handed = {g["id"]: (g["owner_transferred"], g.get("new_owner")) for g in groups if "owner_transferred" in g}
    assert handed[team] == (True, "mia@contoso.test")
    assert alex in blocked.members and alex not in contoso.group("Security").members
    chosen = {"transfer_meetings_to": "dana@contoso.test", "email_retention_policy": "Leavers"}
    tree = run("Data Transfer", employee_email="alex@contoso.test", **chosen)
    assert tree.root.state == RunState.SUCCEEDED, states(tree)
    assert box(contoso, "dana").meetings.keys() >= {"meeting1", "series1"}
    assert (box(contoso).policy, box(contoso).kind) == ("Leavers", "SharedMailbox")


def test_the_conversion_is_waited_for_before_the_licence_goes(run: Callable[..., RunTree], contoso: TestTenant) -> None:
    """While Exchange is at it the step is tried again later; the licence is refused until it is done."""
    box(contoso).conversion_takes = 1000
    tree = run("License Reclamation", employee_email="alex@contoso.test", reclaim_licenses_immediately="1")
    step = next(s for s in tree.steps if s.name == "Remove Licenses")
    assert step.state == "failed" and step.error is not None
    assert (step.error["type"], step.error["code"]) == ("LICENSE_REMOVAL_FAILED", "mailbox_not_shared")
    assert step.attempts == 6
    assert contoso.named("alex").licences


def test_later_steps_keep_to_the_object_that_the_first_one_found(
    run: Callable[..., RunTree], contoso: TestTenant, server: Server
) -> None:
    """The name is given to somebody else while the run is going on: that person is not touched."""
    alex, rob = contoso.named("alex"), contoso.named("rob")

    def swap(call: str) -> None:
        if call.startswith("PATCH /users/") and alex.upn == "alex@contoso.test":
            alex.upn, rob.upn = "alex.old@contoso.test", "alex@contoso.test"

    strike = server.strike

    def struck(call: str) -> Any:
        found = strike(call)
        swap(call)
        return found

    server.__dict__["strike"] = struck
    try:
        tree = run("Security Actions", employee_email="alex@contoso.test")
    finally:
        del server.__dict__["strike"]
    assert tree.root.state == RunState.SUCCEEDED, states(tree)
    assert not alex.enabled and alex.password != "old"
    assert rob.enabled and rob.password == "old" and rob.sessions_from.year == 2025
