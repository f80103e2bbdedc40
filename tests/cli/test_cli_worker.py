"""`exeunt worker` as a process of its own: it executes, ticks the monitors, and stops in order."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import Cli

Child = Callable[..., None]


@contextmanager
def worker(cli: Cli, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = cli.process("worker", *options)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "the worker is ready" in line:
                break
        else:
            pytest.fail("the worker ended before it was ready")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=180)


def wait_for(question: Callable[[], bool], seconds: float = 180.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order_and_releases_its_lock(fleet: Cli, number: signal.Signals) -> None:
    with worker(fleet, "--no-monitors", "--no-probe") as process:
        assert next(f["state"] for f in fleet.json("doctor") if f["check"] == "worker") == "ok"
        process.send_signal(number)
        _, told = process.communicate(timeout=180)
        assert process.returncode == 0, told
    events = [json.loads(line)["event"] for line in told.splitlines() if line.startswith("{")]
    assert events[-1] == "worker_stopped" and "Traceback" not in told
    assert next(f["state"] for f in fleet.json("doctor") if f["check"] == "worker") == "warning"


def test_waiting_leaves_the_work_to_a_worker_that_is_alive(fleet: Cli, child: Child, tmp_path: Path) -> None:
    # The body itself tells who has started it: while it runs, all of them are there.
    child(
        f"at=$$\nwhile [ $at -gt 1 ]; do echo $at; read -r stat < /proc/$at/stat; set -- ${{stat##*) }}; at=$2; done"
        f" > {tmp_path}/ancestors"
    )
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con1")
    with worker(fleet, "--no-monitors", "--no-probe") as process:
        found = fleet.json("monitor", "run", "Offboarding", "--yes", "--wait")
        assert [r["state"] for r in found["runs"]] == ["succeeded"]
        assert str(process.pid) in (tmp_path / "ancestors").read_text().split()


def test_a_ticking_monitor_starts_nothing_before_a_person_has_confirmed_it(fleet: Cli, child: Child) -> None:
    child("exit 0")
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con1")
    with worker(fleet):
        wait_for(lambda: bool(fleet.json("run", "plans", "--state", "held")))
        (plan,) = fleet.json("run", "plans")
        assert [h["guardrail"] for h in plan["holds"]] == ["first_run"] and plan["created_by"] == "system"
        fleet("run", "approve", plan["id"], "--reason", "looked at it", "--wait")
    assert [r["state"] for r in fleet.json("run", "list")] == ["succeeded"]
    assert fleet.json("run", "list", "--client", "fabrikam") == []
    assert fleet.json("monitor", "show", "Offboarding")["confirmed_by"] == "tester"


def test_a_run_under_way_is_brought_to_its_end(fleet: Cli, child: Child, tmp_path: Path) -> None:
    child(f"touch {tmp_path}/began; sleep 2; touch {tmp_path}/ended")
    fleet("edf", "set", "Offboard Computer", "1", "--computer", "con1")
    with worker(fleet, "--no-monitors", "--no-probe") as process:
        fleet("monitor", "run", "Offboarding", "--yes")
        wait_for((tmp_path / "began").exists)
        process.terminate()
        process.communicate(timeout=180)
        assert process.returncode == 0
    assert (tmp_path / "ended").exists()
    assert [r["state"] for r in fleet.json("run", "list")] == ["succeeded"]
