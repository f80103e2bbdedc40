"""The worker is killed (SIGKILL) before and after every write of a run; the end must equal that of an undisturbed run.

The worker runs in a forked process, and the kill is counted in commits of either database: the inventory's and the
engine's. What is done on the target is counted by the bodies themselves, in a file that each of them appends to.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlmodel import select

from agent.audit import verify
from agent.installation import Installation
from agent.model.administration import AuditEntry
from agent.model.runs import RunStep, ScriptRun
from agent.model.tickets import Ticket
from agent.running import verbs
from agent.running.engine import EnginePort
from agent.running.planning import draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.worker import Worker

if TYPE_CHECKING:
    from conftest import Places

#: Kill points are spread over so many tests, so that they run beside each other.
PARTS = 4
WRAPPER = """name: Crash Wrapper
role: wrapper
exclusive: true
steps:
  - {name: One, script: One}
  - {name: Two, script: Two}
  - name: Ticket
    function: ticket.create
    with: {subject: "About %computername%", body: "done: @Success@"}
"""
CHILD = """name: {name}
parameters: {{Folder: {{default: "{folder}"}}}}
body: act.sh
verify: {{body: check.sh}}
repeatable: true
"""
#: One write does it and counts it: a body that is killed with its worker has done both or none.
ACT = 'echo x >> "$EXEUNT_FOLDER/{name}.acted"'
CHECK = 'test -s "$EXEUNT_FOLDER/{name}.acted"'


class Killer:
    """Kills this process at the n-th point; a point lies before and after each commit that has written something."""

    def __init__(self, at: int | None, counter: Path) -> None:
        self.at, self.counter, self.points = at, counter, 0
        self.lock = threading.Lock()
        self.wrote: set[int] = set()
        event.listen(Engine, "after_cursor_execute", self._note)
        self.commit = DefaultDialect.do_commit
        DefaultDialect.do_commit = lambda dialect, given: self._commit(dialect, given)  # type: ignore[method-assign]

    def _note(self, connection: Connection, cursor: Any, statement: str, *rest: object) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE") and cursor.rowcount != 0:
            self.wrote.add(id(connection.connection.dbapi_connection))

    def _commit(self, dialect: DefaultDialect, given: Any) -> None:
        driver = getattr(given, "dbapi_connection", given)
        wrote = id(driver) in self.wrote
        if wrote:
            self.wrote.discard(id(driver))
            self._point()
        self.commit(dialect, given)
        if wrote:
            self._point()

    def _point(self) -> None:
        with self.lock:
            self.points += 1
            # At once: the process may end while another thread writes this.
            self.counter.with_suffix(".new").write_text(str(self.points))
            self.counter.with_suffix(".new").replace(self.counter)
            if self.points == self.at:
                os.kill(os.getpid(), signal.SIGKILL)


def _work(installation: Installation, run_id: str, kill_at: int | None, counter: Path) -> None:
    """In a forked process: execute until the run is over."""
    installation = Installation(installation.settings)
    Killer(kill_at, counter)
    with Worker(installation):
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with installation.database.reading() as session:
                run = session.get(ScriptRun, run_id)
            if run is not None and run.finished_at is not None:
                break
            time.sleep(0.02)


def _forked(*given: Any) -> int:
    """Run `_work` in a child; returns its wait status."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        try:
            _work(*given)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return status


def _start(installation: Installation, computer: int, folder: Path) -> str:
    """A fresh run of the wrapper, released."""
    for name in ("One", "Two"):
        (folder / f"{name}.acted").unlink(missing_ok=True)
    stored = store_plan(
        installation,
        draft_plan(installation, [RunRequest("Crash Wrapper", "computer", computer)], PlanOrigin("tester")),
    )
    port = EnginePort(installation.settings)
    verbs.release(installation, port, stored.id, actor="tester")
    port.close()
    return stored.run_ids[0]


def _end_state(installation: Installation, run_id: str, folder: Path) -> dict[str, Any]:
    """What an observer can tell after the run, without ids, times and counts of attempts."""
    with installation.database.session() as session:
        run = session.get(ScriptRun, run_id)
        assert run is not None
        steps = session.exec(select(RunStep).where(RunStep.root_id == run_id)).all()
        tickets = session.exec(select(Ticket).where(Ticket.computer_id == run.target_id)).all()
        finishes = session.exec(
            select(AuditEntry).where(AuditEntry.action == "run.finish", AuditEntry.object_id == run_id)
        ).all()
        assert verify(session) == []
        return {
            "state": run.state,
            "result": run.result,
            "steps": [(s.name, s.state) for s in sorted(steps, key=lambda s: s.ordinal)],
            "done": sorted(p.name for p in folder.glob("*.acted")),
            "tickets": [(t.subject, t.body) for t in tickets],
            "finished": len(finishes),
        }


@pytest.fixture
def crash_scripts(write_script, tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    for name in ("One", "Two"):
        bodies = {"act.sh": ACT.format(name=name), "check.sh": CHECK.format(name=name)}
        write_script(name.lower(), CHILD.format(name=name, folder=folder), bodies)
    write_script("crash", WRAPPER)
    return folder


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_write_the_end_is_that_of_an_undisturbed_run(
    installation: Installation, two_clients: Places, crash_scripts: Path, tmp_path: Path, part: int
) -> None:
    counter = tmp_path / "points"
    computer = two_clients.contoso_computers[0]
    run_id = _start(installation, computer, crash_scripts)
    assert _forked(installation, run_id, None, counter) == 0
    expected = _end_state(installation, run_id, crash_scripts)
    assert expected["state"] == "succeeded"
    points = int(counter.read_text())
    killed = 0
    for at in range(1 + part, points + 1, PARTS):
        _close_tickets(installation)
        run_id = _start(installation, computer, crash_scripts)
        status = _forked(installation, run_id, at, counter)
        killed += os.WIFSIGNALED(status)
        assert _forked(installation, run_id, None, counter) == 0
        acted = {name: (crash_scripts / f"{name}.acted").read_text().count("x") for name in ("One", "Two")}
        assert max(acted.values()) == 1, f"killed at write {at}, a body was run again although it was done: {acted}"
        assert _end_state(installation, run_id, crash_scripts) == expected, f"killed at write {at}"
    assert killed, "nothing was killed: the points are not reached any more"
    with installation.database.reading() as session:
        assert {r.client_id for r in session.exec(select(ScriptRun))} == {two_clients.contoso}


def _close_tickets(installation: Installation) -> None:
    with installation.database.session() as session:
        for ticket in session.exec(select(Ticket)):
            session.delete(ticket)
