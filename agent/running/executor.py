"""The interpreter: executes a stored plan step by step. Each transition is one transaction in our own tables.

It may be started again at any time by anybody: finished steps are left alone, a step that was under way is verified
before anything is repeated, and who works under an old fencing number or segment can store nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import RowMapping

from agent import audit
from agent.content.references import parse_subject
from agent.functions.base import Outcome
from agent.functions.contacts import refused
from agent.installation import Installation
from agent.inventory.retention import deletion_refusal
from agent.model.administration import Credential
from agent.model.base import utcnow
from agent.model.runs import FINISHED_STEP_STATES, RunState, RunStep, ScriptRun, StepState
from agent.running import statements
from agent.running.acting import Attempt, attempt
from agent.running.commits import Changes, GroupCommit, SupersededError
from agent.running.conditions import holds
from agent.running.context import Machine, RunContext
from agent.running.engine import EnginePort
from agent.running.last_look import left_out
from agent.running.offline import Offline, check_online
from agent.running.security_phase import done_at_once
from agent.running.targets import Target, load_target
from agent.running.tree import RunTree, load_tree

log = structlog.get_logger()


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
        self._commits = GroupCommit(installation.database)

    def execute(self, run_id: str, segment: int) -> None:
        """Execute a segment: to the end of the run, or to a wait, which queues the next segment.

        Nothing happens when the run is over or at another segment.
        """
        with self.installation.database.reading() as session:
            tree = load_tree(session, run_id)
            root = tree.root
            if root.segment != segment or root.state not in (RunState.QUEUED, RunState.RUNNING):
                return
            target = load_target(session, root.target_kind, root.target_id)
        self.execute_loaded(tree, target)

    def execute_loaded(self, tree: RunTree, target: Target, credentials_of: Sequence[Credential] | None = None) -> None:
        """The same for the present segment of a run that was loaded just now, with its target and the credentials of
        its client; None: they are asked for.
        """
        with structlog.contextvars.bound_contextvars(run=tree.root.id, segment=tree.root.segment):
            try:
                self._execute(tree, Machine(self.installation, target, credentials_of))
            except SupersededError as error:
                log.warning("segment_superseded", reason=str(error))

    def _execute(self, tree: RunTree, machine: Machine) -> None:
        if all(s.state == StepState.WAITING and s.attempts == 0 for s in tree.steps):
            reason = left_out(self.installation, tree.root, machine.target)
            if reason is not None:
                self._leave_out(tree, reason)
                return
            offline = check_online(self.installation, tree.root, machine.target)
            if offline is not None:
                self._wait_for_computer(tree, offline)
                return
        try:
            self._steps(tree, machine)
        finally:
            machine.close()

    def _steps(self, tree: RunTree, machine: Machine) -> None:
        # What was loaded with the run is as fresh as the first step needs it; later ones look again.
        known: Target | None = machine.target
        taken = self._advance(tree)
        while taken is not None:
            context = RunContext(self.installation, tree, taken.step, machine, known)
            refusal = self._refusal(taken.step, tree)
            made = refusal or attempt(
                context, taken.step, interrupted=taken.interrupted, earlier=self._earlier(taken.step, tree)
            )
            if made.retry_in is not None:
                self._retry_later(tree, taken.step, made.outcome, context, made.retry_in)
                return
            known, taken = None, self._advance(tree, taken.step, made.outcome, context)
        log.info("run_finished", state=tree.root.state, target=tree.root.target_name)

    def _refusal(self, step: RunStep, tree: RunTree) -> Attempt | None:
        """A step that deletes an account is refused while a hold, a missing backup or a retention stands.

        Asked right before it acts, since all of these may have changed after the plan was made.
        """
        if not step.options.get("deletes_account"):
            return None
        with self.installation.database.reading() as session:
            refusal = deletion_refusal(session, tree.root.target_id)
        return Attempt(Outcome.failed(refused(refusal))) if refusal is not None else None

    def _earlier(self, step: RunStep, tree: RunTree) -> RunStep | None:
        """The same step of the security phase that went before this offboarding, if it succeeded."""
        if tree.root.target_kind != "contact" or not step.options.get("in_child"):
            return None
        with self.installation.database.reading() as session:
            return done_at_once(session, tree.root, step)

    def _advance(
        self, tree: RunTree, done: RunStep | None = None, outcome: Outcome | None = None, context: RunContext | None = None
    ) -> _Taken | None:  # fmt: skip
        """In one transaction: store what became of a step, and take the next one. None when the run is over.

        So a step's result, and the claim of the next step, are on disk before that one acts.
        """

        def decide(row: RowMapping, changes: Changes) -> _Taken | None:
            cancelled = self._asked_to_cancel(tree, row)
            if tree.root.not_before is not None:
                # It does not wait any more: from now on it counts as being executed.
                tree.root.not_before = None
                changes.change("run", tree.root.id, {"not_before": None})
            if done is not None and outcome is not None:
                self._finish(changes, tree, done, outcome, context)
            for step in tree.unfinished():
                if cancelled:
                    self._cancel(changes, tree)
                    return None
                reason = self._not_applicable(tree, step)
                if reason is None:
                    return self._claim(changes, tree, step)
                self._finish(changes, tree, step, Outcome.skipped(reason), None)
            self._end(changes, tree)
            return None

        taken: _Taken | None = self._commits.make(tree, decide, first=done is None)
        return taken

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

    def _asked_to_cancel(self, tree: RunTree, row: RowMapping) -> bool:
        tree.root.cancel_requested_at, tree.root.cancelled_by = row["cancel_requested_at"], row["cancelled_by"]
        return tree.root.cancel_requested_at is not None

    def _cancel(self, changes: Changes, tree: RunTree) -> None:
        """End the run at this step's boundary, because somebody asked for it."""
        for step in tree.unfinished():
            self._store(changes, step, Outcome(StepState.CANCELLED), None)
        self._end(changes, tree)

    def _claim(self, changes: Changes, tree: RunTree, step: RunStep) -> _Taken:
        """Take the step under the next fencing number. Recorded before anything is done on the target."""
        interrupted = step.state == StepState.RUNNING or bool((step.result or {}).get("interrupted"))
        now = utcnow()
        _set(changes, "step", step, {
            "state": StepState.RUNNING, "fence": step.fence + 1, "attempts": step.attempts + 1, "not_before": None,
            "started_at": step.started_at or now,
        })  # fmt: skip
        for run in tree.path(step):
            if run.state in (RunState.PLANNED, RunState.QUEUED):
                self._start(changes, run, now)
        return _Taken(step, interrupted)

    def _start(self, changes: Changes, run: ScriptRun, now: datetime) -> None:
        _set(changes, "run", run, {"state": RunState.RUNNING, "started_at": run.started_at or now})
        if run.parent_id is None:
            details = {"script": run.script, "target": run.target_name}
            changes.record(run.started_by, audit.Act("run.start", "run", run.id, run.client_id, details))

    def _finish(
        self, changes: Changes, tree: RunTree, step: RunStep, outcome: Outcome, context: RunContext | None
    ) -> None:
        """Store what became of a step, and of every inner run that ends with it."""
        self._store(changes, step, outcome, context)
        if context is not None and context.bodies and tree.root.target_kind == "computer":
            changes.seen[tree.root.target_id] = utcnow()
        for run in tree.path(step)[:-1]:
            if all(s.state in FINISHED_STEP_STATES for s in tree.steps_under(run)):
                self._end_inner(changes, tree, run)

    def _store(self, changes: Changes, step: RunStep, outcome: Outcome, context: RunContext | None) -> None:
        _set(changes, "step", step, {
            "state": outcome.state, "finished_at": utcnow(), "result": dict(outcome.result) or None,
            "error": _error(outcome), "output": {"bodies": context.bodies} if context and context.bodies else None,
        })  # fmt: skip

    def _end_inner(self, changes: Changes, tree: RunTree, run: ScriptRun) -> None:
        skipped = all(s.state == StepState.SKIPPED for s in tree.steps_under(run))
        state = RunState.CANCELLED if skipped else tree.state_of(run)
        result = {"skipped": True} if skipped else None
        _set(changes, "run", run, {"state": state, "finished_at": utcnow(), "result": result})

    def _end(self, changes: Changes, tree: RunTree, **more: Any) -> None:
        """Store the end of the whole run and what it came to, with `more` in its result."""
        root, lists = tree.root, tree.lists()
        for run in tree.runs.values():
            if run is not root and run.finished_at is None:
                self._end_inner(changes, tree, run)
        state = tree.state_of(root)
        result = {**lists, "outcome": tree.outcome(), "children_state": tree.children_state(), **more}
        _set(changes, "run", root, {"state": state, "finished_at": utcnow(), "result": result})
        act = audit.Act("run.finish", "run", root.id, root.client_id, {"state": state, **lists})
        changes.record(root.cancelled_by or root.started_by, act)

    def _retry_later(self, tree: RunTree, step: RunStep, outcome: Outcome, context: RunContext, seconds: float) -> None:
        """Store why the attempt failed, end the segment, and queue the next one with a delay."""

        def decide(row: RowMapping, changes: Changes) -> None:
            not_before = utcnow() + timedelta(seconds=seconds)
            self._asked_to_cancel(tree, row)
            self._store(changes, step, outcome, context)
            _set(changes, "step", step, {"state": StepState.WAITING, "finished_at": None, "not_before": not_before})
            self._next_segment(changes, tree, not_before)

        self._commits.make(tree, decide)
        self.port.enqueue(tree.root.id, tree.root.segment, tree.root.client_id, delay_seconds=seconds)

    def _wait_for_computer(self, tree: RunTree, offline: Offline) -> None:
        """The computer is offline and nothing was started: look again later, or give up ("fizzled")."""

        def decide(row: RowMapping, changes: Changes) -> None:
            if self._asked_to_cancel(tree, row):
                self._cancel(changes, tree)
            elif offline.expired:
                for step in tree.steps:
                    self._store(changes, step, Outcome(StepState.CANCELLED), None)
                self._end(changes, tree, fizzled=offline.reason)
            else:
                self._next_segment(changes, tree, utcnow() + timedelta(seconds=offline.look_again_in))

        self._commits.make(tree, decide, first=True)
        root = tree.root
        if root.finished_at is None:
            self.port.enqueue(root.id, root.segment, root.client_id, delay_seconds=offline.look_again_in)

    def _leave_out(self, tree: RunTree, reason: str) -> None:
        """Something was changed about the place after the plan: end the run before its first step."""

        def decide(row: RowMapping, changes: Changes) -> None:
            if self._asked_to_cancel(tree, row):
                self._cancel(changes, tree)
                return
            root = tree.root
            for step in tree.steps:
                self._store(changes, step, Outcome(StepState.CANCELLED), None)
            act = audit.Act("run.leave_out", "run", root.id, root.client_id, {"reason": reason})
            changes.record(root.started_by, act)
            self._end(changes, tree, left_out=reason)

        self._commits.make(tree, decide, first=True)

    def _next_segment(self, changes: Changes, tree: RunTree, not_before: datetime) -> None:
        _set(changes, "run", tree.root, {"segment": tree.root.segment + 1, "not_before": not_before})


def _set(changes: Changes, kind: statements.Kind, row: ScriptRun | RunStep, values: dict[str, Any]) -> None:
    """Change columns of a row, in memory and in the database."""
    for name, value in values.items():
        setattr(row, name, value)
    changes.change(kind, row.id, values)


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
