"""The interpreter: executes a stored plan step by step. Each transition is one transaction in our own tables.

It may be started again at any time by anybody: finished steps are left alone, a step that was under way is verified
before anything is repeated, and who works under an old fencing number or segment can store nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import update
from sqlmodel import Session, col

from agent import audit
from agent.content.references import parse_subject
from agent.errors import ExeuntError
from agent.functions.base import Outcome
from agent.functions.contacts import refused
from agent.installation import Installation
from agent.inventory.retention import deletion_refusal
from agent.model.base import utcnow
from agent.model.runs import FINISHED_STEP_STATES, RunState, RunStep, ScriptRun, StepState
from agent.running import statements
from agent.running.acting import Attempt, attempt
from agent.running.conditions import holds
from agent.running.context import Machine, RunContext
from agent.running.engine import EnginePort
from agent.running.offline import Offline, check_online
from agent.running.targets import load_target
from agent.running.tree import RunTree, load_tree

log = structlog.get_logger()


class SupersededError(ExeuntError):
    """Another worker has taken this segment over; what this one found out is not stored."""


@dataclass(frozen=True)
class _Taken:
    """A step that this worker may now act on."""

    step: RunStep
    #: It was under way when its worker ended, so it may have been done.
    interrupted: bool


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
        taken = self._advance(tree)
        while taken is not None:
            context = RunContext(self.installation, tree, taken.step, machine)
            refusal = self._refusal(taken.step, tree)
            made = refusal or attempt(context, taken.step, interrupted=taken.interrupted)
            if made.retry_in is not None:
                self._retry_later(tree, taken.step, made.outcome, context, made.retry_in)
                return
            taken = self._advance(tree, taken.step, made.outcome, context)

    def _refusal(self, step: RunStep, tree: RunTree) -> Attempt | None:
        """A step that deletes an account is refused while a hold, a missing backup or a retention stands.

        Asked right before it acts, since all of these may have changed after the plan was made.
        """
        if not step.options.get("deletes_account"):
            return None
        with self.installation.database.reading() as session:
            refusal = deletion_refusal(session, tree.root.target_id)
        return Attempt(Outcome.failed(refused(refusal))) if refusal is not None else None

    def _advance(
        self, tree: RunTree, done: RunStep | None = None, outcome: Outcome | None = None, context: RunContext | None = None
    ) -> _Taken | None:  # fmt: skip
        """In one transaction: store what became of a step, and take the next one. None when the run is over.

        So a step's result, and the claim of the next step, are on disk before that one acts.
        """
        with self.installation.database.session() as session:
            cancelled = self._check_segment(session, tree)
            if done is not None and outcome is not None:
                self._finish(session, tree, done, outcome, context)
            for step in tree.steps:
                if step.state in FINISHED_STEP_STATES:
                    continue
                if cancelled:
                    self._cancel(session, tree)
                    return None
                reason = self._not_applicable(tree, step)
                if reason is None:
                    return self._claim(session, tree, step)
                self._finish(session, tree, step, Outcome.skipped(reason), None)
            self._end(session, tree)
        return None

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

    def _cancel(self, session: Session, tree: RunTree) -> None:
        """End the run at this step's boundary, because somebody asked for it."""
        for step in tree.steps:
            if step.state not in FINISHED_STEP_STATES:
                self._store(session, step, Outcome(StepState.CANCELLED), None)
        self._end(session, tree)

    def _claim(self, session: Session, tree: RunTree, step: RunStep) -> _Taken:
        """Take the step under the next fencing number. Recorded before anything is done on the target."""
        interrupted = step.state == StepState.RUNNING or bool((step.result or {}).get("interrupted"))
        now = utcnow()
        values = {
            "state": StepState.RUNNING, "fence": step.fence + 1, "attempts": step.attempts + 1, "not_before": None,
            "started_at": step.started_at or now,
        }  # fmt: skip
        if not statements.take_step(session, step.id, step.fence, values):
            raise SupersededError(f"step {step.name!r} was taken by another worker")
        for name, value in values.items():
            setattr(step, name, value)
        for run in tree.path(step):
            if run.state in (RunState.PLANNED, RunState.QUEUED):
                self._start(session, run, now)
        return _Taken(step, interrupted)

    def _start(self, session: Session, run: ScriptRun, now: Any) -> None:
        run.state, run.started_at = RunState.RUNNING, run.started_at or now
        statements.run_started(session, run.id, {"state": run.state, "started_at": run.started_at})
        if run.parent_id is None:
            audit.record(
                session, actor=run.started_by, action="run.start", object_kind="run", object_id=run.id,
                client_id=run.client_id, details={"script": run.script, "target": run.target_name},
            )  # fmt: skip

    def _finish(
        self, session: Session, tree: RunTree, step: RunStep, outcome: Outcome, context: RunContext | None
    ) -> None:
        """Store what became of a step, and of every inner run that ends with it."""
        self._store(session, step, outcome, context)
        if context is not None and context.bodies and tree.root.target_kind == "computer":
            statements.computer_seen(session, tree.root.target_id, utcnow())
        for run in tree.path(step)[:-1]:
            if all(s.state in FINISHED_STEP_STATES for s in tree.steps_under(run)):
                self._end_inner(session, tree, run)

    def _store(self, session: Session, step: RunStep, outcome: Outcome, context: RunContext | None) -> None:
        values: dict[str, Any] = {
            "state": outcome.state, "finished_at": utcnow(), "result": dict(outcome.result) or None,
            "error": _error(outcome), "output": {"bodies": context.bodies} if context and context.bodies else None,
        }  # fmt: skip
        if not statements.store_step(session, step.id, step.fence, values):
            raise SupersededError(f"step {step.name!r} was taken over by another worker")
        for name, value in values.items():
            setattr(step, name, value)

    def _end_inner(self, session: Session, tree: RunTree, run: ScriptRun) -> None:
        skipped = all(s.state == StepState.SKIPPED for s in tree.steps_under(run))
        state = RunState.CANCELLED if skipped else tree.state_of(run)
        run.state, run.finished_at = state, utcnow()
        result = {"skipped": True} if skipped else None
        values = {"state": run.state, "finished_at": run.finished_at, "result": result}
        statements.run_ended(session, run.id, values)

    def _end(self, session: Session, tree: RunTree) -> None:
        """Store the end of the whole run and what it came to."""
        root, now = tree.root, utcnow()
        for run in tree.runs.values():
            if run is not root and run.finished_at is None:
                self._end_inner(session, tree, run)
        result: dict[str, Any] = {**tree.lists(), "outcome": tree.outcome(), "children_state": tree.children_state()}
        root.state, root.finished_at, root.result = tree.state_of(root), now, result
        statements.run_ended(session, root.id, {"state": root.state, "finished_at": now, "result": result})
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
            self._store(session, step, outcome, context)
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
                    self._store(session, step, Outcome(StepState.CANCELLED), None)
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

    def _check_segment(self, session: Session, tree: RunTree) -> bool:
        """Whether the run is to be cancelled. Raises SupersededError when another segment of it has begun."""
        root = tree.root
        row = statements.segment_of(session, root.id)
        if row is None or row["segment"] != root.segment:
            raise SupersededError(f"segment {root.segment} of run {root.id} is over")
        root.cancel_requested_at, root.cancelled_by = row["cancel_requested_at"], row["cancelled_by"]
        return root.cancel_requested_at is not None


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
