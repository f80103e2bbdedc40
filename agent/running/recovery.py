"""Making the engine agree with our tables: runs whose worker died, that the engine lost, or never heard of."""

from __future__ import annotations

from collections.abc import Sequence
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
from agent.running.engine import Call, EnginePort
from agent.running.liveness import Liveness

log = structlog.get_logger()
#: A run whose worker died so often while executing it is not tried again: it may be what kills the worker.
MAX_RECOVERIES = 5
#: Seconds after which a plan that is stored, free of guardrails and not released counts as forgotten by a dead process.
FORGOTTEN = 60.0
#: Seconds after which a due run whose client nobody serves counts as lost: the call may still be under way.
GRACE = 5.0
#: What is asked every two seconds, of what may be thousands of runs. The state alone is asked for: a condition on the
#: parent too would make SQLite go through all root runs that there ever were.
_OPEN: Any = columns(
    col(ScriptRun.parent_id),
    col(ScriptRun.id),
    col(ScriptRun.state),
    col(ScriptRun.segment),
    col(ScriptRun.client_id),
    col(ScriptRun.queued_at),
    col(ScriptRun.not_before),
).where(col(ScriptRun.state).in_((RunState.QUEUED, RunState.RUNNING)))


def reconcile(installation: Installation, port: EnginePort, liveness: Liveness, *, at_once: bool = False) -> list[str]:
    """Take over the runs that dead hands hold, and have every client with due runs served.

    Returns the ids of those runs. Safe to call from many workers at once: a segment is raised by a conditional update,
    and a call too many finds nothing to do.

    at_once: somebody said that runs are queued; else what is due for less than GRACE seconds is left to who queued it.
    """
    runs = _open_runs(installation)
    if not runs:
        return []
    calls = port.calls()
    dead = _of_dead_workers(calls, liveness)
    if dead:
        # Until a dead worker's call is forgotten, nobody else serves its client: what is under way there now, while the
        # call is still known, is in dead hands.
        runs, calls = _open_runs(installation), port.calls()
    served = {call.client_id for call in calls if call.id not in dead}
    left = {call.client_id for call in calls if call.id in dead}
    grace = timedelta(seconds=0.0 if at_once else GRACE)
    again = [r for r in runs if _is_left(installation, r, grace, r.client_id in left, r.client_id in served)]
    for call in calls:
        if call.id in dead:
            port.cancel(call.id)
    port.enqueue_all((run.id, run.segment, run.client_id) for run in again)
    if at_once and port.on_call is not None:
        # Where an older call is still in the queue no further one is made, and that one is answered too late.
        port.on_call({run.client_id for run in runs if run.state == RunState.QUEUED})
    return [run.id for run in again]


def _open_runs(installation: Installation) -> list[Row[Any]]:
    with installation.database.reading() as session:
        return [run for run in session.execute(_OPEN) if run.parent_id is None]


def _of_dead_workers(calls: Sequence[Call], liveness: Liveness) -> set[str]:
    executors = {call.executor for call in calls if call.executor is not None}
    dead = {executor for executor in executors if not liveness.alive(executor)}
    return {call.id for call in calls if call.executor in dead}


def _is_left(installation: Installation, run: Row[Any], grace: timedelta, dead: bool, served: bool) -> bool:
    """Whether a run is in dead hands, which is then taken over, or due and nobody comes for it."""
    now = utcnow()
    if run.state == RunState.RUNNING and run.not_before is None:
        return (dead or not served) and take_over(installation, run.id, run.segment)
    due_since = run.not_before or run.queued_at or now
    if now < due_since or served:
        return False
    return dead or bool(now - due_since > grace)


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


def take_over(installation: Installation, run_id: str, segment: int) -> bool:
    """Raise the segment, so that who had it can store nothing more, and let the run be due. False when it is over, or
    at another segment by now.
    """
    with installation.database.session() as session:
        run = session.get(ScriptRun, run_id, with_for_update=True)
        if run is None or run.segment != segment or run.finished_at is not None:
            return False
        given_up = run.recoveries >= MAX_RECOVERIES
        run.segment, run.recoveries, run.not_before = segment + 1, run.recoveries + 1, utcnow()
        if given_up:
            run.state, run.finished_at = RunState.UNKNOWN, utcnow()
            run.result = {"reason": f"its worker ended {run.recoveries - 1} times while it was executed"}
            states = (StepState.WAITING, StepState.RUNNING)
            session.execute(
                update(RunStep).where(col(RunStep.root_id) == run_id, col(RunStep.state).in_(states))
                .values(state=StepState.UNKNOWN, finished_at=utcnow())
            )  # fmt: skip
        session.add(run)
        audit.record(
            session, actor="system", action="run.give_up" if given_up else "run.recover", object_kind="run",
            object_id=run_id, client_id=run.client_id, details={"segment": run.segment},
        )  # fmt: skip
    log.warning("run_recovered", run=run_id, segment=segment + 1, given_up=given_up)
    return True
