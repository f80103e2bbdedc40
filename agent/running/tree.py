"""A run with everything under it, in memory: what is finished, what that means for the steps to come, and the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, select

from agent.errors import NotFound
from agent.functions.base import FinishedStep
from agent.functions.results import labels_in
from agent.model.runs import FINISHED_STEP_STATES, RunState, RunStep, ScriptRun, StepState
from agent.running.conditions import ALL_VERIFIED, worst

#: Step states that stand for "this did not come off".
NOT_DONE = (StepState.FAILED, StepState.UNKNOWN, StepState.CANCELLED, StepState.REBOOT_NEEDED)
_LISTS = {"success": StepState.SUCCEEDED, "failure": StepState.FAILED, "reboot_needed": StepState.REBOOT_NEEDED,
          "unknown": StepState.UNKNOWN}  # fmt: skip


class RunTree:
    """The root run, the runs inside it and all steps in the order of execution."""

    def __init__(self, root: ScriptRun, runs: Iterable[ScriptRun], steps: Iterable[RunStep]) -> None:
        self.root = root
        self.runs = {r.id: r for r in runs}
        self.steps = sorted(steps, key=lambda s: s.ordinal)

    def unfinished(self) -> list[RunStep]:
        """The steps that are not over."""
        return [s for s in self.steps if s.state not in FINISHED_STEP_STATES]

    def path(self, step: RunStep) -> list[ScriptRun]:
        """The runs around a step, the innermost first, the root last."""
        run = self.runs[step.run_id]
        found = [run]
        while run.parent_id is not None:
            run = self.runs[run.parent_id]
            found.append(run)
        return found

    def part(self, step: RunStep) -> str | None:
        """Which part of the wrapper a step belongs to: children, fallback, script, or None for the root's own."""
        path = self.path(step)
        return path[-2].context.get("part") if len(path) > 1 else None

    def steps_under(self, run: ScriptRun) -> list[RunStep]:
        """All steps of a run and of the runs inside it."""
        return [s for s in self.steps if run in self.path(s)]

    def stopped_by(self, step: RunStep) -> RunStep | None:
        """The earlier step whose failure stops this one (`on_failure: stop`), if there is one."""
        around = {r.id for r in self.path(step)}
        for earlier in self.steps:
            if earlier.ordinal >= step.ordinal:
                break
            if earlier.state in NOT_DONE and self._halts(earlier, around):
                return earlier
        return None

    def _halts(self, failed: RunStep, around: set[str]) -> bool:
        """Whether a failed step ends one of these runs: `stop` ends the script, and its own `on_failure` goes on up."""
        policy = failed.options.get("on_failure")
        for run in self.path(failed):
            if policy == "stop" and run.id in around:
                return True
            if policy == "continue":
                return False
            policy = run.context.get("on_failure")
        return False

    def counts(self, step: RunStep) -> bool:
        """Whether what became of a step counts: a failure under `on_failure: continue` does not."""
        policies = (step.options.get("on_failure"), *(r.context.get("on_failure") for r in self.path(step)))
        return not (step.state in NOT_DONE and "continue" in policies)

    def state_named(self, name: str, before: RunStep) -> str | None:
        """State of the step of the wrapper or script with that name, an inner run's included; None if there is none."""
        for run in self.runs.values():
            if run.context.get("step") == name:
                states = {s.state for s in self.steps_under(run) if s.ordinal < before.ordinal}
                return StepState.SKIPPED if states == {StepState.SKIPPED} else worst(states)
        named = [s.state for s in self.steps if s.name == name and s.ordinal < before.ordinal]
        return named[-1] if named else None

    def children_state(self) -> str:
        """succeeded, reboot_needed, unknown or failed: over the client's child scripts."""
        return worst(s.state for s in self.steps if self.part(s) == "children" and self.counts(s))

    def work_state(self, before: RunStep | None = None) -> str:
        """The same over every removal so far, the wrapper's own scripts included; a fallback's steps are not asked."""
        known = [s for s in self.steps if before is None or s.ordinal < before.ordinal]
        return worst(s.state for s in known if s.options.get("in_child") and self.counts(s))

    def outcome(self, before: RunStep | None = None) -> dict[str, Any]:
        """What is permitted now: everything while all removals are verified, else what the fallback says (facts 4)."""
        fallback = self.root.context.get("fallback")
        if fallback is None or self.work_state(before) == StepState.SUCCEEDED:
            return dict(ALL_VERIFIED)
        return dict(fallback["outcome"])

    def finished(self) -> list[FinishedStep]:
        """Steps that are over, as functions and reports see them."""
        return [
            FinishedStep(
                name=s.name, script=self.runs[s.run_id].script, function=s.function, state=StepState(s.state),
                label=s.options.get("label") or s.name, result=s.result or {}, error=s.error,
                in_child=bool(s.options.get("in_child")), finished_at=s.finished_at,
                planned={n: f["value"] for n, f in s.parameters.items() if isinstance(f, dict) and "value" in f},
            )
            for s in self.steps if s.state in FINISHED_STEP_STATES
        ]  # fmt: skip

    def lists(self) -> dict[str, list[str]]:
        """The lists behind @Success@ and @Failure@, and those of reboots needed and of unknown outcomes.

        They are about what child scripts did; where a script that calls none is run by hand, about its own steps. Of a
        person's wrapper they also name what did not come off: it does work of its own, such as the report.
        """
        found: dict[str, list[str]] = {name: [] for name in _LISTS}
        person = self.root.target_kind == "contact"
        alone = not any(s.options.get("in_child") for s in self.steps)
        for step in self.finished():
            for name, state in _LISTS.items():
                if step.in_child or alone or (person and state != StepState.SUCCEEDED):
                    found[name].extend(labels_in(step, state))
        return found

    def state_of(self, run: ScriptRun) -> RunState:
        """The final state of a run whose steps are all over."""
        steps = self.steps_under(run)
        counting = [s for s in steps if self.counts(s)]
        work = [s for s in counting if s.options.get("in_child")] or counting
        if any(s.state == StepState.CANCELLED for s in steps):
            return RunState.CANCELLED
        done = any(s.state == StepState.SUCCEEDED for s in work)
        missing = {s.state for s in counting if s.state in NOT_DONE}
        if not missing:
            # An empty run is a failure, not a success (DESIGN 5.3).
            return RunState.SUCCEEDED if done else RunState.FAILED
        if missing == {StepState.UNKNOWN}:
            return RunState.UNKNOWN
        return RunState.PARTIAL if done or missing == {StepState.REBOOT_NEEDED} else RunState.FAILED


