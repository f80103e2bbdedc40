"""Making the engine agree with our tables: runs whose worker died, that the engine lost, or never heard of."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Row, update
from sqlalchemy import select as columns
from sqlmodel import col, select

from agent import audit
from agent.errors import Conflict
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.runs import Plan, RunState, RunStep, ScriptRun, StepState
from agent.running import verbs
from agent.running.engine import EnginePort, SegmentStatus, segment_id
from agent.running.liveness import Liveness

log = structlog.get_logger()
#: A run whose worker died so often while executing it is not tried again: it may be what kills the worker.
MAX_RECOVERIES = 5
#: Seconds after which a plan that is stored, free of guardrails and not released counts as forgotten by a dead process.
FORGOTTEN = 60.0
#: Seconds after which a queued run that the engine does not know counts as lost: the enqueuing may still be under way.
GRACE = 5.0
#: What is asked every two seconds, of what may be thousands of runs. The state alone is asked for: a condition on the
#: parent too would make SQLite go through all root runs that there ever were.
_OPEN: Any = columns(
    col(ScriptRun.parent_id),
    col(ScriptRun.id),
    col(ScriptRun.segment),
    col(ScriptRun.client_id),
    col(ScriptRun.queued_at),
    col(ScriptRun.not_before),
    col(ScriptRun.recoveries),
).where(col(ScriptRun.state).in_((RunState.QUEUED, RunState.RUNNING)))


def reconcile(installation: Installation, port: EnginePort, liveness: Liveness) -> list[str]:
    """Queue again what is queued or running in our tables and in no living hands. Returns the ids of those runs.

    Safe to call from many workers at once: a segment is raised by a conditional update, and its id is unique.
    """
    with installation.database.reading() as session:
        runs = [run for run in session.execute(_OPEN) if run.parent_id is None]
    if not runs:
        return []
    statuses = port.statuses((r.id, r.segment) for r in runs)
    alive: dict[str, bool] = {}
    again = []
    for run in runs:
        status = statuses.get(segment_id(run.id, run.segment))
        if status is None:
            if run.queued_at is not None and utcnow() - run.queued_at > timedelta(seconds=GRACE):
                port.enqueue(run.id, run.segment, run.client_id, delay_seconds=_delay(run))
                again.append(run.id)
        elif _abandoned(status, liveness, alive) and _take_over(installation, port, run):
            again.append(run.id)
    return again


def release_forgotten(installation: Installation, port: EnginePort) -> list[str]:
    """Release plans whose process died between storing and releasing: no monitor asks for them again.

    Returns the ids of their runs. Whoever stored such a plan had passed or answered every guardrail.
    """
    before = utcnow() - timedelta(seconds=FORGOTTEN)
    with installation.database.reading() as session:
        plans = session.exec(select(Plan.id).where(Plan.state == "planned", Plan.created_at < before)).all()
    released: list[str] = []
    for plan_id in plans:
        try:
            released += verbs.release(installation, port, plan_id, actor="system")
        except Conflict:
            continue  # somebody else was quicker
        log.warning("plan_released", plan=plan_id)
    return released


def _abandoned(status: SegmentStatus, liveness: Liveness, alive: dict[str, bool]) -> bool:
    if status.phase == "queued":
        return False
    if status.phase == "over":
        # It ended without ending the run: an error of the database, or a worker that was told to stop.
        return True
    executor = status.executor or ""
    if executor not in alive:
        alive[executor] = liveness.alive(executor)
    return not alive[executor]


def _take_over(installation: Installation, port: EnginePort, run: Row[Any]) -> bool:
    """Raise the segment, so that the old one can store nothing more, and queue the new one."""
    given_up = run.recoveries >= MAX_RECOVERIES
    with installation.database.session() as session:
        current = session.get(ScriptRun, run.id)
        if current is None or current.segment != run.segment or current.finished_at is not None:
            return False
        current.segment, current.recoveries = run.segment + 1, run.recoveries + 1
        if given_up:
            current.state, current.finished_at = RunState.UNKNOWN, utcnow()
            current.result = {"reason": f"its worker ended {run.recoveries} times while it was executed"}
            states = (StepState.WAITING, StepState.RUNNING)
            session.execute(
                update(RunStep).where(col(RunStep.root_id) == run.id, col(RunStep.state).in_(states))
                .values(state=StepState.UNKNOWN, finished_at=utcnow())
            )  # fmt: skip
        session.add(current)
        audit.record(
            session, actor="system", action="run.give_up" if given_up else "run.recover", object_kind="run",
            object_id=run.id, client_id=run.client_id, details={"segment": current.segment},
        )  # fmt: skip
    log.warning("run_recovered", run=run.id, segment=run.segment + 1, given_up=given_up)
    if not given_up:
        port.cancel(run.id, run.segment)
        port.enqueue(run.id, run.segment + 1, run.client_id)
    return True


def _delay(run: Row[Any]) -> float:
    return max(0.0, (run.not_before - utcnow()).total_seconds()) if run.not_before else 0.0
