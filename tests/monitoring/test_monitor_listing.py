"""The list of monitors (CWA-38), and switching and assigning, both audited."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import select

from agent.errors import MonitorQueryError, NotFound
from agent.installation import Installation
from agent.model.administration import AuditEntry
from agent.monitoring.evaluation import evaluate
from agent.monitoring.listing import assign_template, failing_rows, monitor_row, monitor_rows, set_enabled

Write = Callable[..., None]
ALL = "SELECT 1 AS TestValue, name AS IdentityField, computerid AS ComputerID FROM computers"


def test_every_column(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    write_template(any_installation, "Run", failed=[{"run_script": "Mend"}], success=[{"run_script": "Praise"}])
    write_template(any_installation, "Group", failed=[{"run_script": "Other"}])
    write_monitor(
        any_installation, ALL, interval="5 minutes", alert_style=3, alert_template="Run", ticket_category="234",
        group_alert_templates={"Servers": "Group"}, description="what for",
    )  # fmt: skip
    before = monitor_row(any_installation, "Test")
    assert (before.status, before.last_scan, before.fail_count, before.rows) == (None, None, 0, None)
    with pytest.raises(MonitorQueryError):
        evaluate(any_installation, "Test", actor="ann")
    assert monitor_row(any_installation, "Test").status == "ERROR"
    assert "Servers" in (monitor_row(any_installation, "Test").error or "")
    write_monitor(any_installation, ALL, alert_style=3, alert_template="Run", ticket_category="234")
    evaluate(any_installation, "Test", actor="ann")
    row = monitor_row(any_installation, "Test")
    assert (row.status, row.fail_count, row.rows, row.interval) == ("FAILED", 1, 4, timedelta(minutes=5))
    assert (row.alert_style, row.alert_template, row.ticket_category) == ("once per 3 days", "Run", "234")
    assert row.scripts == ("Mend", "Praise") and before.scripts == ("Mend", "Praise", "Other")
    assert row.last_scan == row.last_failed is not None and row.next_scan is None and row.enabled
    with any_installation.database.reading() as session:
        assert [r.test_value for r in failing_rows(session, "Test")] == ["1"] * 4


def test_the_shipped_monitors_are_listed(installation: Installation) -> None:
    rows = {row.name: row for row in monitor_rows(installation)}
    offboarding = rows["Offboarding"]
    assert offboarding.scripts == ("Offboarding Wrapper",) and offboarding.enabled
    assert offboarding.alert_template == "△ Custom - Execute Script - Offboarding Wrapper"
    assert not rows["Offboarding - Reboot Needed"].enabled
    assert list(rows) == sorted(rows, key=str.lower)


def test_switching_and_assigning_is_audited_once(
    any_installation: Installation, write_monitor: Write, write_template: Write
) -> None:
    write_template(any_installation, "One", failed=[{"run_script": "X"}])
    write_monitor(any_installation, ALL)
    set_enabled(any_installation, "Test", False, actor="ann")
    set_enabled(any_installation, "Test", False, actor="ann")
    assign_template(any_installation, "Test", "One", actor="bob")
    row = monitor_row(any_installation, "Test")
    assert (row.enabled, row.alert_template, row.scripts) == (False, "One", ("X",))
    assign_template(any_installation, "Test", None, actor="bob")
    assert monitor_row(any_installation, "Test").alert_template is None
    with any_installation.database.reading() as session:
        entries = session.exec(select(AuditEntry).order_by(AuditEntry.sequence)).all()  # type: ignore[arg-type]
    assert [(e.actor, e.action, e.object_id, e.details) for e in entries] == [
        ("ann", "monitor.enabled", "Test", {"old": None, "new": False}),
        ("bob", "monitor.alert_template", "Test", {"old": None, "new": "One"}),
        ("bob", "monitor.alert_template", "Test", {"old": "One", "new": None}),
    ]


def test_unknown_names_are_refused(installation: Installation, write_monitor: Write) -> None:
    write_monitor(installation, ALL)
    for call in (
        lambda: set_enabled(installation, "Nobody", True, actor="ann"), lambda: monitor_row(installation, "Nobody"),
        lambda: assign_template(installation, "Test", "Nobody", actor="ann"),
        lambda: assign_template(installation, "Nobody", None, actor="ann"),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            call()
