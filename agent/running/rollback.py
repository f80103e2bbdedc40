"""Rollback of a person's run: the account in Active Directory goes back to what the run's snapshot kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import Conflict, UsageError
from agent.functions.active_directory.snapshots import CANNOT, TakeSnapshot
from agent.installation import Installation
from agent.model.runs import RunStep, ScriptRun, StepState
from agent.running import statements
from agent.running.planning import DraftPlan, StoredPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.verbs import find_run

SCRIPT = "Active Directory - Restore Contact"
#: Functions whose changes a snapshot holds; that of the password is named with what cannot be restored.
RESTORED = frozenset(
    {
        "ad.disable_account", "ad.set_expiry", "ad.remove_from_groups", "ad.clear_manager", "ad.hide_from_address_lists",
        "ad.set_description", "ad.move_to_ou", "ad.reset_password",
    }
)  # fmt: skip
_MAY_BE_DONE = (StepState.SUCCEEDED, StepState.FAILED, StepState.UNKNOWN)


@dataclass(frozen=True)
class Rollback:
    """What would be put back, as a draft of the run that does it, and what stays as it is."""

    run_id: str
    client_id: int
    #: Distinguished name of the account, and when its snapshot was taken (ISO 8601, UTC).
    account: str
    taken_at: str
    cannot_be_restored: tuple[str, ...]
    draft: DraftPlan


def draft_rollback(installation: Installation, given: str, *, actor: str, reason: str) -> Rollback:
    """What rolling a run back would do. Changes nothing.

    Raises NotFound; UsageError without a reason; Conflict for a run that is not over, is about no person, kept no snapshot
    or those of several accounts, or while another run on the person is under way.
    """
    if not reason.strip():
        raise UsageError("a rollback needs a reason: --reason TEXT")
    with installation.database.reading() as session:
        run = find_run(session, given)
        steps = _steps(session, run)
        step = _snapshot_step(run, steps)
        for other in statements.active_runs(session, run.target_kind, run.target_id):
            raise Conflict(f"another run on {run.target_name} is {other.state} ({other.id}): wait for it, or cancel it")
    result = step.result or {}
    parameters = {"Account": result["object_guid"], "Snapshot": json.dumps(result["snapshot"], ensure_ascii=False)}
    request = RunRequest(SCRIPT, run.target_kind, run.target_id, parameters)
    draft = draft_plan(installation, [request], PlanOrigin(actor, reason=reason))
    if not draft.targets:
        raise Conflict(f"{run.target_name} cannot be restored: {draft.skipped[0]['reason']}")
    return Rollback(
        run.id, run.client_id, result["snapshot"]["account"], result["snapshot"]["taken_at"], _lost(steps, run), draft
    )


def store_rollback(installation: Installation, rollback: Rollback, *, actor: str, reason: str) -> StoredPlan:
    """Store the draft; `verbs.release` starts it. The audit trail names the run that is rolled back."""
    stored = store_plan(installation, rollback.draft)
    with installation.database.session() as session:
        audit.record(
            session, actor=actor, action="run.rollback", object_kind="run", object_id=rollback.run_id,
            client_id=rollback.client_id, details={"reason": reason, "plan": stored.id, "account": rollback.account},
        )  # fmt: skip
    return stored


def _steps(session: Session, run: ScriptRun) -> Sequence[RunStep]:
    return session.exec(select(RunStep).where(RunStep.root_id == run.id).order_by(col(RunStep.ordinal))).all()


def _snapshot_step(run: ScriptRun, steps: Sequence[RunStep]) -> RunStep:
    """The step whose snapshot counts: the first of the run, which was taken before anything changed."""
    if run.target_kind != "contact":
        raise Conflict(f"run {run.id} is about a {run.target_kind}: only the run of a person can be rolled back")
    if run.finished_at is None:
        raise Conflict(f"run {run.id} is {run.state}: it is not over yet")
    found = [s for s in steps if s.function == TakeSnapshot.name and (s.result or {}).get("snapshot")]
    if not found:
        raise Conflict(
            f"run {run.id} kept no snapshot ({TakeSnapshot.name}), so nothing of it can be put back by itself: "
            "look at `exeunt run report` for what it changed"
        )
    if len({(s.result or {})["object_guid"] for s in found}) > 1:
        raise Conflict(
            f"run {run.id} kept snapshots of several accounts: start `exeunt script run` with {SCRIPT!r} for each of them"
        )
    return found[0]


def _lost(steps: Sequence[RunStep], run: ScriptRun) -> tuple[str, ...]:
    """What the restoration does not touch, in words."""
    others = [
        f"{step.name} ({step.function or 'a script'}): done or tried by this run, and not part of the snapshot"
        for step in steps
        if step.state in _MAY_BE_DONE and step.options.get("destructive") and step.function not in RESTORED
    ]
    again = [f"what run {run.retry_of} changed before this repetition of it"] if run.retry_of else []
    record = f"the record of {run.target_name}: set status and dates back yourself, or the monitor offboards again"
    return (*CANNOT, *again, *others, record)
