"""Ticks, who ticks, and what a failing monitor does to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from structlog.testing import capture_logs

from agent.errors import StoreError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.monitors import MonitorStatus
from agent.monitoring.evaluation import Evaluation
from agent.monitoring.leadership import AdvisoryLeader
from agent.monitoring.listing import set_enabled
from agent.monitoring.scheduler import MonitorScheduler
from agent.monitoring.ticks import first_tick, latest_tick, tick_id

Write = Callable[..., None]
ALL = "SELECT 1 AS TestValue, name AS IdentityField, computerid AS ComputerID FROM computers"
names = st.text(min_size=1, max_size=20)
intervals = st.integers(1, 90 * 86400).map(lambda seconds: timedelta(seconds=seconds))
moments = st.integers(0, 10**9).map(lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds / 7))


@given(names, intervals, moments, st.floats(0, 5))
def test_ticks_lie_on_one_grid(name: str, interval: timedelta, now: datetime, later: float) -> None:
    tick = latest_tick(name, interval, now)
    slack = timedelta(milliseconds=1)
    assert tick - slack <= now < tick + interval + slack
    after = latest_tick(name, interval, now + interval * later)
    steps = (after - tick) / interval
    assert abs(steps - round(steps)) * interval < slack and round(steps) in (int(later), int(later) + 1)
    assert tick_id(name, tick).startswith(f"monitor:{name}:2")


@given(names, intervals, moments, st.floats(0, 3))
def test_a_missed_tick_is_made_up_for_once_and_a_done_one_is_not(
    name: str, interval: timedelta, now: datetime, ago: float
) -> None:
    last = now - interval * ago
    first = first_tick(name, interval, last, now)
    missed = last < latest_tick(name, interval, now)
    assert (first <= now + timedelta(milliseconds=1)) == missed
    assert first_tick(name, interval, None, now) == latest_tick(name, interval, now)


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.02)


@contextmanager
def ticking(installation: Installation, take: Callable[[Evaluation], object]) -> Iterator[MonitorScheduler]:
    scheduler = MonitorScheduler(installation, take, refresh_seconds=0.2)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.stop()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test's own monitors: the shipped ones would tick too."""
    from agent import shipped
    from agent.content.repository import ContentRepository

    original = ContentRepository.monitors
    folder = shipped.path("monitors")
    monkeypatch.setattr(
        ContentRepository, "monitors", lambda self: [m for m in original(self) if m.file.parent != folder]
    )


def status(installation: Installation, name: str) -> MonitorStatus | None:
    with installation.database.reading() as session:
        return session.get(MonitorStatus, name)


def test_monitors_tick_at_their_interval_with_distinct_ticks(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, quiet: None
) -> None:
    write_monitor(any_installation, ALL, interval="1")
    taken: list[Evaluation] = []
    with ticking(any_installation, taken.append):
        until(lambda: len(taken) >= 3)
    ticks = [e.tick for e in taken]
    assert len(set(ticks)) == len(ticks) and all(t and t.startswith("monitor:Test:") for t in ticks)
    assert taken[0].actor == "system" and taken[0].opened == 4 and taken[1].opened == 0
    found = status(any_installation, "Test")
    assert found is not None and found.next_scan is not None and found.last_scan is not None
    count = len(taken)
    until(lambda: not any(t.name.startswith("APScheduler") for t in threading.enumerate()))
    assert len(taken) == count


def test_a_monitor_that_fails_stops_nobody(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, quiet: None
) -> None:
    write_monitor(any_installation, "SELECT 1 AS TestValue FROM nowhere", name="Broken", interval="1")
    write_monitor(any_installation, ALL, name="Unlucky", interval="1")
    write_monitor(any_installation, ALL, name="Bug", interval="1")
    write_monitor(any_installation, ALL, name="Good", interval="1")
    taken: list[str] = []

    def take(evaluation: Evaluation) -> None:
        if evaluation.monitor == "Unlucky":
            raise StoreError("the plan cannot be stored")
        if evaluation.monitor == "Bug":
            raise ZeroDivisionError("a mistake of ours")
        taken.append(evaluation.monitor)

    told: dict[str, str] = {}

    def all_told() -> bool:
        # Each is kept once seen: an evaluation that went well clears the error until its plan fails again.
        for name in ("Broken", "Unlucky", "Bug"):
            found = status(any_installation, name)
            if found is not None and found.error:
                told[name] = found.error
        return len(told) == 3

    with ticking(any_installation, take):
        until(lambda: taken.count("Good") >= 2 and all_told())
    assert "nowhere" in told["Broken"]
    assert "cannot be stored" in told["Unlucky"] and "a mistake of ours" in told["Bug"]
    good = status(any_installation, "Good")
    assert good is not None and good.error is None


