"""What people work through: tickets, tasks, equipment, mail. Kept to the clients that one may see."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any, TypeVar

from sqlmodel import Session, SQLModel, col, select

from agent.model.contacts import ManualTask
from agent.model.places import Contact, Equipment
from agent.model.tickets import Notification, Ticket
from agent.web.reads.paging import LIMIT, Order, Page, among, take

R = TypeVar("R", bound=SQLModel)


def tickets(
    session: Session, clients: Collection[int] | None, *, after: str | None = None, limit: int = LIMIT, **equal: Any
) -> Page[Ticket]:
    """Tickets, the newest first. `equal`: column -> value; None: any."""
    return _listed(session, Ticket, clients, equal, after, limit)


def mail(
    session: Session, clients: Collection[int] | None, *, after: str | None = None, limit: int = LIMIT, **equal: Any
) -> Page[Notification]:
    """Mail, the newest first. That of no client is only for whoever sees the whole server."""
    return _listed(session, Notification, clients, equal, after, limit)


def tasks(
    session: Session, clients: Collection[int] | None, *, overdue_on: date | None = None, after: str | None = None,
    limit: int = LIMIT, **equal: Any,
) -> Page[ManualTask]:  # fmt: skip
    """Tasks for people, the newest first. `overdue_on`: only open ones that were due before that day."""
    extra = []
    if overdue_on is not None:
        extra = [col(ManualTask.state) == "open", col(ManualTask.due) < overdue_on.isoformat()]
    return _listed(session, ManualTask, clients, equal, after, limit, *extra)


def equipment(
    session: Session, clients: Collection[int] | None, *, client_id: int | None = None, contact_id: int | None = None,
    state: str | None = None, after: str | None = None, limit: int = LIMIT,
) -> Page[Equipment]:  # fmt: skip
    """Equipment by id."""
    query: Any = select(Equipment).join(Contact, col(Contact.contact_id) == Equipment.contact_id)
    query = query.where(among(col(Contact.client_id), clients))
    for column, value in (
        (Contact.client_id, client_id),
        (Equipment.contact_id, contact_id),
        (Equipment.state, state),
    ):
        if value is not None:
            query = query.where(col(column) == value)
    rows, following = take(session, query, Order(col(Equipment.equipment_id)), after=after, limit=limit)
    return Page(items=[r[0] for r in rows], next=following)


def _listed(
    session: Session, model: type[R], clients: Collection[int] | None, equal: dict[str, Any], after: str | None,
    limit: int, *conditions: Any,
) -> Page[R]:  # fmt: skip
    columns: Any = model
    query: Any = select(model).where(among(col(columns.client_id), clients), *conditions)
    for name, value in equal.items():
        if value is not None:
            query = query.where(col(getattr(model, name)) == value)
    rows, following = take(session, query, Order(col(columns.id), descending=True), after=after, limit=limit)
    return Page(items=[r[0] for r in rows], next=following)
