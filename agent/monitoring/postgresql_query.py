"""A monitor's query on PostgreSQL.

A read-only transaction, `statement_timeout`, a server-side cursor (which takes nothing but a SELECT), no volatile function,
and `EXEUNT_MONITOR_ROLE` where a role without rights on secrets was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from sys import getsizeof
from typing import Any

from agent.database import Database
from agent.errors import MonitorQueryError
from agent.monitoring.bounds import FORBIDDEN_TABLES, Batch, Bounds, QueryResult
from agent.monitoring.sqltext import QueryText

_BATCH_ROWS = 500
#: Beside every function that the server itself calls volatile. `..._to_xml` take the name of any table as text.
_FORBIDDEN = re.compile(r"pg_.*|dblink.*|lo_.*|.*_to_xml.*|set_config|repeat|lpad|rpad|information_schema|dbos")
_VOLATILE_ALLOWED = ["random", "clock_timestamp"]
#: Times read the same whatever the zone of the server. No parallel workers and no compiling: both cost more than a monitor's
#: query, and take processors from the runs.
_LOCAL = {
    "timezone": "UTC", "transaction_read_only": "on", "lock_timeout": "2s", "standard_conforming_strings": "on",
    "jit": "off", "max_parallel_workers_per_gather": "0",
}  # fmt: skip


@contextmanager
def _errors(bounds: Bounds) -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise bounds.too_slow() from error
    except psycopg.Error as error:
        raise MonitorQueryError(f"the query failed: {str(error).splitlines()[0]}") from error


def run_postgresql(database: Database, text: QueryText, values: Mapping[str, Any]) -> QueryResult:
    from psycopg import sql

    settings = database.settings
    for name in sorted(text.names):
        if _FORBIDDEN.fullmatch(name) or name in FORBIDDEN_TABLES:
            raise MonitorQueryError(f"the query was refused: a monitor may not use {name}")
    bounds = Bounds(settings)
    with database.engine.connect() as pooled, _errors(bounds):
        connection: Any = pooled.connection.driver_connection
        try:
            _close_in(connection, text, bounds)
            if settings.monitor_role:
                connection.execute(sql.SQL("set local role {}").format(sql.Identifier(settings.monitor_role)))
            with connection.cursor(name="monitor") as cursor:
                cursor.execute(text.with_percent_parameters(), values)
                rows = bounds.collect(cursor.fetchmany, _BATCH_ROWS, _bytes_in)
                return QueryResult(tuple(c.name for c in cursor.description or ()), rows)
        finally:
            connection.rollback()


def _close_in(connection: Any, text: QueryText, bounds: Bounds) -> None:
    """Make the transaction read-only and bounded, in one round trip, and refuse functions with effects.

    What PostgreSQL calls volatile may have effects that a read-only transaction does not stop.
    """
    local = {**_LOCAL, "statement_timeout": str(max(1, int(bounds.seconds * 1000)))}
    settings = ", ".join(["set_config(%s, %s, true)"] * len(local))
    values: list[Any] = [item for pair in local.items() for item in pair]
    found = connection.execute(
        "select (select min(proname) from pg_catalog.pg_proc where provolatile = 'v' and proname = any(%s) "
        f"and proname <> all(%s)), {settings}",
        [sorted(text.names), _VOLATILE_ALLOWED, *values],
    ).fetchone()
    if found[0]:
        raise MonitorQueryError(f"the query was refused: the function {found[0]} may have effects")


def _bytes_in(batch: Batch) -> int:
    return sum(map(getsizeof, chain.from_iterable(batch)))
