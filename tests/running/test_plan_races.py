"""Two people act on one plan at the same moment: one of them wins, the other is told."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlmodel import Session

from agent.errors import ExeuntError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.runs import Plan, RunState, ScriptRevision, ScriptRun
from agent.running import verbs

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
    deadline = time.monotonic() + 20
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
    thread.join(30)
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
    thread.join(30)
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
    thread.join(30)
    with any_installation.database.reading() as session:
        assert session.get_one(Plan, held.id).approved_by == "bob"
    assert (said, port.queued) == (["Conflict"], [])
