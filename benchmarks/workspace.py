"""Workspaces for the benchmarks: an installation, a fleet made by bulk SQL, scripts and waiting for runs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from agent.cli.logs import configure
from agent.installation import Installation
from agent.model.base import utcnow
from agent.settings import Settings


def installation_in(folder: Path, **settings: Any) -> Installation:
    """An initialised installation that logs errors only."""
    configure("ERROR")
    folder.mkdir(parents=True, exist_ok=True)
    made = Installation(Settings(workspace=folder, secrets_key_source="file", log_level="ERROR", **settings))
    made.database.initialise()
    return made


def add_fleet(installation: Installation, computers: int, *, clients: int = 100, **columns: Any) -> None:
    """Clients with four locations each, and computers in contact just now. `columns` are set on every computer (transport, port, ...)."""
    given = {"platform": "linux", "os": "Debian GNU/Linux 12", "transport": "local", **columns}
    names = "".join(f", {name}" for name in given)
    places = "".join(f", :{name}" for name in given)
    locations = 4 * clients
    counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :last)"
    with installation.database.session() as session:
        session.execute(
            text(
                f"{counting} INSERT INTO clients (clientid, externalid, name, slug) "
                "SELECT i, 'client-' || i, 'Client ' || i, 'client-' || i FROM n"
            ),
            {"last": clients},
        )
        session.execute(
            text(
                f"{counting} INSERT INTO locations (locationid, clientid, externalid, name) "
                f"SELECT i, 1 + i % {clients}, 'location-' || i, 'Location ' || i FROM n"
            ),
            {"last": locations},
        )
        now = utcnow().strftime("%Y-%m-%d %H:%M:%S.%f")
        session.execute(
            text(
                f"{counting} INSERT INTO computers (computerid, clientid, locationid, externalid, name, lastcontact, "
                f"dateadded{names}) SELECT i, 1 + (1 + i % {locations}) % {clients}, 1 + i % {locations}, "
                f"'computer-' || i, 'PC-' || i, :now, :now{places} FROM n"
            ),
            {"last": computers, "now": now, **given},
        )
        session.execute(text("ANALYZE"))


def flag(installation: Installation, computers: Sequence[int]) -> None:
    """Tick `Offboard Computer`."""
    with installation.database.session() as session:
        for computer in computers:
            session.execute(
                text(
                    "INSERT INTO extrafielddata (extrafieldid, id, value) "
                    "SELECT id, :computer, '1' FROM extrafield WHERE form = 1 AND name = 'Offboard Computer'"
                ),
                {"computer": computer},
            )


def add_script(installation: Installation, folder: str, definition: str, **bodies: str) -> None:
    """A script of the workspace's own; `bodies` by file name without `.sh`."""
    place = installation.settings.workspace / "content" / "scripts" / folder
    place.mkdir(parents=True)
    (place / "script.yaml").write_text(definition, encoding="utf-8")
    for name, body in bodies.items():
        (place / f"{name}.sh").write_text(body, encoding="utf-8")
    installation.content.reload()


def wait_for_plan(installation: Installation, plan_id: str, *, limit: float = 1800.0, look: float = 0.01) -> None:
    """Wait until all root runs of a plan are over. Raises TimeoutError.

    By a connection of its own to SQLite: looking must cost next to nothing, since it is measured along.
    """
    deadline = time.monotonic() + limit
    unfinished = "SELECT 1 FROM script_run WHERE plan_id = ? AND parent_id IS NULL AND finished_at IS NULL LIMIT 1"
    with closing(sqlite3.connect(installation.settings.workspace / "inventory.db")) as connection:
        while connection.execute(unfinished, (plan_id,)).fetchone() is not None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the runs of plan {plan_id} are not over after {limit:g} s")
            time.sleep(look)


def check_states(installation: Installation, plan_id: str, expected: int) -> None:
    """Raises AssertionError unless all runs succeeded and each step has its stored result: nobody measures a failure."""
    with installation.database.reading() as session:
        runs = session.execute(
            text("SELECT state, count(*) FROM script_run WHERE plan_id = :p AND parent_id IS NULL GROUP BY state"),
            {"p": plan_id},
        ).all()
        steps = session.execute(
            text(
                "SELECT s.state, count(*) FROM run_step s JOIN script_run r ON r.id = s.root_id "
                "WHERE r.plan_id = :p GROUP BY s.state"
            ),
            {"p": plan_id},
        ).all()
    assert [tuple(r) for r in runs] == [("succeeded", expected)], (runs, steps)
    assert [s for s, _ in steps] == ["succeeded"], steps


@contextmanager
def running_worker(installation: Installation) -> Iterator[Any]:
    """A worker in this process, started as `exeunt worker` starts it, and idle."""
    from agent.running.worker import Worker, settle

    with Worker(installation) as worker:
        settle()
        time.sleep(0.5)
        yield worker
