"""What internal monitors remember: when they ran, which rows fail, which alerts are open."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from agent.model.base import moment


class MonitorStatus(SQLModel, table=True):
    """The changing part of an internal monitor; the definition is content."""

    __tablename__ = "monitor_status"
    monitor: str = Field(primary_key=True)
    #: SUCCESS, FAILED or ERROR; null before the first scan
    status: str | None = None
    #: Overrides of the definition, set by the verbs; null means the definition counts.
    enabled: bool | None = None
    alert_template: str | None = None
    last_scan: datetime | None = moment("last_scan")
    last_failed: datetime | None = moment("last_failed")
    next_scan: datetime | None = moment("next_scan")
    #: Scans in a row that found a failing row.
    fail_count: int = 0
    #: Failing rows of the last scan, without the skipped ones.
    rows: int | None = None
    duration_seconds: float | None = None
    error: str | None = None
    #: Number of scans whose result was stored: a scan whose query ran before another one was stored is repeated.
    scans: int = 0
    #: The last tick that was evaluated, made from its meaning; the same tick again does nothing.
    last_tick: str | None = None
    #: Alerts from before this time are forgotten (Run Now and Reset).
    reset_at: datetime | None = moment("reset_at")
    #: The first real run was confirmed by somebody (facts 14, 17).
    confirmed_by: str | None = None
    confirmed_at: datetime | None = moment("confirmed_at")


class FailingRow(SQLModel, table=True):
    """A row that the monitor's last scan returned (CWA: databasefails)."""

    __tablename__ = "monitor_failing_row"
    __table_args__ = (UniqueConstraint("monitor", "target_kind", "target_id", "identity"),)
    id: int | None = Field(default=None, primary_key=True)
    monitor: str = Field(index=True)
    target_kind: str
    target_id: int
    identity: str
    test_value: str | None = None
    columns: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    #: Why nothing is done about it at present (maintenance mode, no alerts, excluded); null when it counts.
    skipped: str | None = None
    since: datetime = moment("since", now=True)


class Alert(SQLModel, table=True):
    """This monitor caught this place with this identity; open until the row is gone. Only one is open at a time."""

    __tablename__ = "alert"
    __table_args__ = (
        Index(
            "one_open_alert", "monitor", "target_kind", "target_id", "identity", unique=True,
            sqlite_where=text("closed_at is null"), postgresql_where=text("closed_at is null"),
        ),
        Index("alerts_of_a_place", "monitor", "target_kind", "target_id"),
        Index(
            "alerts_with_pending_script", "monitor",
            sqlite_where=text("script_pending = 1"), postgresql_where=text("script_pending"),
        ),
    )  # fmt: skip
    id: int | None = Field(default=None, primary_key=True)
    monitor: str = Field(index=True)
    target_kind: str
    target_id: int
    identity: str
    test_value: str | None = None
    client_id: int | None = Field(default=None, index=True)
    opened_at: datetime = moment("opened_at", now=True)
    #: Last time the alert template's actions were started for it: the alert style counts from here.
    alerted_at: datetime | None = moment("alerted_at")
    alert_count: int = 0
    closed_at: datetime | None = moment("closed_at")
    #: success (the row went), gone (the place went), reset (Run Now and Reset)
    closed_because: str | None = None
    plan_id: str | None = None
    #: Its script is not planned yet: put off by a window, refused by a guardrail, or the process died. Tried again.
    script_pending: bool = False


class RaisedAlert(SQLModel, table=True):
    """What the action `raise_alert` leaves for people to see (CWA: alerts, with source and message)."""

    __tablename__ = "raised_alert"
    __table_args__ = (UniqueConstraint("alert_id", "status", "occasion"),)
    id: int | None = Field(default=None, primary_key=True)
    #: The monitor's name.
    source: str = Field(index=True)
    alert_id: int = Field(foreign_key="alert.id")
    #: FAILED or SUCCESS
    status: str
    #: How many times the alert had been given by then: with the status, one row per occasion and action.
    occasion: str
    target_kind: str
    target_id: int
    client_id: int | None = Field(default=None, index=True)
    subject: str
    message: str
    raised_at: datetime = moment("raised_at", now=True)
