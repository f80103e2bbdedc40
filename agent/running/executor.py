"""The interpreter: executes a stored plan step by step. Each transition is one transaction in our own tables.

It may be started again at any time by anybody: finished steps are left alone, a step that was under way is verified
before anything is repeated, and who works under an old fencing number or segment can store nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import update
from sqlmodel import Session, col

from agent import audit
from agent.content.references import parse_subject
from agent.errors import ExeuntError
from agent.functions.base import Outcome
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.runs import FINISHED_STEP_STATES, RunState, RunStep, ScriptRun, StepState
from agent.running.acting import attempt
from agent.running.conditions import holds
from agent.running.context import Machine, RunContext, mark_contact
from agent.running.engine import EnginePort
from agent.running.offline import Offline, check_online
from agent.running.targets import load_target
from agent.running.tree import RunTree, load_tree

log = structlog.get_logger()


class SupersededError(ExeuntError):
    """Another worker has taken this segment over; what this one found out is not stored."""


class Executor:
    """Executes segments of runs. One per worker; holds nothing between two segments."""

    def __init__(self, installation: Installation, port: EnginePort) -> None:
        self.installation, self.port = installation, port

    def execute(self, run_id: str, segment: int) -> None:
        """Execute a segment: to the end of the run, or to a wait, which queues the next segment."""
        with structlog.contextvars.bound_contextvars(run=run_id, segment=segment):
            try:
                self._execute(run_id, segment)
            except SupersededError as error:
                log.warning("segment_superseded", reason=str(error))

    def _execute(self, run_id: str, segment: int) -> None:
        with self.installation.database.reading() as session:
            tree = load_tree(session, run_id)
            root = tree.root
            if root.segment != segment or root.state not in (RunState.QUEUED, RunState.RUNNING):
                return
            target = load_target(session, root.target_kind, root.target_id)
        if all(s.state == StepState.WAITING and s.attempts == 0 for s in tree.steps):
            offline = check_online(self.installation, root, target)
            if offline is not None:
                self._wait_for_computer(tree, offline)
                return
        machine = Machine(self.installation, target)
        try:
            self._steps(tree, machine)
        finally:
            machine.close()

    def _steps(self, tree: RunTree, machine: Machine) -> None:
        for step in tree.steps:
            if step.state in FINISHED_STEP_STATES:
                continue
            if self._cancelled(tree):
                return
            reason = self._not_applicable(tree, step)
            if reason is not None:
                self._finish(tree, step, Outcome.skipped(reason), None)
                continue
            interrupted = step.state == StepState.RUNNING or bool((step.result or {}).get("interrupted"))
            self._claim(tree, step)
            context = RunContext(self.installation, tree, step, machine)
            made = attempt(context, step, interrupted=interrupted)
            if made.retry_in is not None:
                self._retry_later(tree, step, made.outcome, context, made.retry_in)
                return
            self._finish(tree, step, made.outcome, context)
        if any(s.state not in FINISHED_STEP_STATES for s in tree.steps):
            return
        self._close(tree)

    def _not_applicable(self, tree: RunTree, step: RunStep) -> str | None:
        """Why a step is skipped, or None."""
        stopper = tree.stopped_by(step)
        if stopper is not None:
            return f"stopped because {stopper.name!r} is {stopper.state}"
        if tree.part(step) == "fallback" and tree.children_state() == StepState.SUCCEEDED:
            return "no fallback is needed: every child script succeeded"
        for condition in step.options.get("when", ()):
            found = condition["known"] if "known" in condition else _subject(tree, step, condition["value"])
            if not holds(condition, found):
                return f"its condition does not hold: {condition['value']} is {found}"
        return None

    def _cancelled(self, tree: RunTree) -> bool:
        """End the run at this step's boundary if somebody asked for it."""
        with self.installation.database.session() as session:
            root = session.get(ScriptRun, tree.root.id)
            assert root is not None
            if root.cancel_requested_at is None:
                return False
            tree.root.cancel_requested_at, tree.root.cancelled_by = root.cancel_requested_at, root.cancelled_by
            for step in tree.steps:
                if step.state not in FINISHED_STEP_STATES:
                    self._store(session, step, step.fence, Outcome(StepState.CANCELLED), None)
            self._end(session, tree)
        return True

    def _claim(self, tree: RunTree, step: RunStep) -> None:
        """Take the step under the next fencing number. Recorded before anything is done on the target."""
        now = utcnow()
        with self.installation.database.session() as session:
            self._check_segment(session, tree)
            taken = session.execute(
                update(RunStep)
                .where(col(RunStep.id) == step.id, col(RunStep.fence) == step.fence)
                .where(col(RunStep.state).in_((StepState.WAITING, StepState.RUNNING)))
                .values(
                    state=StepState.RUNNING,
                    fence=step.fence + 1,
                    attempts=step.attempts + 1,
                    not_before=None,
                    started_at=step.started_at or now,
                )
            )
            if taken.rowcount != 1:  # type: ignore[attr-defined]
                raise SupersededError(f"step {step.name!r} was taken by another worker")
            for run in tree.path(step):
                if run.state in (RunState.PLANNED, RunState.QUEUED):
                    self._start(session, run, now)
        step.state, step.fence, step.attempts = StepState.RUNNING, step.fence + 1, step.attempts + 1
        step.started_at = step.started_at or now

    def _start(self, session: Session, run: ScriptRun, now: Any) -> None:
        run.state, run.started_at = RunState.RUNNING, run.started_at or now
        values = {"state": run.state, "started_at": run.started_at}
        session.execute(update(ScriptRun).where(col(ScriptRun.id) == run.id).values(**values))
        if run.parent_id is None:
            audit.record(
                session, actor=run.started_by, action="run.start", object_kind="run", object_id=run.id,
                client_id=run.client_id, details={"script": run.script, "target": run.target_name},
            )  # fmt: skip

    def _finish(self, tree: RunTree, step: RunStep, outcome: Outcome, context: RunContext | None) -> None:
        """Store what became of a step, and of every inner run that ends with it."""
        with self.installation.database.session() as session:
            self._check_segment(session, tree)
            self._store(session, step, step.fence, outcome, context)
            if context is not None and context.bodies and tree.root.target_kind == "computer":
                mark_contact(session, tree.root.target_id, utcnow())
            for run in tree.path(step)[:-1]:
                if all(s.state in FINISHED_STEP_STATES for s in tree.steps_under(run)):
                    self._end_inner(session, tree, run)

    def _store(self, session: Session, step: RunStep, fence: int, outcome: Outcome, context: RunContext | None) -> None:
        values: dict[str, Any] = {
            "state": outcome.state, "finished_at": utcnow(), "result": dict(outcome.result) or None,
            "error": _error(outcome), "output": {"bodies": context.bodies} if context and context.bodies else None,
        }  # fmt: skip
        stored = session.execute(
            update(RunStep).where(col(RunStep.id) == step.id, col(RunStep.fence) == fence).values(**values)
        )
        if stored.rowcount != 1:  # type: ignore[attr-defined]
            raise SupersededError(f"step {step.name!r} was taken over by another worker")
        for name, value in values.items():
            setattr(step, name, value)

    def _end_inner(self, session: Session, tree: RunTree, run: ScriptRun) -> None:
        skipped = all(s.state == StepState.SKIPPED for s in tree.steps_under(run))
        state = RunState.CANCELLED if skipped else tree.state_of(run)
        run.state, run.finished_at = state, utcnow()
        result = {"skipped": True} if skipped else None
        values = {"state": run.state, "finished_at": run.finished_at, "result": result}
        session.execute(update(ScriptRun).where(col(ScriptRun.id) == run.id).values(**values))

    def _close(self, tree: RunTree) -> None:
        with self.installation.database.session() as session:
            self._check_segment(session, tree)
            self._end(session, tree)

    def _end(self, session: Session, tree: RunTree) -> None:
        """Store the end of the whole run and what it came to."""
        root, now = tree.root, utcnow()
        for run in tree.runs.values():
            if run is not root and run.finished_at is None:
                self._end_inner(session, tree, run)
        result: dict[str, Any] = {**tree.lists(), "outcome": tree.outcome(), "children_state": tree.children_state()}
        root.state, root.finished_at, root.result = tree.state_of(root), now, result
        values = {"state": root.state, "finished_at": now, "result": result}
        session.execute(update(ScriptRun).where(col(ScriptRun.id) == root.id).values(**values))
        audit.record(
            session, actor=root.cancelled_by or root.started_by, action="run.finish", object_kind="run",
            object_id=root.id, client_id=root.client_id, details={"state": root.state, **tree.lists()},
        )  # fmt: skip
        log.info("run_finished", state=root.state, target=root.target_name)

    def _retry_later(self, tree: RunTree, step: RunStep, outcome: Outcome, context: RunContext, seconds: float) -> None:
        """Store why the attempt failed, end the segment, and queue the next one with a delay."""
        not_before = utcnow() + timedelta(seconds=seconds)
        with self.installation.database.session() as session:
            self._check_segment(session, tree)
            self._store(session, step, step.fence, outcome, context)
            values = {"state": StepState.WAITING, "finished_at": None, "not_before": not_before}
            session.execute(update(RunStep).where(col(RunStep.id) == step.id).values(**values))
            self._next_segment(session, tree, not_before)
        self.port.enqueue(tree.root.id, tree.root.segment, tree.root.client_id, delay_seconds=seconds)

    def _wait_for_computer(self, tree: RunTree, offline: Offline) -> None:
        """The computer is offline and nothing was started: look again later, or give up ("fizzled")."""
        with self.installation.database.session() as session:
            self._check_segment(session, tree)
            if offline.expired:
                for step in tree.steps:
                    self._store(session, step, step.fence, Outcome(StepState.CANCELLED), None)
                self._end(session, tree)
                fizzled = {**(tree.root.result or {}), "fizzled": offline.reason}
                session.execute(update(ScriptRun).where(col(ScriptRun.id) == tree.root.id).values(result=fizzled))
                return
            not_before = utcnow() + timedelta(seconds=offline.look_again_in)
            self._next_segment(session, tree, not_before)
        root = tree.root
        self.port.enqueue(root.id, root.segment, root.client_id, delay_seconds=offline.look_again_in)

    def _next_segment(self, session: Session, tree: RunTree, not_before: Any) -> None:
        tree.root.segment += 1
        values = {"segment": tree.root.segment, "not_before": not_before}
        session.execute(update(ScriptRun).where(col(ScriptRun.id) == tree.root.id).values(**values))

    def _check_segment(self, session: Session, tree: RunTree) -> None:
        """Raises SupersededError when another segment of the run has begun."""
        row = session.get(ScriptRun, tree.root.id)
        if row is None or row.segment != tree.root.segment:
            raise SupersededError(f"segment {tree.root.segment} of run {tree.root.id} is over")


def _subject(tree: RunTree, step: RunStep, text: str) -> Any:
    """What a condition looks at while the run is under way; None when there is no such step."""
    subject = parse_subject(text)
    if subject.kind == "children":
        return tree.children_state()
    if subject.kind == "outcome":
        return tree.outcome(step)[subject.name]
    return tree.state_named(subject.name, step)


def _error(outcome: Outcome) -> Mapping[str, Any] | None:
    """The stored form of a step's error, with the fields of the run document."""
    error = outcome.error
    if error is None:
        return None
    return {
        "type": error.type, "code": error.code, "message": str(error), "impact": error.impact,
        "remediation": error.remediation, "critical": error.critical,
    }  # fmt: skip
