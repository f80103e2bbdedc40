"""Plans held and approved, runs cancelled, retried and resumed, by a real worker with the real engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from sqlmodel import select

from agent.content.definitions import Limits
from agent.errors import Conflict, GuardrailRefused, NotFound, UsageError
from agent.installation import Installation
from agent.inventory.effective import destructive_defaults
from agent.model.administration import AuditEntry
from agent.model.fields import ExtraField, ExtraFieldData
from agent.model.runs import Plan, RunState, ScriptRun
from agent.running import verbs
from agent.running.planning import DraftPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.worker import Worker
from agent.services import properties

if TYPE_CHECKING:
    pass

WRAPPER = """name: Small Wrapper
role: wrapper
exclusive: true
steps:
  - {name: Work, script: Work}
"""


@pytest.fixture
def small_wrapper(write_script) -> None:
    write_script("work", "name: Work\nbody: a.sh\n", {"a.sh": "echo done"})
    write_script("small", WRAPPER)


@pytest.fixture
def worker(installation: Installation) -> Iterator[Worker]:
    with Worker(installation) as running:
        yield running


def draft(
    installation: Installation, computers: list[int], levels: tuple[str, ...] = ("computer",), **origin
) -> DraftPlan:
    requests = [RunRequest("Small Wrapper", "computer", c, levels=levels) for c in computers]
    return draft_plan(installation, requests, PlanOrigin(**{"started_by": "alice", **origin}))


def wait_for(installation: Installation, run_id: str) -> ScriptRun:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with installation.database.reading() as session:
            run = session.get(ScriptRun, run_id)
            assert run is not None
            if run.finished_at is not None:
                return run
        time.sleep(0.05)
    raise AssertionError(f"run {run_id} is still {run.state}")


def guardrail_names(drafted: DraftPlan) -> set[str]:
    return {h["guardrail"] for h in drafted.holds}


def test_a_released_run_is_executed_by_the_worker(installation, two_clients, small_wrapper, worker) -> None:
    stored = store_plan(installation, draft(installation, [two_clients.contoso_computers[0]]))
    assert stored.state == "planned"
    ids = verbs.release(installation, worker.port, stored.id, actor="alice")
    run = wait_for(installation, ids[0])
    assert run.state == RunState.SUCCEEDED
    with pytest.raises(Conflict, match="released"):
        verbs.release(installation, worker.port, stored.id, actor="alice")
    with installation.database.reading() as session:
        assert {r.client_id for r in session.exec(select(ScriptRun))} == {two_clients.contoso}


def test_the_first_run_of_a_monitor_is_held_until_a_person_confirms(
    installation, two_clients, small_wrapper, worker
) -> None:
    computer = two_clients.contoso_computers[0]
    held = draft(installation, [computer], monitor="Offboarding")
    assert guardrail_names(held) == {"first_run"}
    stored = store_plan(installation, held)
    assert stored.state == "held"
    with pytest.raises(Conflict, match="run approve"):
        verbs.release(installation, worker.port, stored.id, actor="alice")
    with pytest.raises(UsageError, match="reason"):
        verbs.approve(installation, worker.port, stored.id, actor="bob", reason=" ")
    ids = verbs.approve(installation, worker.port, stored.run_ids[0], actor="bob", reason="agreed with the client")
    assert wait_for(installation, ids[0]).state == RunState.SUCCEEDED
    assert not draft(installation, [computer], monitor="Offboarding").holds
    with installation.database.reading() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.action == "plan.approve")).one()
        plan = session.get(Plan, stored.id)
    assert entry.actor == "bob" and entry.details["reason"] == "agreed with the client"
    assert plan is not None and plan.approval_reason == "agreed with the client"


def test_a_script_is_never_queued_twice_for_a_computer(installation, two_clients, small_wrapper) -> None:
    computer = two_clients.contoso_computers[0]
    first = draft(installation, [computer])
    second = draft(installation, [computer])
    stored = store_plan(installation, first)
    with pytest.raises(Conflict):
        store_plan(installation, second)
    again = draft(installation, [computer, two_clients.fabrikam_computers[0]])
    assert [t.target.id for t in again.targets] == [two_clients.fabrikam_computers[0]]
    assert stored.run_ids[0] in str(again.skipped[0]["reason"])


def test_one_offboarding_per_computer_at_a_time(installation, two_clients, small_wrapper, write_script) -> None:
    write_script("other", WRAPPER.replace("Small", "Other"))
    computer = two_clients.contoso_computers[0]
    store_plan(installation, draft(installation, [computer]))
    other = draft_plan(installation, [RunRequest("Other Wrapper", "computer", computer)], PlanOrigin("alice"))
    assert not other.targets
    assert "another offboarding" in str(other.skipped[0]["reason"])


def test_the_same_tick_is_planned_once(installation, two_clients, small_wrapper) -> None:
    tick = {"monitor": "Offboarding", "tick": "monitor:Offboarding:2026-11-21T10:00:00Z"}
    store_plan(installation, draft(installation, [two_clients.contoso_computers[0]], **tick))
    with pytest.raises(Conflict):
        store_plan(installation, draft(installation, [two_clients.contoso_computers[1]], **tick))


def test_limits_hold_a_run(installation, two_clients, small_wrapper) -> None:
    both = list(two_clients.contoso_computers)
    drafted = draft(installation, both, monitor="M", confirmed=True, limits=Limits(computers_per_run=1))
    assert guardrail_names(drafted) == {"computers_per_run"}


def test_a_whole_fleet_match_is_refused_unless_overridden_by_name(installation, two_clients, small_wrapper) -> None:
    everything = [*two_clients.contoso_computers, *two_clients.fabrikam_computers]
    drafted = draft(installation, everything, monitor="M", confirmed=True)
    with pytest.raises(GuardrailRefused, match="whole_fleet"):
        store_plan(installation, drafted)
    with installation.database.reading() as session:
        assert not session.exec(select(ScriptRun)).all()
    overridden = draft(installation, everything, monitor="M", confirmed=True, overrides=frozenset({"whole_fleet"}))
    assert not overridden.refusals
    assert store_plan(installation, overridden).state == "held"


def test_a_default_that_flags_everything_is_refused(installation, two_clients, small_wrapper) -> None:
    with installation.database.session() as session:
        field = session.exec(select(ExtraField).where(ExtraField.name == "Offboard Computer")).one()
        session.add(ExtraFieldData(extra_field_id=field.id, id=0, value="1"))
    with installation.database.reading() as session:
        assert destructive_defaults(session) == ["Offboard Computer"]
    drafted = draft(installation, [two_clients.contoso_computers[0]], monitor="M", confirmed=True)
    with pytest.raises(GuardrailRefused, match="default_flag"):
        store_plan(installation, drafted)


def test_a_client_flag_asks_twice_and_needs_the_permission(installation, two_clients, small_wrapper, worker) -> None:
    computers = [two_clients.contoso_computers[0]]
    drafted = draft(installation, computers, ("client",), monitor="M", confirmed=True)
    assert guardrail_names(drafted) == {"client_flag"}
    stored = store_plan(installation, drafted)
    with pytest.raises(GuardrailRefused, match="--confirm-client contoso"):
        verbs.approve(installation, worker.port, stored.id, actor="bob", reason="ok")
    with pytest.raises(GuardrailRefused, match="may not confirm"):
        verbs.approve(installation, worker.port, stored.id, actor="bob", reason="ok", confirmed_clients=["contoso"])
    properties.set_value(installation, properties.CLIENT_APPROVERS, "carol, bob", actor="admin")
    ids = verbs.approve(installation, worker.port, stored.id, actor="bob", reason="ok", confirmed_clients=["contoso"])
    assert wait_for(installation, ids[0]).state == RunState.SUCCEEDED


def test_exclusions_and_servers_are_left_out_with_the_reason(installation, two_clients, small_wrapper) -> None:
    first, second = two_clients.contoso_computers
    with installation.database.session() as session:
        exclude = session.exec(
            select(ExtraField).where(ExtraField.name == "Exclude From Offboarding", ExtraField.form == 2)
        ).one()
        session.add(ExtraFieldData(extra_field_id=exclude.id, id=two_clients.contoso_site, value="1"))
        from agent.model.places import Computer

        server = session.get(Computer, two_clients.fabrikam_computers[0])
        assert server is not None
        server.is_server = True
        session.add(server)
    drafted = draft(installation, [first, second, two_clients.fabrikam_computers[0]])
    assert not drafted.targets
    reasons = {s["id"]: str(s["reason"]) for s in drafted.skipped}
    assert "Exclude From Offboarding" in reasons[first]
    assert "Allow Server Offboarding" in reasons[two_clients.fabrikam_computers[0]]


def test_cancel_before_the_first_step_and_never_after_the_end(installation, two_clients, small_wrapper, worker) -> None:
    held = store_plan(installation, draft(installation, [two_clients.contoso_computers[0]], monitor="M"))
    assert verbs.cancel(installation, worker.port, held.id, actor="alice", reason="wrong client") == "cancelled"
    with installation.database.reading() as session:
        run = session.get(ScriptRun, held.run_ids[0])
    assert run is not None and run.state == RunState.CANCELLED
    with pytest.raises(Conflict, match="over"):
        verbs.cancel(installation, worker.port, held.run_ids[0], actor="alice", reason=None)
    with pytest.raises(NotFound):
        verbs.cancel(installation, worker.port, "nope", actor="alice", reason=None)


def test_retry_plans_the_same_again(installation, two_clients, small_wrapper, worker) -> None:
    stored = store_plan(installation, draft(installation, [two_clients.contoso_computers[0]]))
    verbs.release(installation, worker.port, stored.id, actor="alice")
    with pytest.raises((Conflict, NotFound)):
        verbs.retry(installation, "0" * 16, actor="alice", reason=None)
    wait_for(installation, stored.run_ids[0])
    again = verbs.retry(installation, stored.run_ids[0], actor="alice", reason=None)
    ids = verbs.release(installation, worker.port, again.id, actor="alice")
    run = wait_for(installation, ids[0])
    assert run.state == RunState.SUCCEEDED
    assert run.retry_of == stored.run_ids[0]


def test_a_run_that_the_engine_never_heard_of_is_queued_again(
    installation, two_clients, small_wrapper, monkeypatch
) -> None:
    """The process dies between storing `queued` and telling the engine."""
    from agent.running import recovery

    monkeypatch.setattr(recovery, "GRACE", 0.0)
    stored = store_plan(installation, draft(installation, [two_clients.contoso_computers[0]]))

    class DeadPort:
        def enqueue_all(self, *given: object) -> None:
            raise SystemExit

    with pytest.raises(SystemExit):
        verbs.release(installation, DeadPort(), stored.id, actor="alice")  # type: ignore[arg-type]
    with Worker(installation):
        assert wait_for(installation, stored.run_ids[0]).state == RunState.SUCCEEDED


def test_a_plan_that_was_never_released_is_released_by_the_next_worker(
    installation, two_clients, small_wrapper, monkeypatch
) -> None:
    """The process dies between storing a plan and releasing it; the alert has its plan and does not ask again."""
    from agent.running import recovery

    monkeypatch.setattr(recovery, "FORGOTTEN", 0.0)
    stored = store_plan(installation, draft(installation, [two_clients.contoso_computers[0]]))
    held = store_plan(installation, draft(installation, [two_clients.contoso_computers[1]], monitor="M"))
    with Worker(installation):
        assert wait_for(installation, stored.run_ids[0]).state == RunState.SUCCEEDED
    with installation.database.reading() as session:
        waiting = session.get(ScriptRun, held.run_ids[0])
    assert waiting is not None and waiting.state == RunState.HELD


def test_a_plan_is_named_by_its_beginning_if_that_is_one_plan(installation, two_clients, small_wrapper) -> None:
    """As runs are; what is approved must not be a guess between two."""
    first = store_plan(installation, draft(installation, [two_clients.contoso_computers[0]], monitor="Offboarding"))
    with installation.database.session() as session:
        assert verbs._find_plan(session, first.id[:8]).id == first.id
        assert verbs._find_plan(session, first.run_ids[0][:8]).id == first.id
        for nothing in ("", "zz", "%"):
            with pytest.raises(NotFound, match="no plan and no run"):
                verbs._find_plan(session, nothing)
        session.add(Plan(id=first.run_ids[0][:8] + "plan", created_by="ann", state="held"))
        with pytest.raises(UsageError, match="several plans"):
            verbs._find_plan(session, first.run_ids[0][:8])
