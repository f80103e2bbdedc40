"""Several workers on PostgreSQL: limits hold over all of them, and what a killed one leaves another one finishes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlmodel import select

from agent.installation import Installation
from agent.model.runs import RunState, RunStep, ScriptRun, StepState
from agent.running import verbs
from agent.running.engine import EnginePort
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.worker import Worker


def _fork_worker(installation: Installation) -> int:
    """A worker in a process of its own, until it is killed or ten minutes have passed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        try:
            with Worker(Installation(installation.settings)):
                time.sleep(600)
        finally:
            os._exit(0)
    return child


def _until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _release(installation: Installation, script: str, computers: list[int]) -> list[str]:
    port = EnginePort(installation.settings)
    requests = [RunRequest(script, "computer", c) for c in computers]
    stored = store_plan(installation, draft_plan(installation, requests, PlanOrigin("tester")))
    ids = verbs.release(installation, port, stored.id, actor="tester")
    port.close()
    return ids


def _states(installation: Installation, ids: list[str]) -> list[str]:
    with installation.database.reading() as session:
        return [r.state for i in ids if (r := session.get(ScriptRun, i)) is not None]


@pytest.mark.parametrize("any_installation", ["postgresql"], indirect=True)
def test_another_worker_finishes_what_a_killed_one_began(
    any_installation: Installation, any_two_clients, tmp_path: Path
) -> None:
    installation = any_installation
    gate = tmp_path / "gate"
    folder = installation.settings.workspace / "content" / "scripts"
    for name, body in {
        "one": f"echo x >> {tmp_path}/one",
        "two": f"echo x >> {tmp_path}/two; while ! test -e {gate}; do sleep 0.05; done",
    }.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "script.yaml").write_text(f"name: {name.capitalize()}\nbody: a.sh\nrepeatable: true\n")
        (folder / name / "a.sh").write_text(body)
    (folder / "both").mkdir()
    (folder / "both" / "script.yaml").write_text(
        "name: Both\nsteps:\n  - {name: First, script: One}\n  - {name: Second, script: Two}\n"
    )
    first = _fork_worker(installation)
    try:
        ids = _release(installation, "Both", [any_two_clients.contoso_computers[0]])
        _until(lambda: (tmp_path / "two").exists())
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    assert _states(installation, ids) == [RunState.RUNNING]
    gate.touch()
    with Worker(installation):
        _until(lambda: _states(installation, ids) == [RunState.SUCCEEDED])
    assert (tmp_path / "one").read_text() == "x\n", "a finished step was run again"
    assert (tmp_path / "two").read_text() == "x\nx\n"
    with installation.database.reading() as session:
        steps = session.exec(select(RunStep).where(RunStep.root_id == ids[0])).all()
        assert {s.state for s in steps} == {StepState.SUCCEEDED}
        assert {r.client_id for r in session.exec(select(ScriptRun))} == {any_two_clients.contoso}
