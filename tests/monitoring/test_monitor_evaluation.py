"""Evaluating a monitor: columns, scope, skips, styles, templates, crashes, errors; on both databases where it matters."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import select

from agent.errors import ContentError, MonitorQueryError, NotFound
from agent.installation import Installation
from agent.model.administration import AuditEntry, SystemProperty
from agent.model.base import utcnow
from agent.model.monitors import Alert, FailingRow, MonitorStatus, RaisedAlert
from agent.model.places import AgentComputerData, Computer, ComputerGroup, ComputerGroupMember, MaintenanceMode
from agent.model.runs import Plan, ScriptRevision, ScriptRun
from agent.model.tickets import Notification, Ticket
from agent.monitoring import evaluation as evaluation_module
from agent.monitoring.bookkeeping import record_plan
from agent.monitoring.evaluation import Evaluation, evaluate

Write = Callable[..., None]
ALL = "SELECT 1 AS TestValue, name AS IdentityField, computerid AS ComputerID FROM computers"
NAMED = ALL + " WHERE username = 'bad'"


def run(installation: Installation, name: str = "Test", **options: Any) -> Evaluation:
    return evaluate(installation, name, actor="ann", **options)


def alerts(installation: Installation) -> list[Alert]:
    with installation.database.reading() as session:
        return list(session.exec(select(Alert).order_by(Alert.id)))  # type: ignore[arg-type]


def status(installation: Installation, name: str = "Test") -> MonitorStatus:
    with installation.database.reading() as session:
        found = session.get(MonitorStatus, name)
    assert found is not None
    return found


def mark(installation: Installation, computer_id: int, value: str = "bad") -> None:
    with installation.database.session() as session:
        session.execute(
            text("UPDATE computers SET username = :v WHERE computerid = :c"), {"v": value, "c": computer_id}
        )


def add(installation: Installation, *rows: Any) -> None:
    with installation.database.session() as session:
        session.add_all(rows)


@pytest.mark.parametrize(
    ("sql", "missing"),
    [
        ("SELECT 1 AS TestValue, name AS IdentityField FROM computers", "ComputerID"),
        ("SELECT computerid FROM computers", "TestValue, IdentityField"),
        ("SELECT 1 AS testvalue, 'x' AS IDENTITYFIELD, locationid FROM locations", "ComputerID"),
    ],
)
def test_the_three_columns_are_required(
    any_installation: Installation, write_monitor: Write, sql: str, missing: str
) -> None:
    write_monitor(any_installation, sql)
    with pytest.raises(MonitorQueryError, match=f"no column {missing}:"):
        run(any_installation)
    assert status(any_installation).status == "ERROR" and "no column" in (status(any_installation).error or "")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT 1 AS TestValue, NULL AS IdentityField, computerid FROM computers", "IdentityField is null"),
        ("SELECT 1 AS TestValue, 'x' AS IdentityField, 'y' AS ComputerID", "not the id of a place"),
        ("SELECT 1 AS TestValue, 'x' AS IdentityField, 1 AS ComputerID, 2 AS a, 3 AS A", "more than once"),
    ],
)
def test_unusable_rows_are_an_error(
    installation: Installation, two_clients: Any, write_monitor: Write, sql: str, reason: str
) -> None:
    write_monitor(installation, sql)
    with pytest.raises(MonitorQueryError, match=reason):
        run(installation)


def test_further_columns_and_values_of_every_kind(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    write_template(any_installation, "Run", failed=[{"run_script": "X", "with": {"Own": "1"}}])
    sql = (
        "SELECT NULL AS testvalue, name AS identityfield, computerid, 'Client, location,' AS LEVELS, 5 AS Threshold, "
        "1.5 AS Ratio, lastcontact AS Seen, isserver AS Server FROM computers WHERE name = 'CONTOSO-PC1'"
    )
    write_monitor(any_installation, sql, alert_template="Run")
    (request,) = run(any_installation).requests
    assert request.levels == ("client", "location") and request.parameters == {"Own": "1"}
    assert set(request.columns) == {"threshold", "ratio", "seen", "server"}
    assert request.columns["threshold"] == 5 and float(request.columns["ratio"]) == 1.5
    assert not request.columns["server"]
    with any_installation.database.reading() as session:
        seen = session.get_one(Computer, any_two_clients.contoso_computers[0]).last_contact
        assert seen is not None and f"{seen:%Y-%m-%d}" in request.columns["seen"]
        (row,) = session.exec(select(FailingRow)).all()
    assert row.columns == dict(request.columns) and row.test_value is None


def test_targets_of_every_kind(any_installation: Installation, any_two_clients: Any, write_monitor: Write) -> None:
    for kind, table in (("client", "clients"), ("location", "locations"), ("contact", "contacts")):
        if kind == "contact":
            add(any_installation, _contact(any_two_clients))
        sql = f"SELECT 1 AS TestValue, name AS IdentityField, {kind}id AS {kind}ID FROM {table} WHERE clientid = {any_two_clients.contoso}"
        write_monitor(any_installation, sql, name=kind, target=kind)
        (match,) = run(any_installation, kind).matched
        assert (match.place.kind, match.place.client_name) == (kind, "Contoso")
        assert [a.client_id for a in alerts(any_installation) if a.target_kind == kind] == [any_two_clients.contoso]


def _contact(places: Any) -> Any:
    from agent.model.places import Contact

    return Contact(client_id=places.contoso, external_id="ann", name="Ann")


def test_two_identities_on_one_computer_are_told_apart(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write
) -> None:
    here = any_two_clients.contoso_computers[0]
    sql = f"SELECT 1 AS TestValue, 'C:' AS IdentityField, {here} AS ComputerID UNION ALL SELECT 2, 'D:', {here}"
    write_monitor(any_installation, sql + f" UNION ALL SELECT 3, 'D:', {here}")
    assert run(any_installation).opened == 2
    assert [(a.target_id, a.identity, a.test_value) for a in alerts(any_installation)] == [
        (here, "C:", "1"),
        (here, "D:", "2"),
    ]
    write_monitor(any_installation, f"SELECT 1 AS TestValue, 'C:' AS IdentityField, {here} AS ComputerID")
    assert run(any_installation).closed == 1
    assert [(a.identity, a.closed_because) for a in alerts(any_installation)] == [("C:", None), ("D:", "success")]


def test_unknown_and_retired_computers_are_dropped_with_a_reason(
    installation: Installation, two_clients: Any, write_monitor: Write
) -> None:
    here, other = two_clients.contoso_computers
    add(installation, MaintenanceMode(computer_id=other, time_start=utcnow() - timedelta(hours=2), duration=60))
    with installation.database.session() as session:
        found = session.get(Computer, here)
        assert found is not None
        found.retired_at = utcnow()
    write_monitor(installation, ALL + " UNION ALL SELECT 1, 'ghost', 999999")
    done = run(installation)
    assert {(d.target_id, d.reason) for d in done.dropped} == {
        (here, "retired"),
        (999999, "there is no computer with this id"),
    }
    assert {m.place.id for m in done.matched} == {other, *two_clients.fabrikam_computers}
    assert not any(a.target_id in (here, 999999) for a in alerts(installation))


def test_a_row_that_is_left_alone_is_tried_again(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    """NoAlerts, hours and maintenance mode (CWA-43): reported with the reason, and not counted as alerted."""
    write_template(any_installation, "Run", failed=[{"run_script": "X"}])
    write_monitor(any_installation, ALL, alert_template="Run")
    first, second = any_two_clients.contoso_computers
    third, fourth = any_two_clients.fabrikam_computers
    now = utcnow()
    # More than a time can hold, where the column takes it.
    endless = 2**31 - 1 if any_installation.settings.database_url else 10**14
    soon, later = (now + timedelta(hours=2)).strftime("%H:%M"), (now + timedelta(hours=3)).strftime("%H:%M")
    add(
        any_installation,
        AgentComputerData(computer_id=first, no_alerts=True),
        AgentComputerData(computer_id=second, up_time_start=soon, up_time_end=later),
        MaintenanceMode(computer_id=third, time_start=now - timedelta(minutes=5), duration=30),
        MaintenanceMode(computer_id=third, time_start=now - timedelta(minutes=5), duration=endless),
        MaintenanceMode(computer_id=fourth, time_start=now - timedelta(minutes=40), duration=30),
    )
    done = run(any_installation)
    reasons = {m.place.id: m.skipped or "" for m in done.skipped}
    assert "NoAlerts" in reasons[first] and soon in reasons[second] and "maintenance" in reasons[third]
    assert [r.target_id for r in done.requests] == [fourth]
    assert [a.target_id for a in alerts(any_installation)] == [fourth]
    with any_installation.database.reading() as session:
        kept = {row.target_id: row.skipped for row in session.exec(select(FailingRow))}
    assert kept == {**reasons, fourth: None}
    with any_installation.database.session() as session:
        session.execute(text("DELETE FROM agentcomputerdata"))
        session.execute(text("DELETE FROM maintenancemode"))
    assert {r.target_id for r in run(any_installation).requests} >= {first, second, third}


@pytest.mark.parametrize(
    ("hour", "left_alone"), [(21, True), (22, False), (23, False), (0, False), (5, False), (6, True), (12, True)]
)
def test_hours_over_midnight_from_the_query(
    installation: Installation,
    two_clients: Any,
    write_monitor: Write,
    monkeypatch: pytest.MonkeyPatch,
    hour: int,
    left_alone: bool,
) -> None:
    write_monitor(installation, ALL.replace("FROM", ", '22:00' AS UpTimeStart, '06:00' AS UpTimeEnd FROM"))
    monkeypatch.setattr(evaluation_module, "utcnow", lambda: datetime(2026, 5, 1, hour, tzinfo=UTC))
    done = run(installation, dry_run=True)
    assert (len(done.skipped) == 4) is left_alone and len(done.skipped) + len(done.matched) == 4


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("moment", "left_alone"),
    # 22:00 to 06:00 in Berlin: from 21:00 until 05:00 UTC in winter, from 20:00 until 04:00 in summer.
    [((1, 5, 20, 59), True), ((1, 5, 21), False), ((1, 5, 4, 59), False), ((1, 5, 5), True), ((7, 6, 20), False), ((7, 6, 4), True)],
)  # fmt: skip
def test_hours_are_those_of_the_installations_time_zone(
    installation: Installation,
    two_clients: Any,
    write_monitor: Write,
    write_template: Write,
    monkeypatch: pytest.MonkeyPatch,
    moment: tuple[int, ...],
    left_alone: bool,
) -> None:
    """Those of a computer, those that the query gives, and the window of an alert template."""
    night = {"from": "22:00", "until": "06:00"}
    write_template(installation, "Night", failed=[{"run_script": "X", "window": night}])
    write_monitor(installation, ALL, name="Stored", alert_template="Night")
    write_monitor(installation, ALL.replace("FROM", ", '22:00' AS UpTimeStart, '06:00' AS UpTimeEnd FROM"))
    computer = two_clients.fabrikam_computers[0]
    add(installation, AgentComputerData(computer_id=computer, up_time_start="22:00", up_time_end="06:00"))
    monkeypatch.setattr(evaluation_module, "utcnow", lambda: datetime(2026, *moment, tzinfo=UTC))  # type: ignore[arg-type]
    from_query = run(installation, dry_run=True)
    assert len(from_query.skipped) == (4 if left_alone else 0)
    assert all("Europe/Berlin" in (m.skipped or "") for m in from_query.skipped)
    stored = run(installation, "Stored", dry_run=True)
    assert [m.place.id for m in stored.skipped] == ([computer] if left_alone else [])
    assert len(stored.requests) == (0 if left_alone else 4)


def test_hours_that_cannot_be_read_forbid(installation: Installation, two_clients: Any, write_monitor: Write) -> None:
    write_monitor(installation, ALL.replace("FROM", ", 'soon' AS UpTimeStart FROM"))
    assert all("unusable" in (m.skipped or "") for m in run(installation).skipped) and not run(installation).matched


def test_target_groups_and_their_templates(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    first, second = any_two_clients.contoso_computers
    for name in ("Own", "Group", "Other"):
        write_template(any_installation, name, failed=[{"run_script": name}])
    with any_installation.database.session() as session:
        for name, members in (("Servers", [first]), ("Sites", [first, second])):
            group = ComputerGroup(full_name=name)
            session.add(group)
            session.flush()
            assert group.group_id is not None
            session.add_all(ComputerGroupMember(group_id=group.group_id, computer_id=m) for m in members)
    keys = {"alert_template": "Own", "group_alert_templates": {"Servers": "Group"}}
    write_monitor(any_installation, ALL, **keys)
    scripts = {r.target_id: r.script for r in run(any_installation, dry_run=True).requests}
    assert scripts == {first: "Group", second: "Own", **dict.fromkeys(any_two_clients.fabrikam_computers, "Own")}
    write_monitor(any_installation, ALL, target_groups=["Sites"], **keys)
    done = run(any_installation, dry_run=True)
    assert {r.target_id: r.script for r in done.requests} == {first: "Group", second: "Own"}
    assert not done.skipped and not done.dropped
    write_monitor(any_installation, ALL, target_groups=["Sitse"])
    with pytest.raises(MonitorQueryError, match="no target group 'Sitse'"):
        run(any_installation)
    write_monitor(
        any_installation,
        "SELECT 1 AS TestValue, 'x' AS IdentityField, 1 AS ClientID",
        target="client",
        target_groups=["Sites"],
    )
    with pytest.raises(MonitorQueryError, match="groups hold computers"):
        run(any_installation)


def test_every_kind_of_action_for_failed_and_success(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    add(any_installation, SystemProperty(name="_sysOffboardingDefaultEmailAddress", value="msp@example.test"))
    message = {"subject": "%NAME% %STATUS% %COMPUTERNAME%", "body": "{{ alert_body }}"}
    write_template(
        any_installation, "All", both=[{"create_ticket": message}], failed=[{"run_script": "Mend"}, {"raise_alert": message}],
        success=[{"run_script": "Praise"}, {"send_email": message, "to": ["ann@example.test"]}],
    )  # fmt: skip
    write_monitor(
        any_installation, NAMED, alert_template="All", ticket_category="234",
        alert_message="well~~~%FIELDNAME% is well!!!bad~~~%FIELDNAME% is bad: %RESULT%|priority=2",
    )  # fmt: skip
    here = any_two_clients.contoso_computers[0]
    mark(any_installation, here)
    assert [(r.script, r.status) for r in run(any_installation).requests] == [("Mend", "FAILED")]
    mark(any_installation, here, "good")
    done = run(any_installation)
    assert [(r.script, r.status, r.target_id) for r in done.requests] == [("Praise", "SUCCESS", here)]
    with any_installation.database.reading() as session:
        (ticket,) = session.exec(select(Ticket)).all()
        (raised,) = session.exec(select(RaisedAlert)).all()
        (mail,) = session.exec(select(Notification)).all()
    assert (ticket.subject, ticket.body) == ("Test FAILED CONTOSO-PC1", "CONTOSO-PC1 is bad: 1")
    assert (ticket.status, ticket.category, ticket.priority) == ("closed", "234", "2")
    assert (ticket.client_id, ticket.computer_id) == (any_two_clients.contoso, here)
    assert (raised.source, raised.status, raised.target_id) == ("Test", "FAILED", here)
    assert (mail.recipient, mail.subject, mail.body) == (
        "ann@example.test",
        "Test SUCCESS CONTOSO-PC1",
        "CONTOSO-PC1 is well",
    )


def test_mail_is_one_per_client_and_never_mixes_them(
    installation: Installation, two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    add(installation, SystemProperty(name="_sysOffboardingDefaultEmailAddress", value="msp@example.test"))
    write_template(installation, "Mail", failed=[{"send_email": {"subject": "bad: %COMPUTERNAME%", "body": "see it"}}])
    write_monitor(installation, ALL, alert_template="Mail")
    run(installation)
    with installation.database.reading() as session:
        mails = list(session.exec(select(Notification)))
    assert {m.client_id for m in mails} == {two_clients.contoso, two_clients.fabrikam} and len(mails) == 2
    for mail, name in ((m, "CONTOSO" if m.client_id == two_clients.contoso else "FABRIKAM") for m in mails):
        assert f"bad: {name}-PC1" in mail.body and f"bad: {name}-PC2" in mail.body
        assert ("CONTOSO" in mail.body) != ("FABRIKAM" in mail.body)


def test_a_window_puts_a_script_off_and_keeps_an_alert_due(
    installation: Installation,
    two_clients: Any,
    write_monitor: Write,
    write_template: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night = {"from": "22:00", "until": "06:00"}
    message = {"subject": "x"}
    write_template(installation, "Mixed", failed=[{"run_script": "X", "window": night}, {"create_ticket": message}])
    write_template(installation, "Night", failed=[{"raise_alert": message, "window": night}])
    write_monitor(installation, NAMED, name="Mixed", alert_template="Mixed")
    write_monitor(installation, NAMED, name="Night", alert_template="Night")
    mark(installation, two_clients.contoso_computers[0])

    def at(hour: int) -> tuple[Evaluation, Evaluation]:
        monkeypatch.setattr(evaluation_module, "utcnow", lambda: datetime(2026, 5, 1, hour, tzinfo=UTC))
        return run(installation, "Mixed"), run(installation, "Night")

    mixed, night_ = at(12)
    assert not mixed.requests and len(mixed.actions) == 1 and not night_.given
    mixed, night_ = at(13)
    assert not mixed.actions and not night_.given
    mixed, night_ = at(23)
    assert [r.script for r in mixed.requests] == ["X"] and len(mixed.actions) == 1 and len(night_.given) == 1
    assert {a.monitor: a.alert_count for a in alerts(installation)} == {"Mixed": 1, "Night": 1}
    with installation.database.reading() as session:
        assert len(session.exec(select(Ticket)).all()) == 1


def plan_of(installation: Installation, done: Evaluation, leave_out: int | None = None) -> str:
    """Store a plan with one run per request, as the planner does."""
    with installation.database.session() as session:
        plan = Plan(created_by="ann", state="planned")
        session.add(plan)
        if session.get(ScriptRevision, "d") is None:
            session.add(ScriptRevision(digest="d", name="X", content={}))
        session.flush()
        for request in done.requests:
            if request.target_id != leave_out:
                session.add(
                    ScriptRun(
                        plan_id=plan.id, script=f"{request.script} {plan.id}", role="script", revision="d",
                        target_kind="computer", target_id=request.target_id, target_name="x", client_id=1,
                        started_by="ann", state="planned", alert_id=request.alert_id,
                    )
                )  # fmt: skip
        return plan.id


def test_a_script_that_was_not_planned_is_asked_for_again_until_it_is(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    """The process may die between the evaluation and the plan, or the plan may leave a computer out."""
    message = {"subject": "x"}
    write_template(
        any_installation, "Run", failed=[{"run_script": "X"}, {"create_ticket": message}], success=[{"run_script": "Y"}]
    )
    write_monitor(any_installation, NAMED, alert_template="Run")
    here, other = any_two_clients.contoso_computers
    mark(any_installation, here)
    mark(any_installation, other)
    assert len(run(any_installation).requests) == 2
    # Died here. The ticket was written once; only the scripts are asked for again.
    again = run(any_installation)
    assert {r.target_id for r in again.requests} == {here, other} and len(again.actions) == 2
    record_plan(any_installation, "Test", again.given, plan_of(any_installation, again, leave_out=other))
    third = run(any_installation)
    assert [r.target_id for r in third.requests] == [other]
    record_plan(any_installation, "Test", third.given, plan_of(any_installation, third))
    assert not run(any_installation).actions
    assert all(a.alert_count == 1 and a.plan_id for a in alerts(any_installation))
    for computer in (here, other):
        mark(any_installation, computer, "good")
    assert [r.script for r in run(any_installation).requests] == ["Y", "Y"]
    again = run(any_installation)
    assert [(r.script, r.status) for r in again.requests] == [("Y", "SUCCESS")] * 2
    record_plan(any_installation, "Test", again.given, "none")
    assert not run(any_installation).requests
    with any_installation.database.reading() as session:
        assert len(session.exec(select(Ticket)).all()) == 2


def test_run_now_keeps_the_state_and_reset_forgets_it(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write
) -> None:
    write_monitor(any_installation, ALL)
    assert len(run(any_installation).given) == 4
    assert len(run(any_installation).given) == 0
    assert len(run(any_installation, reset=True, dry_run=True).given) == 4
    assert len(run(any_installation, reset=True).given) == 4
    assert len(run(any_installation).given) == 0
    assert sorted(a.closed_because or "" for a in alerts(any_installation)) == ["", "", "", "", *["reset"] * 4]
    with any_installation.database.reading() as session:
        (entry,) = session.exec(select(AuditEntry).where(AuditEntry.action == "monitor.reset")).all()
    assert (entry.actor, entry.object_id, entry.details) == ("ann", "Test", {"alerts_closed": 4})


def test_a_dry_run_changes_nothing(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    message = {"subject": "%COMPUTERNAME%"}
    write_template(
        any_installation, "All", failed=[{"run_script": "X"}, {"create_ticket": message}, {"raise_alert": message}]
    )
    write_monitor(any_installation, ALL, alert_template="All")
    done = run(any_installation, dry_run=True)
    assert (done.opened, len(done.requests), len(done.actions)) == (4, 4, 12)
    with any_installation.database.reading() as session:
        for table in (Alert, FailingRow, MonitorStatus, Ticket, RaisedAlert, Notification):
            assert not session.exec(select(table)).all()


def test_a_query_that_fails_closes_nothing(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write
) -> None:
    write_monitor(any_installation, ALL)
    run(any_installation)
    write_monitor(any_installation, "SELECT 1 AS TestValue FROM nowhere")
    with pytest.raises(MonitorQueryError):
        run(any_installation)
    assert status(any_installation).status == "ERROR" and "nowhere" in (status(any_installation).error or "")
    assert all(a.closed_at is None for a in alerts(any_installation)) and len(alerts(any_installation)) == 4
    write_monitor(any_installation, ALL)
    assert run(any_installation).opened == 0
    assert (status(any_installation).status, status(any_installation).error) == ("FAILED", None)


def test_status_fields(installation: Installation, two_clients: Any, write_monitor: Write) -> None:
    write_monitor(installation, NAMED)
    run(installation)
    before = status(installation)
    assert (before.status, before.fail_count, before.rows, before.last_failed) == ("SUCCESS", 0, 0, None)
    mark(installation, two_clients.fabrikam_computers[0])
    run(installation)
    run(installation)
    after = status(installation)
    assert (after.status, after.fail_count, after.rows, after.scans) == ("FAILED", 2, 1, 3)
    assert after.last_failed == after.last_scan and after.duration_seconds is not None
    mark(installation, two_clients.fabrikam_computers[0], "")
    run(installation)
    assert status(installation).fail_count == 0 and status(installation).last_failed == after.last_failed
    with installation.database.reading() as session:
        assert not session.exec(select(FailingRow)).all()


def test_a_failing_row_keeps_its_beginning(installation: Installation, two_clients: Any, write_monitor: Write) -> None:
    write_monitor(installation, ALL)
    run(installation)
    with installation.database.reading() as session:
        before = {r.target_id: (r.id, r.since) for r in session.exec(select(FailingRow))}
    run(installation)
    with installation.database.reading() as session:
        assert {r.target_id: (r.id, r.since) for r in session.exec(select(FailingRow))} == before


def test_a_computer_that_retires_or_goes_closes_its_alert(
    installation: Installation, two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    write_template(installation, "Ticket", both=[{"create_ticket": {"subject": "%COMPUTERNAME%", "body": "%STATUS%"}}])
    write_monitor(installation, NAMED, alert_template="Ticket")
    here, other = two_clients.contoso_computers
    mark(installation, here)
    mark(installation, other)
    run(installation)
    with installation.database.session() as session:
        session.execute(
            text("UPDATE computers SET retiredat = '2026-01-01 00:00:00' WHERE computerid = :c"), {"c": here}
        )
        session.execute(text("DELETE FROM computers WHERE computerid = :c"), {"c": other})
    done = run(installation)
    assert done.closed == 2 and [o.place.id for o in done.given] == [here]
    assert {a.target_id: a.closed_because for a in alerts(installation)} == {here: "success", other: "gone"}
    with installation.database.reading() as session:
        assert {t.computer_id: t.status for t in session.exec(select(Ticket))} == {here: "closed", other: "open"}


def test_the_same_tick_does_nothing_a_second_time(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    write_template(any_installation, "Run", failed=[{"run_script": "X"}])
    write_monitor(any_installation, ALL, alert_template="Run")
    first = run(any_installation, tick="monitor:Test:1")
    second = run(any_installation, tick="monitor:Test:1")
    assert len(first.requests) == 4 and second.repeated and not second.requests
    assert not run(any_installation, tick="monitor:Test:2").repeated


def test_evaluations_at_the_same_time_alert_once(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    write_template(any_installation, "Raise", failed=[{"raise_alert": {"subject": "x"}}])
    write_monitor(any_installation, ALL, alert_template="Raise")
    given: list[int] = []
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def one() -> None:
        barrier.wait(120)
        try:
            given.append(len(run(any_installation).given))
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert not errors and sum(given) == 4 and len(alerts(any_installation)) == 4


def test_rows_from_before_another_scan_are_not_stored(
    installation: Installation, two_clients: Any, write_monitor: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query ran, then somebody cleared the row and another scan was stored: the old row must not alert."""
    write_monitor(installation, NAMED)
    here = two_clients.contoso_computers[0]
    mark(installation, here)
    original = evaluation_module.scope_rows
    calls = []

    def slow(*arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        scoped = original(*arguments, **keywords)
        if len(calls) == 1:
            mark(installation, here, "good")
            run(installation)
        return scoped

    monkeypatch.setattr(evaluation_module, "scope_rows", slow)
    assert not run(installation).matched
    assert not alerts(installation)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"alert_template": "Nobody"}, "alert template is missing"),
        ({"alert_message": "%COMPUTERNAME%{{ nobody }}"}, "nobody"),
        ({"group_alert_templates": {"x": "Nobody"}}, "alert template is missing"),
    ],
)
def test_a_fault_of_the_content_is_found_before_the_query_runs(
    installation: Installation, two_clients: Any, write_monitor: Write, keys: dict[str, Any], reason: str
) -> None:
    write_monitor(installation, ALL, **keys)
    with pytest.raises(ContentError, match=reason) as error:
        run(installation)
    assert error.value.file.endswith("test.yaml")
    assert status(installation).status == "ERROR" and not alerts(installation)


