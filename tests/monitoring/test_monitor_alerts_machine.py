"""Alerts over any history: rows that come and go, time that passes, resets, skips, retirement, crashes before the plan."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlmodel import select

from agent.content.alert_styles import AlertStyle, next_due, parse_style
from agent.installation import Installation
from agent.model.monitors import Alert
from agent.monitoring import evaluation
from agent.monitoring.evaluation import evaluate

SQL = "SELECT version AS TestValue, name AS IdentityField, computerid AS ComputerID FROM software"
STYLES = [0, 1, 8, 11]
HOURS = st.sampled_from([1, 23, 24, 25, 24 * 30, 24 * 365, 24 * 366])
Key = tuple[int, str]


@pytest.fixture
def monitors(installation: Installation, two_clients: object) -> Installation:
    """One monitor per style over the same rows."""
    folder = installation.settings.workspace / "content" / "monitors"
    folder.mkdir(parents=True)
    (folder / "software.sql").write_text(SQL, encoding="utf-8")
    for style in STYLES:
        content = {"name": f"Style {style}", "interval": "60", "sql": "software.sql", "alert_style": style}
        (folder / f"style_{style}.yaml").write_text(json.dumps(content), encoding="utf-8")
    return installation


class Alerts(RuleBasedStateMachine):
    """What is asked of every history; `given` holds the times at which each key was alerted since the last reset."""

    installation: Installation

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.style: AlertStyle = parse_style(0)
        self.given: dict[Key, list[datetime]] = {}
        #: Keys whose row was seen gone since they were last alerted.
        self.recovered: set[Key] = set()
        self.retired: set[int] = set()
        self.scanned = False
        with self.installation.database.session() as session:
            for table in ("software", "alert", "monitor_failing_row", "monitor_status", "agentcomputerdata"):
                session.execute(text(f"DELETE FROM {table}"))
            session.execute(text("UPDATE computers SET retiredat = NULL"))

    def execute(self, sql: str, **values: object) -> None:
        with self.installation.database.session() as session:
            session.execute(text(sql), values)
        self.scanned = False

    @initialize(style=st.sampled_from(STYLES))
    def choose(self, style: int) -> None:
        self.style = parse_style(style)

    @rule(rows=st.sets(st.tuples(st.integers(1, 3), st.sampled_from(["a", "b"])), max_size=4), hours=HOURS)
    def rows_are(self, rows: set[Key], hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.execute("DELETE FROM software")
        for computer, name in sorted(rows):
            sql = "INSERT INTO software (computerid, name, version, publisher, uninstallstring) VALUES (:c, :n, '1', '', '')"
            self.execute(sql, c=computer, n=name)
        self.scan()

    @rule(hours=HOURS)
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.scan()

    @rule(computer=st.integers(1, 3))
    def no_alerts(self, computer: int) -> None:
        sql = (
            "INSERT INTO agentcomputerdata (computerid, noalerts) VALUES (:c, TRUE) "
            "ON CONFLICT (computerid) DO UPDATE SET noalerts = NOT agentcomputerdata.noalerts"
        )
        self.execute(sql, c=computer)
        self.scan()

    @rule(computer=st.integers(1, 3))
    def retire_or_return(self, computer: int) -> None:
        sql = (
            "UPDATE computers SET retiredat = CASE WHEN retiredat IS NULL THEN '2026-01-01 00:00:00.000000' END "
            "WHERE computerid = :c"
        )
        self.execute(sql, c=computer)
        self.retired ^= {computer}
        self.scan()

    @rule()
    def reset(self) -> None:
        self.scan(reset=True)

    def scan(self, *, reset: bool = False) -> None:
        self.now += timedelta(seconds=1)
        open_before = set() if reset else self.open_keys()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluation, "utcnow", lambda: self.now)
            preview = evaluate(self.installation, f"Style {self.style.number}", actor="test", dry_run=True, reset=reset)
            done = evaluate(self.installation, f"Style {self.style.number}", actor="test", reset=reset)
        assert [(o.place.id, o.identity, o.status) for o in preview.given] == [
            (o.place.id, o.identity, o.status) for o in done.given
        ]
        assert (preview.opened, preview.closed) == (done.opened, done.closed)
        if reset:
            self.given, self.recovered = {}, set()
        there = {m.key for m in done.matched}
        skipped = {m.key for m in done.skipped}
        alerted = {(o.place.id, o.identity) for o in done.given if o.status == "FAILED"}
        assert alerted <= there
        for key in there:
            self.check(key, key in alerted)
        for key in alerted:
            self.given.setdefault(key, []).append(self.now)
            self.recovered.discard(key)
        self.recovered |= set(self.given) - there - skipped
        assert not self.retired & {target_id for target_id, _ in there | skipped}
        # What is left alone is not taken for recovered, and nothing is opened for it.
        assert self.open_keys() & skipped == open_before & skipped
        self.scanned, self.there, self.skipped = True, there, skipped

    def open_keys(self) -> set[Key]:
        with self.installation.database.reading() as session:
            return {(a.target_id, a.identity) for a in session.exec(select(Alert)) if a.closed_at is None}

    def check(self, key: Key, alerted: bool) -> None:
        """Alerted exactly when the style permits it: neither too often, nor forgotten."""
        before = self.given.get(key)
        if not before:
            assert alerted
        elif self.style.number == 0:
            assert alerted == (key in self.recovered)
        else:
            due = next_due(self.style, before[-1])
            assert due is not None and alerted == (self.now >= due)

    @invariant()
    def one_open_alert_per_key(self) -> None:
        with self.installation.database.reading() as session:
            open_alerts = [a for a in session.exec(select(Alert)) if a.closed_at is None]
        keys = [(a.target_id, a.identity) for a in open_alerts]
        assert len(keys) == len(set(keys))
        assert all(target_id in (1, 2, 3) for target_id, _ in keys)

    @precondition(lambda self: self.scanned)
    @invariant()
    def open_alerts_are_the_rows_of_the_last_scan(self) -> None:
        assert self.there <= self.open_keys() <= self.there | self.skipped


def test_alerts_over_any_history(monitors: Installation) -> None:
    Alerts.installation = monitors
    # Without shrinking: each step is a whole evaluation, and a failure would take minutes.
    bounds = hypothesis_settings(
        max_examples=40, stateful_step_count=25, deadline=None, phases=(Phase.reuse, Phase.generate)
    )
    run_state_machine_as_test(Alerts, settings=bounds)
