"""Rollback of a person's run: the accounts go back to what the run's snapshots kept, system by system.

A system that can be rolled back has a function that takes a snapshot (its result holds `snapshot`), and a step of the script
SCRIPT that restores one. The first snapshot of a system counts: it was taken before the run changed anything there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import Conflict, UsageError
from agent.functions.active_directory import snapshots as active_directory
from agent.functions.contacts import SetStatus
from agent.functions.microsoft365 import grants
from agent.functions.microsoft365 import snapshots as microsoft365
from agent.installation import Installation
from agent.inventory.contacts import same_client
from agent.model.runs import RunStep, ScriptRun, ScriptState, StepState
from agent.running import statements
from agent.running.planning import DraftPlan, StoredPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.verbs import find_run

SCRIPT = "User Offboarding - Restore Contact"
_MAY_BE_DONE = (StepState.SUCCEEDED, StepState.FAILED, StepState.UNKNOWN)


@dataclass(frozen=True)
class System:
    """One system whose snapshots can be restored. `prefix` begins the parameters of SCRIPT that are its own."""

    prefix: str
    #: Function that takes the snapshot, and where its result has the account's id.
    snapshot: str
    account: str
    #: Functions whose changes a snapshot holds, or whose loss `cannot` names.
    restored: frozenset[str]
    cannot: tuple[str, ...]
    #: Functions that destroy nothing, and whose change stays all the same.
    stays: frozenset[str] = frozenset()


SYSTEMS = (
    System(
        "ad", active_directory.TakeSnapshot.name, "object_guid",
        frozenset(
            {
                "ad.disable_account", "ad.set_expiry", "ad.remove_from_groups", "ad.clear_manager",
                "ad.hide_from_address_lists", "ad.set_description", "ad.move_to_ou", "ad.reset_password",
            }
        ),
        active_directory.CANNOT,
    ),
    System(
        "m365", microsoft365.TakeSnapshot.name, "object_id",
        frozenset(
            {
                "m365.disable_sign_in", "m365.reset_password", "m365.revoke_sessions", "m365.remove_mfa_methods",
                "m365.wipe_devices", "m365.retire_devices", "m365.disable_forwarding", "m365.remove_from_groups",
                "m365.remove_directory_roles", "m365.remove_licenses", "m365.clear_manager", "m365.clear_immutable_id",
                "m365.remove_mailbox_permissions_elsewhere", "m365.remove_calendar_permissions_elsewhere",
                "m365.remove_sharepoint_direct_grants", "m365.disable_onedrive_sharing", "m365.delete_user",
            }
        ),
        microsoft365.CANNOT,
        frozenset(
            {"m365.add_to_block_group", "m365.transfer_meetings", "m365.transfer_teams", "m365.set_retention_policy"}
        ),
    ),
)  # fmt: skip
_STAYS = frozenset[str]().union(*(s.stays for s in SYSTEMS))


@dataclass(frozen=True)
class Rollback:
    """What would be put back, as a draft of the run that does it, and what stays as it is."""

    run_id: str
    client_id: int
    #: The accounts as the snapshots name them, and when the first was taken (ISO 8601, UTC).
    account: str
    taken_at: str
    cannot_be_restored: tuple[str, ...]
    draft: DraftPlan


def draft_rollback(installation: Installation, given: str, *, actor: str, reason: str) -> Rollback:
    """What rolling a run back would do. Changes nothing.

    Raises NotFound; UsageError without a reason; Conflict for a run that is not over, is about no person, kept no snapshot
    or those of several accounts, for a person who belongs to another client by now, or while another run on the person is
    under way.
    """
    if not reason.strip():
        raise UsageError("a rollback needs a reason: --reason TEXT")
    with installation.database.reading() as session:
        run = find_run(session, given)
        if run.target_kind == "contact":
            same_client(session, run.target_id, run.client_id)
        steps = _steps(session, run)
        found = _snapshots(run, steps)
        parameters: dict[str, str] = {}
        for system, step in found.items():
            kept = _kept(session, run, system, step)
            parameters |= {f"{system.prefix}_account": kept["id"], f"{system.prefix}_snapshot": kept["snapshot"]}
        parameters |= _record(run, steps)
        of_target = statements.active_runs(session, [(run.target_kind, run.target_id)])
        for other in of_target.get((run.target_kind, run.target_id), ()):
            raise Conflict(f"another run on {run.target_name} is {other.state} ({other.id}): wait for it, or cancel it")
    request = RunRequest(SCRIPT, run.target_kind, run.target_id, parameters)
    draft = draft_plan(installation, [request], PlanOrigin(actor, reason=reason))
    if not draft.targets:
        raise Conflict(f"{run.target_name} cannot be restored: {draft.skipped[0]['reason']}")
    taken = [(s.result or {})["snapshot"] for s in found.values()]
    return Rollback(
        run.id, run.client_id, " and ".join(t["account"] for t in taken), min(t["taken_at"] for t in taken),
        _lost(steps, run, found, parameters.get("contact_status")), draft,
    )  # fmt: skip


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


def _snapshots(run: ScriptRun, steps: Sequence[RunStep]) -> dict[System, RunStep]:
    """The step of each system whose snapshot counts: the first of the run, which was taken before anything changed."""
    if run.target_kind != "contact":
        raise Conflict(f"run {run.id} is about a {run.target_kind}: only the run of a person can be rolled back")
    if run.finished_at is None:
        raise Conflict(f"run {run.id} is {run.state}: it is not over yet")
    chosen: dict[System, RunStep] = {}
    for system in SYSTEMS:
        found = [s for s in steps if s.function == system.snapshot and (s.result or {}).get("snapshot")]
        if len({(s.result or {})[system.account] for s in found}) > 1:
            raise Conflict(
                f"run {run.id} kept snapshots of several accounts: start `exeunt script run` with {SCRIPT!r} for each of them"
            )
        if found:
            chosen[system] = found[0]
    if not chosen:
        names = " or ".join(s.snapshot for s in SYSTEMS)
        raise Conflict(
            f"run {run.id} kept no snapshot ({names}), so nothing of it can be put back by itself: "
            "look at `exeunt run report` for what it changed"
        )
    return chosen


def _kept(session: Session, run: ScriptRun, system: System, step: RunStep) -> dict[str, str]:
    """The account's id, and the snapshot with what later steps wrote down before they took it away."""
    result = step.result or {}
    snapshot: dict[str, Any] = dict(result["snapshot"])
    if system.snapshot == microsoft365.TakeSnapshot.name:
        wanted = (
            col(ScriptState.script) == run.script, col(ScriptState.target_kind) == run.target_kind,
            col(ScriptState.target_id) == run.target_id, col(ScriptState.variable) == grants.variable(run.id),
        )  # fmt: skip
        snapshot["grants"] = json.loads(session.exec(select(ScriptState.value).where(*wanted)).first() or "[]")
    return {"id": str(result[system.account]), "snapshot": json.dumps(snapshot, ensure_ascii=False)}