def test_switching_off_and_on_and_changing_the_interval(
    installation: Installation, two_clients: Any, write_monitor: Write, quiet: None
) -> None:
    # So long that no further tick comes during the test: they lie on a grid, not an interval after the start.
    write_monitor(installation, ALL, name="On", interval="100000 days")
    write_monitor(installation, ALL, name="Off", interval="100000 days", enabled=False)
    taken: list[str] = []
    with ticking(installation, lambda e: taken.append(e.monitor)) as scheduler:
        until(lambda: taken == ["On"])
        assert scheduler.scheduled == {"On"}
        set_enabled(installation, "Off", True, actor="ann")
        until(lambda: taken == ["On", "Off"])
        set_enabled(installation, "On", False, actor="ann")
        until(lambda: scheduler.scheduled == {"Off"})
        until(lambda: (found := status(installation, "On")) is not None and found.next_scan is None)
        write_monitor(installation, ALL, name="Off", interval="1", enabled=False)
        until(lambda: taken.count("Off") >= 3)


def test_a_restart_does_not_run_what_is_not_due(
    installation: Installation, two_clients: Any, write_monitor: Write, quiet: None
) -> None:
    write_monitor(installation, ALL, interval="100000 days")
    taken: list[Evaluation] = []
    with ticking(installation, taken.append):
        until(lambda: len(taken) == 1)
    with ticking(installation, taken.append) as scheduler:
        until(lambda: scheduler.scheduled == {"Test"})
        found = status(installation, "Test")
        assert found is not None and found.next_scan is not None and found.next_scan > utcnow()
    assert len(taken) == 1


@pytest.mark.parametrize("any_installation", ["postgresql"], indirect=True)
def test_on_postgresql_one_process_ticks_and_another_takes_over(
    any_installation: Installation, any_two_clients: Any, write_monitor: Write, quiet: None
) -> None:
    write_monitor(any_installation, ALL, interval="1")
    second = Installation(any_installation.settings)
    taken: list[tuple[str, str | None]] = []
    with ticking(any_installation, lambda e: taken.append(("first", e.tick))) as first:
        until(lambda: len(taken) >= 1)
        with ticking(second, lambda e: taken.append(("second", e.tick))) as other:
            until(lambda: len(taken) >= 3)
            assert other.scheduled == frozenset() and {who for who, _ in taken} == {"first"}
            # The first one is cut off, as by a lost network: its session and so its lock are gone.
            with any_installation.database.session() as session:
                session.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
                    )
                )
            first.stop()
            until(lambda: "second" in {who for who, _ in taken})
    ticks = [tick for _, tick in taken]
    assert len(ticks) == len(set(ticks))
    second.database.close()


@pytest.mark.parametrize("any_installation", ["postgresql"], indirect=True)
def test_a_lost_lock_is_noticed(any_installation: Installation) -> None:
    # Two processes have two pools of connections; in one pool a lock that was not given back would look free.
    other = Installation(any_installation.settings)
    one, two = AdvisoryLeader(any_installation.database), AdvisoryLeader(other.database)
    assert one.held() and one.held() and not two.held()
    with any_installation.database.session() as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
        )
    until(two.held)
    assert not one.held() and not one.held() and two.held()
    two.release()
    until(one.held)
    one.release()
    other.database.close()


def test_a_file_that_does_not_load_is_told_once(
    any_installation: Installation, write_monitor: Write, quiet: None
) -> None:
    """Its monitor does not run, and neither does the shipped one of its name: that shall not go unseen."""
    write_monitor(any_installation, ALL, interval="soon")
    scheduler = MonitorScheduler(any_installation, lambda _: None)
    with capture_logs() as logs:
        for _ in range(2):
            scheduler._reloaded_at = datetime.min.replace(tzinfo=UTC)
            scheduler.refresh()
    scheduler.stop()
    (told,) = [entry for entry in logs if "does not run" in entry["event"]]
    assert told["log_level"] == "error" and "interval: 'soon' is not a length of time" in told["fault"]
