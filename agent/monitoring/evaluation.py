"""Evaluating a monitor: its query is run, alerts are opened, given and closed, and its alert templates answer.

The query runs outside the transaction. Everything that follows from it is stored in one, under a lock on the monitor's
status; when another scan was stored meanwhile, this one's rows are out of date and the query is run again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlmodel import Session

from agent.alerting.actions import PlannedAction
from agent.alerting.occurrences import Occurrence
from agent.content.definitions import MonitorDefinition
from agent.errors import Conflict, ExeuntError, MonitorQueryError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.monitoring.bookkeeping import book_scan, locked_status, preview_scan, scans_so_far, store_error
from agent.monitoring.fleet import Share, count_fleet
from agent.monitoring.query import run_query
from agent.monitoring.rows import read_rows
from agent.monitoring.scan import Booked
from agent.monitoring.scope import Dropped, Match, ScopedRows, scope_rows
from agent.monitoring.setup import MonitorSetup, set_up
from agent.running.requests import RunRequest

_ATTEMPTS = 5


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation of a monitor found and did."""

    monitor: str
    definition: MonitorDefinition
    actor: str
    tick: str | None
    dry_run: bool
    reset: bool
    evaluated_at: datetime
    duration_seconds: float
    #: Failing rows that count, whether their alert was given now or not.
    matched: tuple[Match, ...] = ()
    #: Failing rows of which nothing is made now; `Match.skipped` says why (CWA-43).
    skipped: tuple[Match, ...] = ()
    #: Rows of retired or unknown places.
    dropped: tuple[Dropped, ...] = ()
    #: Number of alerts that were opened and closed; a preview counts what it would open and close.
    opened: int = 0
    closed: int = 0
    #: Alerts that were given now, FAILED and SUCCESS.
    given: tuple[Occurrence, ...] = ()
    #: Tickets, mail and raised alerts that were written, and script runs that are asked for; in a preview: would be.
    actions: tuple[PlannedAction, ...] = ()
    #: The matched share of all computers, and of each matched client's by the client's id (CWA-80).
    fleet: Share = field(default_factory=lambda: Share(0, 0, True))
    clients: Mapping[int, Share] = field(default_factory=dict)
    #: This tick was evaluated before; nothing was done.
    repeated: bool = False

    @property
    def requests(self) -> tuple[RunRequest, ...]:
        """All script runs that are asked for; they belong into one plan. Then call `record_plan`."""
        return tuple(a.request for a in self.actions if a.request)

    @property
    def status(self) -> str:
        """FAILED when a row counts, else SUCCESS."""
        return "FAILED" if self.matched else "SUCCESS"


def evaluate(
    installation: Installation,
    monitor_name: str,
    *,
    actor: str,
    reset: bool = False,
    dry_run: bool = False,
    tick: str | None = None,
) -> Evaluation:
    """Run a monitor now. Alerts keep their state; `reset` forgets it first, so that present failures alert again.

    `dry_run` changes nothing. `tick` names a planned time: the same tick again does nothing.
    Raises MonitorQueryError, ContentError or NotFound; the error is stored with the monitor and no alert is closed.
    """
    now, started = utcnow(), time.monotonic()
    empty = Evaluation(
        monitor=monitor_name, definition=installation.content.monitor(monitor_name).definition, actor=actor, tick=tick,
        dry_run=dry_run, reset=reset, evaluated_at=now, duration_seconds=0.0,
    )  # fmt: skip
    try:
        for _ in range(_ATTEMPTS):
            done = _attempt(installation, empty, started)
            if done is not None:
                return done
        raise Conflict(f"{monitor_name!r} is evaluated by others at the same time: try again")
    except ExeuntError as error:
        if not dry_run:
            with installation.database.session() as session:
                store_error(session, monitor_name, error, now=now)
        if isinstance(error, MonitorQueryError):
            raise MonitorQueryError(
                f"monitor {monitor_name!r}, {_where(installation, monitor_name)}: {error}"
            ) from error
        raise


def _where(installation: Installation, monitor_name: str) -> str:
    """The file in which the query is to be mended."""
    monitor = installation.content.monitor(monitor_name)
    sql = monitor.definition.sql
    return str(monitor.file.parent / sql if sql is not None else monitor.file)


def _attempt(installation: Installation, empty: Evaluation, started: float) -> Evaluation | None:
    """One scan; None when another one was stored while this one's query ran."""
    now, database = empty.evaluated_at, installation.database
    with database.reading() as session:
        setup = set_up(installation, session, empty.monitor, now=now)
        scans = scans_so_far(session, empty.monitor)
    rows = read_rows(run_query(database, setup.query, now=now), setup.definition.target)
    with database.reading() as session:
        scoped = scope_rows(session, setup.definition, rows, now=now, zone=setup.zone)
        found = _found(session, empty, setup, scoped)
    if empty.dry_run:
        with database.reading() as session:
            booked = preview_scan(session, setup, scoped, now=now, reset=empty.reset)
        return _finished(found, booked, started)
    with database.session() as session:
        status = locked_status(session, empty.monitor)
        if empty.tick is not None and status.last_tick == empty.tick:
            return replace(empty, repeated=True)
        if status.scans != scans:
            return None
        booked = book_scan(session, status, setup, scoped, now=now, reset=empty.reset, actor=empty.actor)
        status.last_tick = empty.tick or status.last_tick
        status.duration_seconds = round(time.monotonic() - started, 6)
    return _finished(found, booked, started)


def _found(session: Session, empty: Evaluation, setup: MonitorSetup, scoped: ScopedRows) -> Evaluation:
    fleet, clients = count_fleet(session, scoped.matches, setup.definition.limits)
    return replace(
        empty,
        definition=setup.definition,
        matched=tuple(m for m in scoped.matches if m.skipped is None),
        skipped=tuple(m for m in scoped.matches if m.skipped is not None),
        dropped=scoped.dropped,
        fleet=fleet,
        clients=clients,
    )


def _finished(found: Evaluation, booked: Booked, started: float) -> Evaluation:
    return replace(
        found,
        opened=booked.opened,
        closed=booked.closed,
        given=booked.given,
        actions=booked.actions,
        duration_seconds=time.monotonic() - started,
    )
