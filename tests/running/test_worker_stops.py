"""A worker that stops: it begins nothing, ends what it has begun, and stops when its store is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from postgres import PostgresServer
from sqlmodel import col, select

from agent.installation import Installation
from agent.model.runs import RunState, ScriptRun
from agent.running import verbs
from agent.running.engine import EnginePort, EngineWorker
from agent.running.planning import StoredPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.worker import Worker
from agent.settings import Settings


def until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def planned(installation: Installation, computer: int) -> StoredPlan:
    request = RunRequest("Slow", "computer", computer, {})
    return store_plan(installation, draft_plan(installation, [request], PlanOrigin("tester")))


def states(installation: Installation, ids: tuple[str, ...]) -> set[str]:
    with installation.database.reading() as session:
        return set(session.exec(select(ScriptRun.state).where(col(ScriptRun.id).in_(ids))))


def test_a_worker_that_stops_ends_what_it_has_begun_and_begins_nothing(
    installation: Installation, two_clients: Any, write_script: Any, tmp_path: Path
) -> None:
    body = f"touch {tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done\n"
    write_script("slow", "name: Slow\nbody: a.sh\n", {"a.sh": body})
    installation = Installation(installation.settings.model_copy(update={"concurrency_total": 1}))
    worker = Worker(installation)
    with worker:
        first = planned(installation, two_clients.contoso_computers[0])
        verbs.release(installation, worker.port, first.id, actor="tester")
        until((tmp_path / "begun").exists)
        second = planned(installation, two_clients.fabrikam_computers[0])
        verbs.release(installation, worker.port, second.id, actor="tester")

        def let_go() -> None:
            assert worker.dispatcher._stopping.wait(180)
            (tmp_path / "go").touch()

        threading.Thread(target=let_go).start()
    assert states(installation, first.run_ids) == {RunState.SUCCEEDED}
    assert states(installation, second.run_ids) == {RunState.QUEUED}
    port = EnginePort(installation.settings)
    calls = {(call.client_id, call.executor) for call in port.calls()}
    assert (two_clients.fabrikam, None) in calls and {executor for _, executor in calls} == {None}
    port.close()
    installation.database.close()


def test_a_worker_stops_though_its_store_is_gone(settings: Settings, postgres_server: PostgresServer) -> None:
    name = postgres_server.create()
    worker = EngineWorker(settings.model_copy(update={"database_url": postgres_server.url(name)}), lambda client: None)
    worker.start()
    assert worker._client.list_workflows() == []
    postgres_server.drop(name)
    worker.stop()
