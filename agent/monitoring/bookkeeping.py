"""What a scan changes in the records: failing rows, alerts, the monitor's status; all within the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, delete, select, update

from agent import audit
from agent.alerting.occurrences import Occurrence
from agent.installation import Installation
from agent.model.monitors import Alert, FailingRow, MonitorStatus
from agent.model.runs import ScriptRun
from agent.monitoring.scan import Booked, Scan
from agent.monitoring.scope import Match, ScopedRows, chunks
from agent.monitoring.setup import MonitorSetup


def scans_so_far(session: Session, monitor: str) -> int:
    """How many scans of a monitor were stored."""
    status = session.get(MonitorStatus, monitor)
    return status.scans if status else 0


def locked_status(session: Session, monitor: str) -> MonitorStatus:
    """The monitor's status, made if missing; nobody else stores a scan of it until this transaction ends."""
    status = session.get(MonitorStatus, monitor, with_for_update=True, populate_existing=True)
    if status is None:
        try:
            with session.begin_nested():
                session.add(MonitorStatus(monitor=monitor))
        except IntegrityError:
            # Another process made it at the same time.
            session.expire_all()
        status = session.get(MonitorStatus, monitor, with_for_update=True, populate_existing=True)
    assert status is not None
    return status


def store_error(session: Session, monitor: str, error: BaseException, *, now: datetime) -> None:
    """The monitor could not be evaluated. Its alerts stay as they are: nothing is known about its rows."""
    status = locked_status(session, monitor)
    status.status, status.error = "ERROR", f"{type(error).__name__}: {error}"
    status.last_scan = now


def book_scan(
    session: Session,
    status: MonitorStatus,
    setup: MonitorSetup,
    scoped: ScopedRows,
    *,
    now: datetime,
    reset: bool,
    actor: str,
) -> Booked:
    """Store a scan: alerts, what their templates do, failing rows, status. Script runs are only asked for."""
    monitor = setup.definition.name
    if reset:
        forgotten = _close_for_reset(session, monitor, now)
        status.reset_at = now
        audit.record(
            session, actor=actor, action="monitor.reset", object_kind="monitor", object_id=monitor,
            details={"alerts_closed": forgotten},
        )  # fmt: skip
    booked = Scan(session, setup, scoped, now=now, forget_before=status.reset_at).book()
    _store_failing_rows(session, monitor, setup.definition.target, scoped.matches, now)
    failing = sum(m.skipped is None for m in scoped.matches)
    status.status, status.error = ("FAILED" if failing else "SUCCESS"), None
    status.last_scan, status.rows, status.scans = now, failing, status.scans + 1
    status.fail_count = status.fail_count + 1 if failing else 0
    if failing:
        status.last_failed = now
    return booked


def preview_scan(session: Session, setup: MonitorSetup, scoped: ScopedRows, *, now: datetime, reset: bool) -> Booked:
    """What `book_scan` would do. Changes nothing."""
    status = session.get(MonitorStatus, setup.definition.name)
    forget_before = now if reset else status.reset_at if status else None
    return Scan(session, setup, scoped, now=now, forget_before=forget_before, preview=True, reset=reset).book()


def record_plan(installation: Installation, monitor: str, given: Sequence[Occurrence], plan_id: str) -> None:
    """The scripts that an evaluation asked for are planned: call it when the plan is stored, before it is released.

    An alert whose script the plan left out stays pending, and its script is asked for again at the next scan; so does
    one whose plan was never recorded because the process died. A script for SUCCESS is not asked for again.
    """
    ids = [o.alert_id for o in given if o.alert_id is not None]
    over = [o.alert_id for o in given if o.status == "SUCCESS" and o.alert_id is not None]
    with installation.database.session() as session:
        planned = set(session.exec(select(ScriptRun.alert_id).where(ScriptRun.plan_id == plan_id)))
        for chunk in chunks([i for i in ids if i in planned]):
            changed = update(Alert).where(col(Alert.id).in_(chunk), col(Alert.monitor) == monitor)
            session.execute(changed.values(plan_id=plan_id, script_pending=False))
        for chunk in chunks(over):
            session.execute(update(Alert).where(col(Alert.id).in_(chunk)).values(script_pending=False))


def _close_for_reset(session: Session, monitor: str, now: datetime) -> int:
    """Close every open alert without telling anybody; their number."""
    found = session.exec(select(Alert).where(Alert.monitor == monitor, col(Alert.closed_at).is_(None))).all()
    for alert in found:
        alert.closed_at, alert.closed_because, alert.script_pending = now, "reset", False
    session.flush()
    return len(found)


def _store_failing_rows(session: Session, monitor: str, kind: str, matches: Iterable[Match], now: datetime) -> None:
    """Make the kept failing rows those of this scan; a row that was there before keeps its `since`."""
    known = {
        (row.target_kind, row.target_id, row.identity): row
        for row in session.exec(select(FailingRow).where(FailingRow.monitor == monitor))
    }
    for match in matches:
        row = known.pop((kind, *match.key), None) or FailingRow(
            monitor=monitor, target_kind=kind, target_id=match.row.target_id, identity=match.row.identity, since=now
        )
        row.test_value, row.columns, row.skipped = match.row.test_value, dict(match.row.columns or {}), match.skipped
        session.add(row)
    for chunk in chunks([row.id for row in known.values()]):
        session.execute(delete(FailingRow).where(col(FailingRow.id).in_(chunk)))
