"""A monitor's query on SQLite.

An own connection that is opened read-only, an authorizer that permits nothing but reading the tables of `bounds`, hard
limits on the size of values, a time limit in the progress handler.
"""

from __future__ import annotations

import marshal
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from sqlalchemy import make_url

from agent.database import Database
from agent.errors import MonitorQueryError
from agent.monitoring.bounds import FORBIDDEN_TABLES, Batch, Bounds, QueryResult, readable_tables
from agent.monitoring.sqltext import QueryText
from agent.settings import Settings

#: Largest single value, in bytes.
VALUE_BYTES = 200_000
#: A whole batch is in memory before it is measured, so it has few rows.
_BATCH_ROWS = 10
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 200_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_TABLE_FUNCTIONS = frozenset({"json_each", "json_tree"})
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "randomblob", "zeroblob", "fts3_tokenizer"})


class _Reader:
    """A read-only connection. It is kept, so that a query is compiled, and asked about, once."""

    def __init__(self, settings: Settings, bounds: Bounds) -> None:
        self.bounds = bounds
        self.readable = readable_tables() | _TABLE_FUNCTIONS
        path = make_url(settings.inventory_url).database or ""
        # Threads take turns: whoever has taken a reader out of the pool is alone with it.
        self.connection = sqlite3.connect(
            f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=5, check_same_thread=False
        )
        self.connection.execute("pragma query_only=on")
        self.connection.execute("pragma trusted_schema=off")
        for limit, value in _LIMITS.items():
            self.connection.setlimit(limit, value)
        self.connection.set_authorizer(self._authorize)
        self.connection.set_progress_handler(lambda: self.bounds.out_of_time(), 20_000)

    def _authorize(self, action: int, first: str | None, second: str | None, *_: object) -> int:
        bounds = self.bounds
        bounds.refused = bounds.refused or _refusal(action, first or "", second or "", self.readable)
        return sqlite3.SQLITE_DENY if bounds.refused else sqlite3.SQLITE_OK

    def read(self, text: QueryText, values: Mapping[str, Any]) -> QueryResult:
        with closing(self.connection.execute(text.text, values)) as cursor:
            rows = self.bounds.collect(cursor.fetchmany, _BATCH_ROWS, _bytes_in)
            return QueryResult(tuple(d[0] for d in cursor.description or ()), rows)


#: Readers that nobody uses at present. They go with their database.
_READERS: WeakKeyDictionary[Database, list[_Reader]] = WeakKeyDictionary()
_READERS_LOCK = threading.Lock()


def run_sqlite(database: Database, text: QueryText, values: Mapping[str, Any]) -> QueryResult:
    bounds = Bounds(database.settings)
    with _READERS_LOCK:
        idle = _READERS.setdefault(database, [])
        reader = idle.pop() if idle else None
    try:
        reader = reader or _Reader(database.settings, bounds)
        reader.bounds = bounds
        result = reader.read(text, values)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if reader is not None:
            reader.connection.close()
        if bounds.refused:
            raise MonitorQueryError(f"the query was refused: {bounds.refused}") from error
        if bounds.out_of_time():
            raise bounds.too_slow() from error
        raise MonitorQueryError(f"the query failed: {error}") from error
    with _READERS_LOCK:
        idle.append(reader)
    return result


def _refusal(action: int, first: str, second: str, readable: frozenset[str]) -> str | None:
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
        return None
    if action == sqlite3.SQLITE_FUNCTION:
        return f"the function {second} is not available" if second.lower() in _FORBIDDEN_FUNCTIONS else None
    if action == sqlite3.SQLITE_READ:
        table = first.lower()
        # Without a column it may be the name of a common table expression; no content is read.
        known = table in readable or table.startswith("v_") or (not second and table not in FORBIDDEN_TABLES)
        return None if known else f"the table {first} may not be read by a monitor"
    return "a monitor only reads the inventory and the records"


def _bytes_in(batch: Batch) -> int:
    """SQLite gives nothing but numbers, text, bytes and None, which marshal measures quickly."""
    return len(marshal.dumps(list(batch)))
