"""The shipped child scripts, planned and executed by the engine on a contact, against the test tenants."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from m365_cases import box
from tenant_server import Server
from tenant_state import TestTenant, made_id

from agent.installation import Installation
from agent.model.places import Contact
from agent.model.runs import RunState, ScriptRun
from agent.running.executor import Executor
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.tree import RunTree, load_tree
from agent.secrets import create_key
from agent.services import credentials

PACKAGE = "Microsoft 365 - "
ORDER = ("Security Actions", "Access Revocation", "Data Transfer", "License Reclamation", "Cleanup", "Deletion")


class Queue:
    """What would be queued; every segment is executed at once, whatever its delay."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, int, float]] = []

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        self.queued.append((run_id, segment, delay_seconds))


@pytest.fixture
def run(installation: Installation, two_clients: Any, server: Server, app_certificate: str) -> Callable[..., RunTree]:
    """Run a script of the package on Alex of Contoso. Fabrikam has a credential of its own."""
    create_key(installation.settings)
    places = {"contoso": two_clients.contoso, "fabrikam": two_clients.fabrikam}
    for tenant in server.tenants:
        name = tenant.domain.removesuffix(".test")
        credentials.add(
            installation, kind="microsoft365", name=f"{name}-tenant", client_id=places[name],
            settings=server.settings(tenant), secret={"certificate": app_certificate}, actor="tester",
        )  # fmt: skip
    with installation.database.session() as session:
        contact = Contact(
            client_id=two_clients.contoso, external_id="alex", name="Alex Baker", email="alex@contoso.test",
            manager_email="mia@contoso.test", status="Terminated", termination_date="2020-01-01",
        )  # fmt: skip
        session.add(contact)
        session.flush()
        contact_id = contact.contact_id
    assert contact_id is not None

    def execute(script: str, **parameters: str) -> RunTree:
        request = RunRequest(PACKAGE + script, "contact", contact_id, parameters)
        draft = draft_plan(installation, [request], PlanOrigin("tester"))
        assert draft.targets, draft.skipped
        run_id = store_plan(installation, draft).run_ids[0]
        queue = Queue()
        with installation.database.session() as session:
            found = session.get(ScriptRun, run_id)
            assert found is not None
            found.state = RunState.QUEUED
            session.add(found)
            queue.enqueue(run_id, found.segment, found.client_id)
        executor = Executor(installation, queue)  # type: ignore[arg-type]
        while queue.queued:
            queued_run, segment, _ = queue.queued.pop(0)
            executor.execute(queued_run, segment)
        with installation.database.reading() as session:
            return load_tree(session, run_id)

    return execute


def states(tree: RunTree) -> dict[str, str]:
    return {s.name: f"{s.state}: {(s.error or {}).get('message')}" for s in tree.steps if s.state != "skipped"}


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


def test_nothing_is_deleted_before_an_offboarding_is_over(run: Callable[..., RunTree], contoso: TestTenant) -> None:
    """The engine asks for holds, backups and retention before such a script is planned at all."""
    with pytest.raises(AssertionError, match="must not be deleted"):
        run("Deletion", employee_email="alex@contoso.test")
    assert contoso.user("alex@contoso.test") is not None and not contoso.deleted


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
