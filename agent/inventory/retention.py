"""When the account of a person may be deleted: no legal hold, a good backup, the retention over. Nothing overrides it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.places import Contact
from agent.model.runs import RunState, RunStep, ScriptRun, StepState


@dataclass(frozen=True)
class DeletionRefusal:
    """Why an account must not be deleted. `code`: legal_hold, not_offboarded, retention, backup."""

    code: str
    reason: str
    remediation: str


def deletion_refusal(session: Session, contact_id: int, *, now: datetime | None = None) -> DeletionRefusal | None:
    """Why the person's accounts must not be deleted now; None when they may be.

    Asked when a deletion is planned, and again right before each step that deletes.
    """
    contact = session.get(Contact, contact_id)
    if contact is None:
        return DeletionRefusal("not_offboarded", "the contact does not exist any more", "look at the audit trail")
    if contact.legal_hold:
        return DeletionRefusal(
            "legal_hold", f"{contact.name} is under a legal hold",
            "when the hold is lifted: exeunt inventory set --contact ... legal_hold=0",
        )  # fmt: skip
    if contact.status in ("Active", "On Leave"):
        return DeletionRefusal(
            "not_offboarded", f"{contact.name} is {contact.status}", "a person who came back is offboarded anew"
        )
    row = last_offboarding(session, contact_id)
    run = session.get(ScriptRun, row.run_id) if row is not None and row.run_id else None
    if row is None or run is None or row.closed_at is None or row.retention_until is None:
        return DeletionRefusal(
            "not_offboarded", f"no offboarding of {contact.name} is over", "offboard the person first"
        )
    if run.state not in (RunState.SUCCEEDED, RunState.PARTIAL):
        return DeletionRefusal(
            "not_offboarded", f"the offboarding of {contact.name} is {run.state}", f"exeunt offboard run-now {row.id}"
        )
    if row.retention_until > (now or utcnow()):
        return DeletionRefusal(
            "retention", f"the retention lasts until {row.retention_until:%Y-%m-%d %H:%M} UTC", "wait until it is over"
        )
    return _backup(session, contact_id, run)


def last_offboarding(session: Session, contact_id: int) -> ContactOffboarding | None:
    """The offboarding of a person that was started last."""
    query = select(ContactOffboarding).where(
        ContactOffboarding.contact_id == contact_id, col(ContactOffboarding.run_id).is_not(None)
    )
    return session.exec(query.order_by(col(ContactOffboarding.started_at).desc())).first()


def backed_up(session: Session, root_id: str) -> bool:
    """Whether a run made a backup, and none of its backups failed."""
    steps = _backup_steps(session, root_id)
    good = [s for s in steps if s.state == StepState.SUCCEEDED]
    return bool(good) and all(s.state in (StepState.SUCCEEDED, StepState.SKIPPED) for s in steps)


def _backup_steps(session: Session, root_id: str) -> list[RunStep]:
    found = session.exec(select(RunStep).where(RunStep.root_id == root_id))
    return [step for step in found if step.options.get("backs_up")]


def failed_backup(session: Session, contact_id: int) -> DeletionRefusal | None:
    """What the backups of the person's last offboarding still want: one that failed, or a task that waits; None: nothing."""
    row = last_offboarding(session, contact_id)
    steps = _backup_steps(session, row.run_id) if row is not None and row.run_id else []
    return _unfinished(_backup_tasks(session, contact_id), steps)


def _backup_tasks(session: Session, contact_id: int) -> list[ManualTask]:
    query = select(ManualTask).where(ManualTask.contact_id == contact_id, col(ManualTask.blocks_deletion))
    return list(session.exec(query))


def _backup(session: Session, contact_id: int, run: ScriptRun) -> DeletionRefusal | None:
    """A backup must have succeeded: in the run or its repetitions, or as a task that somebody has done."""
    tasks, steps = _backup_tasks(session, contact_id), _backup_steps(session, run.id)
    refusal = _unfinished(tasks, steps)
    if refusal is not None:
        return refusal
    if not any(t.state == "done" for t in tasks) and not any(s.state == StepState.SUCCEEDED for s in steps):
        return DeletionRefusal(
            "backup", "there is no backup of the person's data",
            "back it up by hand and say so: exeunt task add --backup, then exeunt task done",
        )  # fmt: skip
    return None


def _unfinished(tasks: list[ManualTask], steps: list[RunStep]) -> DeletionRefusal | None:
    waiting = [t.title for t in tasks if t.state == "open"]
    if waiting:
        return DeletionRefusal("backup", f"a task must be done first: {waiting[0]}", "exeunt task done ID --note TEXT")
    failed = [s for s in steps if s.state not in (StepState.SUCCEEDED, StepState.SKIPPED)]
    if failed and not any(t.state == "done" for t in tasks):
        return DeletionRefusal(
            "backup", f"the backup {failed[0].name!r} is {failed[0].state}",
            "mend its reason and run the offboarding again, or back up by hand: exeunt task add --backup",
        )  # fmt: skip
    return None
