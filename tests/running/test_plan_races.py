"""Two people act on one plan at the same moment: one of them wins, the other is told."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlmodel import Session

from agent.errors import Conflict, ExeuntError
from agent.installation import Installation
from agent.inventory.removal import remove
from agent.model.base import utcnow
from agent.model.places import Computer
from agent.model.runs import Plan, RunState, ScriptRevision, ScriptRun
from agent.running import verbs
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.targets import hold_targets, load_target

if TYPE_CHECKING:
    from conftest import Places


class SilentPort:
    """Counts what would go to the engine."""

    def __init__(self) -> None:
        self.queued: list[str] = []

    def enqueue_all(self, runs: Any) -> None:
        self.queued += [run_id for run_id, _, _ in runs]

    def enqueue(self, run_id: str, *_: Any, **__: Any) -> None:
        self.queued.append(run_id)


@pytest.fixture
def held(any_installation: Installation, any_two_clients: Places) -> Plan:
    """A held plan with one run."""
    with any_installation.database.session() as session:
        plan = Plan(created_by="alice", state="held", holds=[{"guardrail": "approval_required", "reason": "r"}])
        session.add_all([plan, ScriptRevision(digest="a" * 64, name="x", content={})])
        session.flush()
        session.add(
            ScriptRun(
                plan_id=plan.id, script="x", role="child", revision="a" * 64, target_kind="computer", target_name="x",
                target_id=any_two_clients.contoso_computers[0], client_id=any_two_clients.contoso, state=RunState.HELD,
                started_by="alice",
            )
        )  # fmt: skip
    return plan


def in_a_thread(act: Any) -> tuple[threading.Thread, list[str]]:
    said: list[str] = []

    def run() -> None:
        try:
            act()
            said.append("done")
        except ExeuntError as error:
            said.append(type(error).__name__)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, said


def wait_for_the_lock(installation: Installation) -> None:
    """Until somebody waits for what another transaction holds. SQLite has one writer: there they wait to begin."""
    if installation.settings.is_sqlite:
        return
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 120
    found = 0
    while not found:
        assert time.monotonic() < deadline, "nobody waits"
        # A transaction sees these figures as they were when it asked first.
        with installation.database.reading() as session:
            found = session.scalar(text(waiting)) or 0


def cancelled(session: Session, plan: Plan) -> ScriptRun:
    """What cancelling does to the rows, up to the moment before it is committed."""
    row = session.get_one(Plan, plan.id, with_for_update=True)
    run = verbs._runs_of(session, row)[0]
    session.refresh(run, with_for_update=True)
    run.state, run.finished_at, row.state = RunState.CANCELLED, utcnow(), "cancelled"
    session.add_all([run, row])
    session.flush()
    return run


def test_what_is_cancelled_is_not_started_by_an_approval(any_installation: Installation, held: Plan) -> None:
    port: Any = SilentPort()
    with any_installation.database.session() as session:
        run = cancelled(session, held)
        thread, said = in_a_thread(lambda: verbs.approve(any_installation, port, held.id, actor="bob", reason="fine"))
        wait_for_the_lock(any_installation)
    thread.join(120)
    with any_installation.database.reading() as session:
        assert session.get_one(ScriptRun, run.id).state == RunState.CANCELLED
        assert session.get_one(Plan, held.id).state == "cancelled"
    assert (said, port.queued) == (["Conflict"], [])


def test_a_single_run_that_is_cancelled_stays_so(any_installation: Installation, held: Plan) -> None:
    port: Any = SilentPort()
    with any_installation.database.session() as session:
        run = verbs._runs_of(session, held)[0]
        session.refresh(run, with_for_update=True)
        run.state, run.finished_at = RunState.CANCELLED, utcnow()
        session.add(run)
        session.flush()
        thread, _ = in_a_thread(lambda: verbs.approve(any_installation, port, held.id, actor="bob", reason="fine"))
        wait_for_the_lock(any_installation)
    thread.join(120)
    with any_installation.database.reading() as session:
        assert session.get_one(ScriptRun, run.id).state == RunState.CANCELLED
    assert port.queued == []


def test_one_of_two_approvals_counts(any_installation: Installation, held: Plan) -> None:
    port: Any = SilentPort()
    with any_installation.database.session() as session:
        row = session.get_one(Plan, held.id, with_for_update=True)
        row.state, row.approved_by = "released", "bob"
        session.add(row)
        session.flush()
        thread, said = in_a_thread(lambda: verbs.approve(any_installation, port, held.id, actor="carol", reason="fine"))
        wait_for_the_lock(any_installation)
    thread.join(120)
    with any_installation.database.reading() as session:
        assert session.get_one(Plan, held.id).approved_by == "bob"
    assert (said, port.queued) == (["Conflict"], [])


def test_a_computer_is_not_removed_while_a_run_of_it_is_stored(
    any_installation: Installation, any_two_clients: Places
) -> None:
    computer = any_two_clients.contoso_computers[0]

    def remove_it() -> None:
        with any_installation.database.session() as session:
            remove(any_installation, session, session.get_one(Computer, computer), actor="bob")

    with any_installation.database.session() as session:
        hold_targets(session, [load_target(session, "computer", computer)])
        thread, said = in_a_thread(remove_it)
        wait_for_the_lock(any_installation)
        session.add(ScriptRevision(digest="a" * 64, name="x", content={}))
        session.flush()
        session.add(
            ScriptRun(
                script="x", role="child", revision="a" * 64, target_kind="computer", target_name="x", target_id=computer,
                client_id=any_two_clients.contoso, state=RunState.PLANNED, started_by="alice",
            )
        )  # fmt: skip
    thread.join(120)
    assert said == ["Conflict"]
    with any_installation.database.reading() as session:
        assert session.get(Computer, computer) is not None


def test_nothing_is_planned_for_a_computer_that_was_removed_since_the_draft(
    installation: Installation, two_clients: Places, write_script: Any
) -> None:
    write_script("mark", "name: Mark\nbody: a.sh\n", {"a.sh": "exit 0"})
    computers = two_clients.contoso_computers
    requests = [RunRequest("Mark", "computer", computer, {}) for computer in computers]
    draft = draft_plan(installation, requests, PlanOrigin("ann", confirmed=True))
    assert len(draft.targets) == 2
    with installation.database.session() as session:
        remove(installation, session, session.get_one(Computer, computers[0]), actor="bob")
    with pytest.raises(Conflict, match=f"computer {computers[0]} was removed since"):
        store_plan(installation, draft)
    with installation.database.reading() as session:
        assert (
            session.scalar(text("SELECT count(*) FROM plan"))
            == session.scalar(text("SELECT count(*) FROM script_run"))
            == 0
        )
