"""Running a monitor's SQL: it only reads, and time, rows and memory are bounded (DESIGN 5.8).

SQLite: an own connection that is opened read-only, an authorizer that permits nothing but reading the tables below, hard
limits on the size of values, a time limit in the progress handler.
PostgreSQL: a read-only transaction, `statement_timeout`, a server-side cursor (which takes nothing but a SELECT), no
volatile function, and `EXEUNT_MONITOR_ROLE` where a role without rights on secrets was made.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import make_url
from sqlmodel import SQLModel

from agent.errors import MonitorQueryError
from agent.model.base import SQLITE_TIME, utcnow
from agent.monitoring.sqltext import QueryText, read_query

if TYPE_CHECKING:
    from agent.database import Database
    from agent.settings import Settings

#: Tables whose rows hold secrets or the text of mail; no monitor reads them.
FORBIDDEN_TABLES = frozenset({"credential", "system_property", "notification"})
#: Largest single value and largest whole result, in bytes.
VALUE_BYTES = 1_000_000
RESULT_BYTES = 32_000_000
#: A flagged computer counts as offline too long after this time unless EXEUNT_OFFLINE_EXPIRY_DAYS says otherwise.
OFFLINE_EXPIRY_DAYS = 14

_BATCH = 500
_SQLITE_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 200_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_SQLITE_TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})
_SQLITE_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "randomblob", "zeroblob", "fts3_tokenizer"})
#: Beside every function that the server itself calls volatile. `..._to_xml` take the name of any table as text.
_POSTGRESQL_FORBIDDEN = re.compile(
    r"pg_.*|dblink.*|lo_.*|.*_to_xml.*|set_config|repeat|lpad|rpad|information_schema|dbos"
)
_POSTGRESQL_VOLATILE_ALLOWED = ["random", "clock_timestamp"]
_TIMES = re.compile(r"(seconds|minutes|hours|days)_(ago|ahead)_(\d{1,6})")
_DATES = re.compile(r"today_(plus|minus)_(\d{1,6})")


@dataclass(frozen=True)
class QueryResult:
    """Columns by their names as the query gives them, and all rows."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


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
        return _run_sqlite(database.settings, text, values)
    return _run_postgresql(database, text, values)


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
    dates as text `2026-01-31`, as extra fields hold them.
    """
    known = {
        "now": now,
        "online_since": now - timedelta(seconds=settings.online_seconds),
        "offline_expired": now - timedelta(days=settings.offline_expiry_days or OFFLINE_EXPIRY_DAYS),
        "today": now.date().isoformat(),
    }
    if name in known:
        return known[name]
    try:
        if found := _TIMES.fullmatch(name):
            distance = timedelta(**{found[1]: int(found[3])})
            return now - distance if found[2] == "ago" else now + distance
        if found := _DATES.fullmatch(name):
            days = timedelta(days=int(found[2]))
            return (now.date() + days if found[1] == "plus" else now.date() - days).isoformat()
    except OverflowError:
        raise MonitorQueryError(f"the query's parameter :{name} is beyond the calendar") from None
    raise MonitorQueryError(
        f"the query's parameter :{name} does not exist; there are :now, :online_since, :offline_expired, :today, "
        ":minutes_ago_N, :days_ahead_N (seconds, minutes, hours, days) and :today_plus_N, :today_minus_N"
    )


def readable_tables() -> frozenset[str]:
    """The tables that a monitor may read; views (`v_...`) may be read too, and are checked table by table."""
    return frozenset(SQLModel.metadata.tables) - FORBIDDEN_TABLES


class _Bounds:
    """The limits of one query, and which of them was met."""

    def __init__(self, settings: Settings) -> None:
        self.seconds, self.row_limit = settings.monitor_seconds, settings.monitor_rows
        self.deadline = time.monotonic() + settings.monitor_seconds
        self.refused: str | None = None
        self.bytes = 0

    def out_of_time(self) -> bool:
        return time.monotonic() > self.deadline

    def too_slow(self) -> MonitorQueryError:
        return MonitorQueryError(
            f"the query took longer than {self.seconds:g} s and was ended; nothing was changed: make it use an index, "
            "or raise EXEUNT_MONITOR_SECONDS"
        )

    def collect(self, batches: Iterator[Sequence[Sequence[Any]]]) -> list[Sequence[Any]]:
        """All rows, or MonitorQueryError: a part of the rows would look as if the others had become good again."""
        rows: list[Sequence[Any]] = []
        for batch in batches:
            rows.extend(batch)
            self.bytes += sum(len(v) if isinstance(v, str | bytes) else 8 for row in batch for v in row)
            if len(rows) > self.row_limit:
                raise MonitorQueryError(
                    f"the query gave more than {self.row_limit} rows; nothing was changed: narrow it, or raise "
                    "EXEUNT_MONITOR_ROWS"
                )
            if self.bytes > RESULT_BYTES:
                raise MonitorQueryError(
                    f"the query gave more than {RESULT_BYTES} bytes; nothing was changed: narrow it"
                )
            if self.out_of_time():
                raise self.too_slow()
        return rows


def _run_sqlite(settings: Settings, text: QueryText, values: Mapping[str, Any]) -> QueryResult:
    bounds = _Bounds(settings)
    try:
        with closing(_open_sqlite(settings, bounds)) as connection:
            cursor = connection.execute(text.text, values)
            rows = bounds.collect(iter(lambda: cursor.fetchmany(_BATCH), []))
            return QueryResult(tuple(d[0] for d in cursor.description or ()), rows)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if bounds.refused:
            raise MonitorQueryError(f"the query was refused: {bounds.refused}") from error
        if bounds.out_of_time():
            raise bounds.too_slow() from error
        raise MonitorQueryError(f"the query failed: {error}") from error


def _open_sqlite(settings: Settings, bounds: _Bounds) -> sqlite3.Connection:
    path = make_url(settings.inventory_url).database or ""
    connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=5)
    connection.execute("pragma query_only=on")
    connection.execute("pragma trusted_schema=off")
    for limit, value in _SQLITE_LIMITS.items():
        connection.setlimit(limit, value)
    readable = readable_tables() | _SQLITE_TABLE_FUNCTIONS

    def authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
        bounds.refused = bounds.refused or _sqlite_refusal(action, first or "", second or "", readable)
        return sqlite3.SQLITE_DENY if bounds.refused else sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    connection.set_progress_handler(bounds.out_of_time, 2000)
    return connection


def _sqlite_refusal(action: int, first: str, second: str, readable: frozenset[str]) -> str | None:
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
        return None
    if action == sqlite3.SQLITE_FUNCTION:
        return f"the function {second} is not available" if second.lower() in _SQLITE_FORBIDDEN_FUNCTIONS else None
    if action == sqlite3.SQLITE_READ:
        table = first.lower()
        # Without a column it may be the name of a common table expression; no content is read.
        known = table in readable or table.startswith("v_") or (not second and table not in FORBIDDEN_TABLES)
        return None if known else f"the table {first} may not be read by a monitor"
    return "a monitor only reads the inventory and the records"


@contextmanager
def _postgresql_errors(bounds: _Bounds) -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise bounds.too_slow() from error
    except psycopg.Error as error:
        raise MonitorQueryError(f"the query failed: {str(error).splitlines()[0]}") from error


def _run_postgresql(database: Database, text: QueryText, values: Mapping[str, Any]) -> QueryResult:
    from psycopg import sql

    settings = database.settings
    for name in sorted(text.names):
        if _POSTGRESQL_FORBIDDEN.fullmatch(name) or name in FORBIDDEN_TABLES:
            raise MonitorQueryError(f"the query was refused: a monitor may not use {name}")
    bounds = _Bounds(settings)
    with database.engine.connect() as pooled, _postgresql_errors(bounds):
        connection: Any = pooled.connection.driver_connection
        try:
            connection.execute("set transaction read only")
            connection.execute(f"set local statement_timeout = {max(1, int(settings.monitor_seconds * 1000))}")
            connection.execute("set local lock_timeout = '2s'")
            connection.execute("set local standard_conforming_strings = on")
            _refuse_volatile(connection, text)
            if settings.monitor_role:
                connection.execute(sql.SQL("set local role {}").format(sql.Identifier(settings.monitor_role)))
            with connection.cursor(name="monitor") as cursor:
                cursor.execute(text.with_percent_parameters(), values)
                rows = bounds.collect(iter(lambda: cursor.fetchmany(_BATCH), []))
                return QueryResult(tuple(c.name for c in cursor.description or ()), rows)
        finally:
            connection.rollback()


def _refuse_volatile(connection: Any, text: QueryText) -> None:
    """A function that PostgreSQL calls volatile may have effects that a read-only transaction does not stop."""
    found = connection.execute(
        "select min(proname) from pg_catalog.pg_proc where provolatile = 'v' and proname = any(%s) "
        "and proname <> all(%s)",
        (sorted(text.names), _POSTGRESQL_VOLATILE_ALLOWED),
    ).fetchone()
    if found and found[0]:
        raise MonitorQueryError(f"the query was refused: the function {found[0]} may have effects")