def load_tree(session: Session, root_id: str) -> RunTree:
    """The tree of a root run. Raises NotFound."""
    found = load_trees(session, [root_id])
    if not found:
        raise NotFound(f"there is no run {root_id!r}")
    return found[0]


def load_trees(session: Session, root_ids: Sequence[str]) -> list[RunTree]:
    """The trees of these root runs, in this order; one that is not there is left out."""
    roots = {r.id: r for r in session.exec(select(ScriptRun).where(col(ScriptRun.id).in_(root_ids)))}
    steps: dict[str, list[RunStep]] = {root: [] for root in roots}
    for step in session.exec(select(RunStep).where(col(RunStep.root_id).in_(roots)).order_by(col(RunStep.ordinal))):
        steps[step.root_id].append(step)
    runs = dict(roots)
    missing = {s.run_id for of_root in steps.values() for s in of_root} - set(runs)
    while missing:
        found = session.exec(select(ScriptRun).where(col(ScriptRun.id).in_(missing))).all()
        runs.update({r.id: r for r in found})
        missing = {r.parent_id for r in found if r.parent_id} - set(runs)
    trees = []
    for root_id in root_ids:
        if root_id in roots:
            trees.append(RunTree(roots[root_id], _around(steps[root_id], runs, roots[root_id]), steps[root_id]))
    return trees


def _around(steps: Iterable[RunStep], runs: Mapping[str, ScriptRun], root: ScriptRun) -> list[ScriptRun]:
    """The runs of one tree, the root first."""
    found = {root.id: root}
    for step in steps:
        run: ScriptRun | None = runs[step.run_id]
        while run is not None and run.id not in found:
            found[run.id] = run
            run = runs[run.parent_id] if run.parent_id is not None else None
    return list(found.values())
