"""What stands out now: running, held, failed, planned, flagged."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from pydantic import BaseModel
from sqlmodel import Session, col, func, select

from agent.inventory.flags import standing_flags
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.runs import ACTIVE_RUN_STATES, RunState, ScriptRun
from agent.model.tickets import Ticket
from agent.web.reads.paging import among
from agent.web.reads.runs import RunRow, runs

#: Failed runs count so long.
RECENT = timedelta(days=7)


class Figure(BaseModel):
    """A number and where its rows are."""

    label: str
    count: int
    address: str


class Standing(BaseModel):
    """A client's or location's flag that is set."""

    path: str
    field: str


class Overview(BaseModel):
    """The first page."""

    figures: list[Figure]
    standing_flags: list[Standing]
    last_runs: list[RunRow]


def overview(session: Session, clients: Collection[int] | None) -> Overview:
    """What one may see of it. `clients`: ids, or None for all."""
    count = func.count()
    active = (
        select(col(ScriptRun.state), count)
        .where(col(ScriptRun.parent_id).is_(None), among(col(ScriptRun.client_id), clients))
        .where(col(ScriptRun.state).in_(ACTIVE_RUN_STATES))
        .group_by(col(ScriptRun.state))
    )
    by_state: dict[str, int] = dict(session.exec(active).all())
    failed = session.scalar(
        select(count).where(
            col(ScriptRun.parent_id).is_(None), among(col(ScriptRun.client_id), clients),
            col(ScriptRun.state).in_((RunState.FAILED, RunState.PARTIAL, RunState.UNKNOWN)),
            col(ScriptRun.finished_at) > utcnow() - RECENT,
        )
    )  # fmt: skip
    planned = session.scalar(
        select(count).where(
            col(ContactOffboarding.run_id).is_(None), col(ContactOffboarding.removed_at).is_(None),
            among(col(ContactOffboarding.client_id), clients),
        )
    )  # fmt: skip
    tickets = session.scalar(select(count).where(col(Ticket.status) != "closed", among(col(Ticket.client_id), clients)))
    waiting = by_state.get(RunState.QUEUED, 0) + by_state.get(RunState.PLANNED, 0)
    figures = [
        Figure(label="running", count=by_state.get(RunState.RUNNING, 0), address="/runs?state=running"),
        Figure(label="held for approval", count=by_state.get(RunState.HELD, 0), address="/runs?state=held"),
        Figure(label="waiting", count=waiting, address="/runs?state=queued&state=planned"),
        Figure(label="not well in 7 days", count=failed or 0, address="/runs?state=failed&state=partial&state=unknown"),
        Figure(label="people planned", count=planned or 0, address="/offboardings?state=planned"),
        Figure(label="open tickets", count=tickets or 0, address="/tickets?status=open"),
    ]
    standing = [
        Standing(path=f.path, field=f.field) for f in standing_flags(session)
        if clients is None or (f.client_id is not None and f.client_id in clients)
    ]  # fmt: skip
    return Overview(figures=figures, standing_flags=standing, last_runs=runs(session, clients, limit=12).items)
