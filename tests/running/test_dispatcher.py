"""Clients served by a worker: limits and turns, what breaks off, the bell, and transitions that share a transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import col, select

from agent.errors import StoreError
from agent.installation import Installation
from agent.model.places import Computer
from agent.model.runs import RunState, RunStep, ScriptRun, StepState
from agent.running import recovery, verbs
from agent.running.commits import GroupCommit, SupersededError
from agent.running.dispatcher import Dispatcher
from agent.running.doorbell import Doorbell
from agent.running.engine import EnginePort
from agent.running.executor import Executor
from agent.running.liveness import Liveness, alone
from agent.running.planning import StoredPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.tree import load_trees
from agent.running.worker import Worker


def until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def planned(installation: Installation, script: str, computers: list[int], **parameters: str) -> StoredPlan:
    requests = [RunRequest(script, "computer", c, parameters) for c in computers]
    return store_plan(installation, draft_plan(installation, requests, PlanOrigin("tester")))


def states(installation: Installation, ids: tuple[str, ...]) -> set[str]:
    with installation.database.reading() as session:
        return set(session.exec(select(ScriptRun.state).where(col(ScriptRun.id).in_(ids))))


@pytest.fixture
def more_computers(installation: Installation, two_clients: Any) -> dict[int, list[int]]:
    """Six local computers each of both clients: ids by client."""
    sites = {
        two_clients.contoso: two_clients.contoso_computers[0],
        two_clients.fabrikam: two_clients.fabrikam_computers[0],
    }
    with installation.database.session() as session:
        for client, like in sites.items():
            site = session.get(Computer, like)
            assert site is not None
            for number in range(6):
                session.add(
                    Computer(
                        client_id=client, location_id=site.location_id, external_id=f"more-{client}-{number}",
                        name=f"more-{number}", platform="linux", transport="local",
                    )
                )  # fmt: skip
    with installation.database.reading() as session:
        found = session.exec(select(Computer).where(col(Computer.external_id).startswith("more-"))).all()
    return {client: [c.computer_id for c in found if c.client_id == client and c.computer_id] for client in sites}


def test_both_limits_hold_and_no_client_waits_for_the_other(
    installation: Installation, more_computers: dict[int, list[int]], write_script: Any, tmp_path: Path
) -> None:
    # Nothing goes on before both are released: the first one's bodies may be over while the second is still planned.
    gate = f"while [ ! -e {tmp_path}/both ]; do sleep 0.05; done"
    body = f'{gate}; echo "+ $EXEUNT_CLIENT" >> {tmp_path}/log; sleep 0.2; echo "- $EXEUNT_CLIENT" >> {tmp_path}/log\n'
    write_script("slow", "name: Slow\nparameters: {Client: {required: true}}\nbody: a.sh\n", {"a.sh": body})
    limits = {"concurrency_total": 3, "concurrency_per_client": 2}
    installation = Installation(installation.settings.model_copy(update=limits))
    first, second = more_computers
    with Worker(installation) as worker:
        plans = [
            planned(installation, "Slow", more_computers[client], Client=str(client)) for client in (first, second)
        ]
        for plan in plans:
            verbs.release(installation, worker.port, plan.id, actor="tester")
        (tmp_path / "both").touch()
        ids = tuple(run for plan in plans for run in plan.run_ids)
        until(lambda: states(installation, ids) == {RunState.SUCCEEDED})
    installation.database.close()
    running: dict[str, int] = {}
    order = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    for sign, client in order:
        running[client] = running.get(client, 0) + (1 if sign == "+" else -1)
        assert running[client] <= 2 and sum(running.values()) <= 3, order
    begun = [client for sign, client in order if sign == "+"]
    assert len(begun) == 12 and str(second) in begun[:6], f"the second client waited for the first: {begun}"


def test_a_run_that_breaks_off_is_taken_up_again(
    installation: Installation, two_clients: Any, write_script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_script("work", "name: Work\nbody: a.sh\n", {"a.sh": "echo done"})
    really, broken = Executor.execute_loaded, []

    def breaks_once(self: Executor, tree: Any, *rest: Any) -> None:
        if not broken:
            broken.append(tree.root.id)
            raise StoreError("the database does not work")
        really(self, tree, *rest)

    monkeypatch.setattr(Executor, "execute_loaded", breaks_once)
    stored = planned(installation, "Work", [two_clients.contoso_computers[0]])
    with Worker(installation) as worker:
        verbs.release(installation, worker.port, stored.id, actor="tester")
        until(lambda: states(installation, stored.run_ids) == {RunState.SUCCEEDED})
    with installation.database.reading() as session:
        run = session.get(ScriptRun, stored.run_ids[0])
    assert run is not None and (run.recoveries, run.segment) == (1, 1)


def test_the_bell_brings_a_worker_that_was_told_nothing_else(
    installation: Installation, two_clients: Any, write_script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "GRACE", 3600.0)
    write_script("work", "name: Work\nbody: a.sh\n", {"a.sh": "echo done"})
    bell = Doorbell(installation.settings)
    assert not bell.rung()
    with Worker(installation):
        for computer in two_clients.contoso_computers:
            stored = planned(installation, "Work", [computer])
            verbs.release(installation, bell, stored.id, actor="tester")
            until(lambda ids=stored.run_ids: states(installation, ids) == {RunState.SUCCEEDED})  # type: ignore[misc]
    assert bell.rung() and not bell.rung()


def test_transitions_of_one_moment_share_a_transaction_and_fail_alone(
    installation: Installation, two_clients: Any, write_script: Any
) -> None:
    write_script("work", "name: Work\nbody: a.sh\n", {"a.sh": "echo done"})
    computers = [*two_clients.contoso_computers, two_clients.fabrikam_computers[0]]
    stored = planned(installation, "Work", computers)
    verbs.release(installation, Doorbell(installation.settings), stored.id, actor="tester")
    with installation.database.reading() as session:
        trees = load_trees(session, stored.run_ids)
    assert recovery.take_over(installation, trees[0].root.id, 0)
    executor = Executor(installation, Doorbell(installation.settings))  # type: ignore[arg-type]
    commits: GroupCommit = executor._commits
    made, written = [], []
    event.listen(installation.database.engine, "commit", lambda connection: written.append(connection))

    def begin(tree: Any) -> None:
        try:
            made.append(executor._advance(tree))
        except SupersededError as error:
            made.append(error)

    deciding, go_on = threading.Event(), threading.Event()

    def slow(row: Any, changes: Any) -> None:
        deciding.set()
        assert go_on.wait(240)

    threads = [threading.Thread(target=commits.make, args=(trees[2], slow))]
    threads[0].start()
    assert deciding.wait(240)
    for tree in trees:
        threads.append(threading.Thread(target=begin, args=(tree,)))
        threads[-1].start()
    until(lambda: len(commits._waiting) == len(trees))
    go_on.set()
    for thread in threads:
        thread.join(240)
    assert not any(thread.is_alive() for thread in threads)
    assert len(written) == 2, "those that waited for the first were not written together"
    assert [isinstance(m, SupersededError) for m in made].count(True) == 1
    with installation.database.reading() as session:
        found = {s.root_id: s.state for s in session.exec(select(RunStep))}
    assert found == {
        trees[0].root.id: StepState.WAITING, trees[1].root.id: StepState.RUNNING, trees[2].root.id: StepState.RUNNING
    }  # fmt: skip


def test_a_transition_that_fails_lets_the_next_ones_be_made(
    installation: Installation, two_clients: Any, write_script: Any
) -> None:
    write_script("work", "name: Work\nbody: a.sh\n", {"a.sh": "echo done"})
    stored = planned(installation, "Work", two_clients.contoso_computers)
    with installation.database.reading() as session:
        trees = load_trees(session, stored.run_ids)
    commits = GroupCommit(installation.database)
    deciding, go_on = threading.Event(), threading.Event()
    told: list[object] = []

    def broken(row: Any, changes: Any) -> None:
        deciding.set()
        assert go_on.wait(240)
        raise ZeroDivisionError

    def make(decide: Any, tree: Any) -> None:
        try:
            told.append(commits.make(tree, decide))
        except ZeroDivisionError:
            told.append("broken")

    threads = [threading.Thread(target=make, args=(broken, trees[0]))]
    threads[0].start()
    assert deciding.wait(240)
    threads += [threading.Thread(target=make, args=(lambda row, changes: "made", tree)) for tree in trees * 8]
    for thread in threads[1:]:
        thread.start()
    until(lambda: len(commits._waiting) == len(threads) - 1)
    go_on.set()
    for thread in threads:
        thread.join(240)
    assert sorted(map(str, told)) == ["broken", *["made"] * 8 * len(trees)]
    assert commits.make(trees[0], lambda row, changes: "later") == "later", "nobody leads any more"


def test_a_worker_serves_a_client_only_while_no_other_one_does(
    installation: Installation, two_clients: Any, write_script: Any
) -> None:
    write_script("work", "name: Work\nbody: a.sh\n", {"a.sh": "echo done"})
    served, ended = threading.Event(), threading.Event()

    def elsewhere() -> None:
        with alone(installation.settings, two_clients.contoso, threading.Event()):
            served.set()
            ended.wait(240)

    other = threading.Thread(target=elsewhere)
    other.start()
    assert served.wait(240)
    with Worker(installation) as worker:
        stored = [
            planned(installation, "Work", [c[0]])
            for c in (two_clients.contoso_computers, two_clients.fabrikam_computers)
        ]
        for each in stored:
            verbs.release(installation, worker.port, each.id, actor="tester")
        until(lambda: states(installation, stored[1].run_ids) == {RunState.SUCCEEDED})
        assert states(installation, stored[0].run_ids) == {RunState.QUEUED}, "two workers serve one client"
        ended.set()
        until(lambda: states(installation, stored[0].run_ids) == {RunState.SUCCEEDED})
    other.join(240)


def test_a_run_that_is_rung_for_is_begun_though_an_older_call_waits_in_the_queue(
    installation: Installation, two_clients: Any, write_script: Any
) -> None:
    write_script("work", "name: Work\nbody: a.sh\n", {"a.sh": "echo done"})
    port, told = EnginePort(installation.settings), []
    stored = planned(installation, "Work", two_clients.contoso_computers[:1])
    verbs.release(installation, port, stored.id, actor="tester")
    port.on_call = told.append
    assert recovery.reconcile(installation, port, Liveness(installation), at_once=True) == []
    assert told == [{two_clients.contoso}]
    port.close()


def test_a_plan_of_many_clients_begins_with_no_more_of_them_than_may_execute(installation: Installation) -> None:
    settings = installation.settings.model_copy(update={"concurrency_total": 3})
    port = EnginePort(settings)
    executor = Executor(Installation(settings), port)
    dispatcher = Dispatcher(Installation(settings), port, executor)
    going, most, served, go_on = set[int](), [0], list[int](), threading.Event()

    def serve(client_id: int) -> None:
        going.add(client_id)
        most[0] = max(most[0], len(going))
        assert go_on.wait(240)
        going.discard(client_id)
        served.append(client_id)

    dispatcher.serve = serve  # type: ignore[method-assign]
    dispatcher.serve_now(range(1, 101))
    until(lambda: len(going) == 3)
    go_on.set()
    until(lambda: len(served) == 100)
    assert most == [3] and sorted(served) == list(range(1, 101))
    until(lambda: not dispatcher._early)
