"""Monitors and what they found, kept to the clients that one may see."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, or_, select

from agent.content.durations import in_words
from agent.errors import NotFound
from agent.inventory import lookup
from agent.model.fields import Form
from agent.model.monitors import Alert, FailingRow
from agent.monitoring.listing import MonitorListing
from agent.web.reads.paging import LIMIT, Order, Page, among, take

#: What counts rows of all clients; somebody who sees only some of them is not told.
_COUNTS = ("fail_count", "rows", "status", "last_failed", "error")


class MonitorRow(BaseModel):
    """One monitor as the list shows it. What counts rows of all clients is null for whoever sees only some."""

    name: str
    description: str
    enabled: bool
    status: str | None
    error: str | None
    fail_count: int | None
    rows: int | None
    interval: str
    alert_style: str
    target: str
    target_groups: list[str]
    alert_template: str | None
    group_alert_templates: dict[str, str]
    scripts: list[str]
    ticket_category: str | None
    last_scan: datetime | None
    last_failed: datetime | None
    next_scan: datetime | None
    duration_seconds: float | None
    confirmed_by: str | None


class FailingPlace(BaseModel):
    """A row that the last scan returned."""

    id: int
    target_kind: str
    target_id: int
    place: str
    identity: str
    test_value: str | None
    columns: dict[str, Any]
    skipped: str | None
    since: datetime


class AlertRow(BaseModel):
    """An alert: this monitor caught this place with this identity."""

    id: int
    monitor: str
    target_kind: str
    target_id: int
    place: str
    client_id: int | None
    identity: str
    test_value: str | None
    opened_at: datetime
    alerted_at: datetime | None
    alert_count: int
    closed_at: datetime | None
    closed_because: str | None
    plan_id: str | None
    script_pending: bool


def monitor_row(found: MonitorListing, clients: Collection[int] | None) -> MonitorRow:
    """A monitor as that person may see it."""
    values = {n: getattr(found, n) for n in MonitorRow.model_fields if n != "interval"}
    if clients is not None:
        values |= dict.fromkeys(_COUNTS)
    return MonitorRow(**values, interval=in_words(found.interval))


def failing(
    session: Session, monitor: str, clients: Collection[int] | None, *, after: str | None = None, limit: int = LIMIT
) -> Page[FailingPlace]:
    """The rows of the last scan by id, the skipped ones with their reason."""
    query: Any = select(FailingRow).where(FailingRow.monitor == monitor)
    if clients is not None:
        query = query.where(or_(*(_of_clients(form, clients) for form in lookup.MODELS)))
    rows, following = take(session, query, Order(col(FailingRow.id)), after=after, limit=limit)
    found = [r[0] for r in rows]
    return Page(items=[_failing(session, row) for row in found], next=following)


def alerts(
    session: Session, clients: Collection[int] | None, *, monitor: str | None = None, client_id: int | None = None,
    closed: bool = False, after: str | None = None, limit: int = LIMIT,
) -> Page[AlertRow]:  # fmt: skip
    """Alerts, the newest first; with `closed` those too that are over."""
    query: Any = select(Alert).where(among(col(Alert.client_id), clients))
    if monitor is not None:
        query = query.where(col(Alert.monitor) == monitor)
    if client_id is not None:
        query = query.where(col(Alert.client_id) == client_id)
    if not closed:
        query = query.where(col(Alert.closed_at).is_(None))
    rows, following = take(session, query, Order(col(Alert.id), descending=True), after=after, limit=limit)
    return Page(items=[alert_row(session, r[0]) for r in rows], next=following)


def alert_row(session: Session, found: Alert) -> AlertRow:
    """An alert with the path of its place. Where that got to afterwards is not told to those who see the alert."""
    place = _path(session, found.target_kind, found.target_id, found.client_id)
    return AlertRow(**{n: getattr(found, n) for n in AlertRow.model_fields if n != "place"}, place=place)


def _failing(session: Session, row: FailingRow) -> FailingPlace:
    place = _path(session, row.target_kind, row.target_id)
    return FailingPlace(**{n: getattr(row, n) for n in FailingPlace.model_fields if n != "place"}, place=place)


def _of_clients(form: Form, clients: Collection[int]) -> Any:
    model = lookup.MODELS[form]
    mine = select(lookup.key(model)).where(among(col(model.client_id), clients))
    return (col(FailingRow.target_kind) == form.name.lower()) & col(FailingRow.target_id).in_(mine)


def _path(session: Session, kind: str, identity: int, client_id: int | None = None) -> str:
    try:
        place = lookup.get(session, lookup.MODELS[Form[kind.upper()]], identity)
    except NotFound:
        return f"({kind} {identity} is gone)"
    if client_id not in (None, place.client_id):
        return f"({kind} {identity} is another client's now)"
    return lookup.path(session, place)
