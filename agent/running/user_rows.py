"""The record of an offboarding of a person follows its run."""

from __future__ import annotations

from sqlmodel import Session

from agent.content.definitions import ScriptDefinition
from agent.inventory.lookup import get
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.places import Contact
from agent.model.runs import ScriptRun
from agent.running.user_inputs import pending, starts_offboarding


def note_started(session: Session, definition: ScriptDefinition, root: ScriptRun, actor: str) -> None:
    """Tie a run that is about to be stored to the person's offboarding, so that no monitor starts another.

    In the transaction that stores the plan, before the run's row is written: its context gets the record's id.
    """
    if root.target_kind != "contact" or not starts_offboarding(definition):
        return
    contact = get(session, Contact, root.target_id)
    inputs = root.context["inputs"]
    row = _row(session, root) or ContactOffboarding(
        contact_id=root.target_id, client_id=root.client_id, requested_by=actor, inputs={},
        reference=inputs["reference"]["value"] or None,
    )  # fmt: skip
    # Starting it puts it on the list again.
    row.removed_at = row.removed_by = None
    row.plan_id, row.run_id, row.started_at = root.plan_id, root.id, utcnow()
    row.termination_date, row.resolved = contact.termination_date, inputs
    row.closed_at = row.retention_until = row.forwarding_until = None
    row.delete_after_retention = inputs["delete_after_retention"]["value"] == "1"
    session.add(row)
    session.flush()
    root.context = {**root.context, "offboarding": row.id}


def _row(session: Session, root: ScriptRun) -> ContactOffboarding | None:
    """The record that a run belongs to: the one it was planned for, else the one that waits."""
    named = root.context.get("offboarding")
    return session.get(ContactOffboarding, named) if named is not None else pending(session, root.target_id)