def _record(run: ScriptRun, steps: Sequence[RunStep]) -> dict[str, str]:
    """The status that the person had when the run began; nothing for a run that did not change it."""
    changed = (s.result or {} for s in steps if s.function == SetStatus.name and s.state == StepState.SUCCEEDED)
    before = next((str(r["old"]) for r in changed if r.get("old")), None)
    return {} if before is None else {"contact_status": before, "contact_run": run.id}


def _lost(
    steps: Sequence[RunStep], run: ScriptRun, found: dict[System, RunStep], status: str | None
) -> tuple[str, ...]:  # fmt: skip
    """What the restoration does not touch, in words."""
    restored = frozenset[str]().union(*(s.restored for s in found))
    done = [s for s in steps if s.state in _MAY_BE_DONE and s.function not in restored]
    others = [
        f"{step.name} ({step.function or 'a script'}): done or tried by this run, and not part of the snapshot"
        for step in done
        if step.options.get("destructive") or step.function in _STAYS
    ]
    again = [f"what run {run.retry_of} changed before this repetition of it"] if run.retry_of else []
    record = (
        f"the record of {run.target_name}: set status and dates back yourself, or the monitor offboards again"
        if status is None
        else f"the record of {run.target_name} but the status, which becomes {status}: set the dates back yourself"
    )
    return (*(c for system in found for c in system.cannot), *again, *others, record)
