"""Runs of five steps through the whole dispatch, beside DBOS alone doing the same five steps.

Both work in a fresh process, with the same number of threads, the same fsync policy and SQLite files on the same disk.
What is stored: ours, the plan with every resolved parameter, and for each step a claim before and a result after it, an
audit entry at the start and the end of each run, and the engine's own record of the segment; DBOS alone, its workflow and
one row per step result.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
from measuring import Sample, Target, folder, heading, in_fresh_process, line, print_targets, ratio
from workspace import add_fleet, add_script, check_states, installation_in, running_worker, wait_for_plan

STEPS = 5
THREADS = 8
FSYNC = "FULL"
#: Over which the computers are spread; the queue is divided by client.
CLIENTS = 10
BODY = "true\n"
FUNCTION = "bench.nothing"


def run(*, quick: bool) -> list[Target]:
    """Prints the figures; returns the targets."""
    number, repetitions = (40, 1) if quick else (1000, 3)
    targets = []
    for kind, what in (
        ("body", "each step a local process `sh`"),
        ("function", "each step a function that does nothing"),
    ):
        ours, alone = [], []
        for repetition in range(repetitions):
            sides = [(ours, _ours), (alone, _dbos_alone)]
            for found, side in sides if repetition % 2 == 0 else sides[::-1]:
                found.append(in_fresh_process(side, kind, number))
        heading(
            f"{number} runs of {STEPS} steps, {what}; {THREADS} threads, {CLIENTS} clients, WAL, synchronous={FSYNC}"
        )
        for name, results in (("Exeunt", ours), ("DBOS alone", alone)):
            line(f"{name}: from the first request to the last result", _sample(results, "total"))
            line(f"{name}:   of which execution, all queued already", _sample(results, "executing"))
            line(f"{name}:   runs per second", _sample([{"r": number / r["total"]} for r in results], "r", ""))
            line(f"{name}:   CPU per run, with children", _sample(results, "cpu", "ms"))
        targets.append(
            Target(f"{what}: Exeunt to DBOS alone", ratio(_sample(ours, "total"), _sample(alone, "total")), 1.5)
        )
        targets.append(
            Target("  the same, execution only", ratio(_sample(ours, "executing"), _sample(alone, "executing")), 1.5)
        )
    print_targets(targets)
    return targets


def _sample(results: list[dict[str, float]], name: str, unit: str = "s") -> Sample:
    return Sample.of([r[name] for r in results], unit)


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _ours(kind: str, number: int) -> dict[str, float]:
    """Plan, release and execute; the worker is there and idle when it begins."""
    from agent.functions import registry
    from agent.running import verbs
    from agent.running.planning import draft_plan, store_plan
    from agent.running.requests import PlanOrigin, RunRequest

    registry.BUILT_IN[FUNCTION] = "local_runs_function:Nothing"
    with folder() as place:
        installation = installation_in(
            place / "workspace", sqlite_synchronous=FSYNC, concurrency_total=THREADS, concurrency_per_client=THREADS
        )
        add_fleet(installation, number, clients=CLIENTS)
        step = "script: Body" if kind == "body" else f"function: {FUNCTION}"
        steps = "".join(f"  - {{name: Step {n}, {step}}}\n" for n in range(STEPS))
        add_script(installation, "body", "name: Body\nrole: child\nbody: body.sh\n", body=BODY)
        add_script(installation, "five", f"name: Five\nsteps:\n{steps}")
        with running_worker(installation) as worker:
            cpu, started = _cpu(), time.perf_counter()
            requests = [RunRequest("Five", "computer", computer) for computer in range(1, number + 1)]
            stored = store_plan(installation, draft_plan(installation, requests, PlanOrigin("benchmark")))
            planned = time.perf_counter()
            verbs.release(installation, worker.port, stored.id, actor="benchmark")
            wait_for_plan(installation, stored.id)
            ended = time.perf_counter()
            cpu = _cpu() - cpu
        check_states(installation, stored.id, number)
        installation.database.close()
    return {"total": ended - started, "executing": ended - planned, "cpu": 1000 * cpu / number}


def _dbos_alone(kind: str, number: int) -> dict[str, float]:
    """Enqueue and execute with `@DBOS.step`; launched and idle when it begins."""
    from dbos import DBOS, DBOSPortableJSONSerializer

    @DBOS.step()
    def step(number: int) -> int:
        if kind == "body":
            subprocess.run(["/bin/sh"], input=BODY.encode(), capture_output=True, check=True)
        return number

    @DBOS.workflow(name="five")
    def five() -> int:
        return sum(step(n) for n in range(STEPS))

    with folder() as place:
        DBOS(config={**_config(place), "serializer": DBOSPortableJSONSerializer()})
        DBOS.launch()
        DBOS.register_queue("bench", worker_concurrency=THREADS, polling_interval_sec=0.1)
        time.sleep(0.5)
        cpu, started = _cpu(), time.perf_counter()
        handles = [DBOS.enqueue_workflow("bench", five) for _ in range(number)]
        queued = time.perf_counter()
        assert all(handle.get_result(polling_interval_sec=0.05) == sum(range(STEPS)) for handle in handles)
        ended = time.perf_counter()
        cpu = _cpu() - cpu
        DBOS.destroy()
    return {"total": ended - started, "executing": ended - queued, "cpu": 1000 * cpu / number}


def _config(place: Path) -> Any:
    """The engine as Exeunt sets it up: WAL, the same fsync policy, the same pool of threads."""
    from sqlalchemy import create_engine, event

    engine = create_engine(f"sqlite:///{place / 'dbos.db'}", connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        for pragma in ("busy_timeout=30000", "journal_mode=wal", f"synchronous={FSYNC}"):
            connection.execute("pragma " + pragma)

    return {
        "name": "bench", "system_database_engine": engine, "application_version": "1", "executor_id": "bench",
        "log_level": "ERROR", "max_executor_threads": THREADS + 4, "use_listen_notify": False,
    }  # fmt: skip
