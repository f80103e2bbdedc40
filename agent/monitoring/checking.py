"""Faults of monitors that show only against the database: their query is prepared there, and no row is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from agent.content.loaded import LoadedMonitor
from agent.errors import ContentError, MonitorQueryError, NotFound
from agent.installation import Installation
from agent.model.base import utcnow
from agent.monitoring.query import run_query
from agent.monitoring.rows import read_rows
from agent.monitoring.scope import scope_rows
from agent.monitoring.setup import set_up
from agent.monitoring.sqltext import read_query
from agent.running.checking import Fault


def check_monitors(installation: Installation, *, but: Collection[str] = ()) -> Iterator[Fault]:
    """Faults of every monitor whose file is not in `but`, where faults are known already: one for each monitor.

    Its query is refused, does not fit the tables or lacks a column; a target group is missing; its message cannot be
    rendered.
    """
    for monitor in installation.content.monitors():
        if str(monitor.file) in but:
            continue
        try:
            _prepare(installation, monitor)
        except ContentError as error:
            yield Fault(error.file, error.line, error.key, error.reason, "error")
        except (MonitorQueryError, NotFound) as error:
            sql = monitor.definition.sql
            file = monitor.file.parent / sql if sql is not None else monitor.file
            yield Fault(str(file), None, None, str(error), "error")


def _prepare(installation: Installation, monitor: LoadedMonitor) -> None:
    now = utcnow()
    with installation.database.reading() as session:
        setup = set_up(installation, session, monitor.name, now=now)
        scope_rows(session, setup.definition, (), now=now, zone=setup.zone)
    # On lines of their own: the query may end in a comment.
    prepared = f"SELECT * FROM (\n{read_query(setup.query.sql).text}\n) AS checked LIMIT 0"
    result = run_query(installation.database, replace(setup.query, sql=prepared), now=now)
    read_rows(result, setup.definition.target)