def test_a_template_that_does_not_fit_the_target_is_named(
    installation: Installation, two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    write_template(installation, "Ticket", both=[{"create_ticket": {"subject": "%COMPUTERNAME%"}}])
    sql = "SELECT 1 AS TestValue, name AS IdentityField, clientid FROM clients"
    write_monitor(installation, sql, target="client", alert_template="Ticket")
    with pytest.raises(ContentError, match="client alert does not have"):
        run(installation)


def test_a_missing_column_in_a_message_stores_nothing(
    installation: Installation, two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    write_template(installation, "Ticket", failed=[{"create_ticket": {"subject": "{{ row.nothing }}"}}])
    write_monitor(installation, ALL, alert_template="Ticket")
    with pytest.raises(Exception, match="nothing"):
        run(installation)
    assert not alerts(installation) and status(installation).status == "ERROR"


def test_an_unknown_monitor(installation: Installation) -> None:
    with pytest.raises(NotFound):
        run(installation, "Nobody")


def test_names_of_every_kind_go_through(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, write_template: Write
) -> None:
    evil = "PC'\"; DROP TABLE computers; -- $(reboot) `id` {{ 7*7 }} %RESULT% \u202e Ünï\n😀"
    with any_installation.database.session() as session:
        found = session.get(Computer, any_two_clients.contoso_computers[0])
        assert found is not None
        found.name, found.user_name = evil, "bad"
    add(any_installation, SystemProperty(name="_sysOffboardingDefaultEmailAddress", value="msp@example.test"))
    message = {"subject": "%COMPUTERNAME%", "body": "%FIELDNAME%"}
    write_template(
        any_installation, "All", failed=[{"create_ticket": message}, {"send_email": message}, {"raise_alert": message}]
    )
    write_monitor(any_installation, NAMED, alert_template="All")
    run(any_installation)
    run(any_installation)
    (alert,) = alerts(any_installation)
    assert alert.identity == evil
    with any_installation.database.reading() as session:
        (ticket,) = session.exec(select(Ticket)).all()
        (mail,) = session.exec(select(Notification)).all()
    assert (
        "\n" not in ticket.subject + mail.subject and "{{ 7*7 }} %RESULT%" in ticket.subject and "49" not in ticket.body
    )
