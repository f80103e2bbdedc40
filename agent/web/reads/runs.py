"""Lists of runs, kept to the clients that one may see."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Select
from sqlmodel import Session, col, select

from agent.model.runs import ScriptRun
from agent.web.reads.paging import LIMIT, Order, Page, among, take


class RunRow(BaseModel):
    """One root run as lists show it."""

    id: str
    plan_id: str | None
    script: str
    state: str
    target_kind: str
    target_id: int
    target_name: str
    client_id: int
    started_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: From its first start to its end; null while it is not over.
    seconds: float | None


NEWEST = Order(col(ScriptRun.created_at), col(ScriptRun.id), descending=True)


def runs(
    session: Session, clients: Collection[int] | None, *, states: Collection[str] = (), client_id: int | None = None,
    target: tuple[str, int] | None = None, after: str | None = None, limit: int = LIMIT,
) -> Page[RunRow]:  # fmt: skip
    """Root runs, newest first. `clients`: those that one may see. Raises UsageError for a wrong cursor."""
    query: Select[Any] = select(ScriptRun).where(
        col(ScriptRun.parent_id).is_(None), among(col(ScriptRun.client_id), clients)
    )
    if states:
        query = query.where(col(ScriptRun.state).in_(states))
    if client_id is not None:
        query = query.where(col(ScriptRun.client_id) == client_id)
    if target is not None:
        query = query.where(col(ScriptRun.target_kind) == target[0], col(ScriptRun.target_id) == target[1])
    rows, following = take(session, query, NEWEST, after=after, limit=limit)
    return Page(items=[run_row(row[0]) for row in rows], next=following)


def run_row(run: ScriptRun) -> RunRow:
    """A run as lists show it."""
    took = (run.finished_at - run.started_at).total_seconds() if run.finished_at and run.started_at else None
    return RunRow(**{name: getattr(run, name) for name in RunRow.model_fields if name != "seconds"}, seconds=took)
