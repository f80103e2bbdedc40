"""The list of monitors with the columns of CWA-38, and what a person may change about one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from agent import audit
from agent.alerting.actions import actions_for
from agent.content.alert_styles import parse_style
from agent.content.loaded import LoadedMonitor
from agent.errors import NotFound
from agent.installation import Installation
from agent.model.monitors import FailingRow, MonitorStatus
from agent.monitoring.bookkeeping import locked_status


@dataclass(frozen=True)
class MonitorListing:
    """One monitor as the list shows it (facts 11.2)."""

    name: str
    description: str
    enabled: bool
    #: SUCCESS, FAILED, ERROR; None before the first scan
    status: str | None
    error: str | None
    #: Scans in a row that found a failing row, and the rows of the last one.
    fail_count: int
    rows: int | None
    interval: timedelta
    alert_style: str
    target: str
    #: Empty means every computer.
    target_groups: tuple[str, ...]
    alert_template: str | None
    group_alert_templates: dict[str, str]
    #: Scripts that the alert templates run.
    scripts: tuple[str, ...]
    ticket_category: str | None
    last_scan: datetime | None
    last_failed: datetime | None
    next_scan: datetime | None
    duration_seconds: float | None
    confirmed_by: str | None
    file: str


def monitor_rows(installation: Installation) -> list[MonitorListing]:
    """All monitors by name."""
    with installation.database.reading() as session:
        known = {status.monitor: status for status in session.exec(select(MonitorStatus))}
    return [_listing(installation, m, known.get(m.name)) for m in sorted(installation.content.monitors(), key=_name)]


def monitor_row(installation: Installation, name: str) -> MonitorListing:
    """One monitor. Raises NotFound."""
    loaded = installation.content.monitor(name)
    with installation.database.reading() as session:
        return _listing(installation, loaded, session.get(MonitorStatus, loaded.name))


def failing_rows(session: Session, monitor: str, *, limit: int = 1000) -> list[FailingRow]:
    """The failing rows of a monitor's last scan, the skipped ones with their reason."""
    found = select(FailingRow).where(FailingRow.monitor == monitor).order_by(col(FailingRow.id)).limit(limit)
    return list(session.exec(found))


def set_enabled(installation: Installation, name: str, enabled: bool, *, actor: str) -> None:
    """Switch a monitor on or off, whatever its file says. Raises NotFound."""
    _override(installation, name, actor, "enabled", enabled)


def assign_template(installation: Installation, name: str, template: str | None, *, actor: str) -> None:
    """Give a monitor another alert template; None goes back to the one in its file.

    Raises NotFound for an unknown monitor or template.
    """
    if template is not None:
        template = installation.content.alert_template(template).name
    _override(installation, name, actor, "alert_template", template)


def is_enabled(loaded: LoadedMonitor, status: MonitorStatus | None) -> bool:
    """Whether a monitor is ticked."""
    override = status.enabled if status else None
    return loaded.definition.enabled if override is None else override


def _override(installation: Installation, name: str, actor: str, field: str, value: bool | str | None) -> None:
    name = installation.content.monitor(name).name
    with installation.database.session() as session:
        status = locked_status(session, name)
        old = getattr(status, field)
        if old == value:
            return
        setattr(status, field, value)
        audit.record(
            session, actor=actor, action=f"monitor.{field}", object_kind="monitor", object_id=name,
            details={"old": old, "new": value},
        )  # fmt: skip


def _listing(installation: Installation, loaded: LoadedMonitor, status: MonitorStatus | None) -> MonitorListing:
    definition, status = loaded.definition, status or MonitorStatus(monitor=loaded.name)
    template = status.alert_template or definition.alert_template
    templates = dict.fromkeys(t for t in (template, *definition.group_alert_templates.values()) if t)
    return MonitorListing(
        name=loaded.name, description=definition.description, enabled=is_enabled(loaded, status),
        status=status.status, error=status.error, fail_count=status.fail_count, rows=status.rows,
        interval=definition.interval, alert_style=_style(definition.alert_style), target=definition.target,
        target_groups=definition.target_groups, alert_template=template,
        group_alert_templates=dict(definition.group_alert_templates),
        scripts=tuple(dict.fromkeys(s for t in templates for s in _scripts(installation, t))),
        ticket_category=definition.ticket_category, last_scan=status.last_scan, last_failed=status.last_failed,
        next_scan=status.next_scan, duration_seconds=status.duration_seconds, confirmed_by=status.confirmed_by,
        file=str(loaded.file),
    )  # fmt: skip


def _scripts(installation: Installation, template: str) -> list[str]:
    try:
        definition = installation.content.alert_template(template).definition
    except NotFound:
        # The list still shows the monitor; evaluating it says what is missing.
        return []
    both = (*actions_for(definition, "FAILED"), *actions_for(definition, "SUCCESS"))
    return [a.run_script for a in both if a.run_script]


def _style(value: str | int) -> str:
    try:
        return str(parse_style(value))
    except ValueError:
        return f"{value} (unknown)"


def _name(loaded: LoadedMonitor) -> str:
    return loaded.name.lower()
