"""The ticket of an offboarding is closed once nothing is left: all tasks are done, and everything is back."""

from __future__ import annotations

from sqlalchemy import String, cast, exists
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from agent.functions.exit_people import WITH_THE_LEAVER
from agent.installation import Installation
from agent.model.administration import AuditEntry
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.places import Equipment
from agent.model.runs import RunState, ScriptRun
from agent.model.tickets import Ticket
from agent.reporting.exit_report import ACTION
from agent.services import tickets

_ACTOR = "exit report"
_TOLD = "All tasks of this offboarding are done, and everything is back."


def close_settled(installation: Installation, *, limit: int = 100) -> list[int]:
    """Close the tickets of people whose last offboarding succeeded, is reported, and left nothing open; their ids.

    Meant to be called regularly. A ticket of a client's own system is that system's.
    """
    with installation.database.session() as session:
        settled = _settled(session, limit)
        for ticket_id in settled:
            tickets.close(session, ticket_id, author=_ACTOR, comment=_TOLD)
    return settled


def _settled(session: Session, limit: int) -> list[int]:
    later = aliased(ContactOffboarding)
    mine = col(ContactOffboarding.contact_id)
    query = (
        select(Ticket.id)
        .join(ContactOffboarding, mine == col(Ticket.contact_id))
        .join(ScriptRun, col(ScriptRun.id) == col(ContactOffboarding.run_id))
        .where(
            col(Ticket.closed_at).is_(None),
            Ticket.key == "offboarding:contact:" + cast(mine, String),
            Ticket.client_id == ContactOffboarding.client_id,
            ScriptRun.state == RunState.SUCCEEDED,
            ~exists().where(later.contact_id == mine, later.started_at > ContactOffboarding.started_at),  # type: ignore[operator, arg-type]
            ~exists().where(col(ManualTask.contact_id) == mine, col(ManualTask.state) == "open"),
            ~exists().where(col(Equipment.contact_id) == mine, col(Equipment.state).in_(WITH_THE_LEAVER)),
            exists().where(
                col(AuditEntry.object_kind) == "run",
                col(AuditEntry.object_id) == col(ScriptRun.id),
                col(AuditEntry.action) == ACTION,
            ),
        )
        .order_by(col(Ticket.id))
        .limit(limit)
    )
    return [number for number in session.exec(query) if number is not None]
