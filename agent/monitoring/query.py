"""Running a monitor's SQL: it only reads, and time, rows and memory are bounded (DESIGN 5.8).

How that is held stands in `sqlite_query` and `postgresql_query`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.database import Database
from agent.errors import MonitorQueryError
from agent.model.base import SQLITE_TIME, utcnow
from agent.monitoring.bounds import QueryResult
from agent.monitoring.postgresql_query import run_postgresql
from agent.monitoring.sqlite_query import run_sqlite
from agent.monitoring.sqltext import QueryText, read_query
from agent.settings import Settings

_TIMES = re.compile(r"(seconds|minutes|hours|days)_(ago|ahead)_(\d{1,6})")
_DATES = re.compile(r"today_(plus|minus)_(\d{1,6})")


@dataclass(frozen=True)
class Query:
    """A query with values of its own beside the parameters that every query has (see `parameter`)."""

    sql: str
    values: Mapping[str, Any] = field(default_factory=dict)


def run_query(database: Database, query: Query, *, now: datetime | None = None) -> QueryResult:
    """Run a monitor's query within the settings' limits.

    Raises MonitorQueryError that says which rule stopped it; nothing was changed.
    """
    text = read_query(query.sql)
    values = bound_values(text, query.values, database.settings, now or utcnow())
    if database.settings.is_sqlite:
        return run_sqlite(database, text, values)
    return run_postgresql(database, text, values)


def bound_values(text: QueryText, own: Mapping[str, Any], settings: Settings, now: datetime) -> dict[str, Any]:
    """The value of every parameter in the text. Raises MonitorQueryError for one that does not exist."""
    values = {name: own[name] if name in own else parameter(name, settings, now) for name in text.parameters}
    if not settings.is_sqlite:
        return values
    return {n: v.astimezone(UTC).strftime(SQLITE_TIME) if isinstance(v, datetime) else v for n, v in values.items()}


def parameter(name: str, settings: Settings, now: datetime) -> Any:
    """The value that a query can bind as `:name`. Times are UTC.

    `now`; `online_since`: a later contact means online; `offline_expired`: an earlier contact means offline too long;
    `minutes_ago_30`, `days_ahead_7` (seconds, minutes, hours, days): times; `today`, `today_plus_7`, `today_minus_7`:
    dates of the installation's time zone as text `2026-01-31`, as extra fields hold them; `today_everywhere`: the date that
    has begun in every time zone.
    """
    known = {
        "now": now,
        "online_since": now - timedelta(seconds=settings.online_seconds),
        "offline_expired": now - timedelta(days=settings.offline_expiry_days),
        "today": settings.day_of(now).isoformat(),
        "today_everywhere": (now - timedelta(hours=12)).date().isoformat(),
    }
    if name in known:
        return known[name]
    try:
        if found := _TIMES.fullmatch(name):
            distance = timedelta(**{found[1]: int(found[3])})
            return now - distance if found[2] == "ago" else now + distance
        if found := _DATES.fullmatch(name):
            days = timedelta(days=int(found[2]))
            today = settings.day_of(now)
            return (today + days if found[1] == "plus" else today - days).isoformat()
    except OverflowError:
        raise MonitorQueryError(f"the query's parameter :{name} is beyond the calendar") from None
    raise MonitorQueryError(
        f"the query's parameter :{name} does not exist; there are :now, :online_since, :offline_expired, :today, "
        ":today_everywhere, "
        ":minutes_ago_N, :days_ahead_N (seconds, minutes, hours, days) and :today_plus_N, :today_minus_N"
    )
