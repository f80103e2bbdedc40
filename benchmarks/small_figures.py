"""Single figures of the worker: Run Now to first step, idle memory, memory for a large output, start of the command."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from measuring import Sample, Target, folder, heading, in_fresh_process, line, print_targets, seconds
from workspace import add_fleet, add_script, installation_in, wait_for_plan

FSYNC = "FULL"
#: Stands for the worker's process where the command line is not asked: enters the context and waits.
_WORKER = """
import sys, threading
from pathlib import Path
from agent.cli.logs import configure
from agent.installation import open_installation
from agent.running.worker import Worker
configure("ERROR")
with Worker(open_installation(Path(sys.argv[1]))):
    print("ready", flush=True)
    sys.stdin.read()
"""


def run_now(*, quick: bool) -> list[Target]:
    """From Run Now to the first step's start, with an idle worker in a process of its own."""
    tries = 8 if quick else 50
    by_verb, by_command = in_fresh_process(_run_now, tries)
    heading(f"Run Now to first step started, idle worker in another process, synchronous={FSYNC}")
    for name, sample in (
        ("as the console does it, by the verb", by_verb),
        ("`exeunt monitor run`, Python's start included", by_command),
    ):
        line(name, sample)
        line("  95th percentile", f"{sample.percentile(0.95):.3f} s")
    targets = [
        Target("Run Now to first step, 95th percentile", by_verb.percentile(0.95), 1.0, "s"),
        Target("  the same by the command line", by_command.percentile(0.95), 1.0, "s"),
    ]
    print_targets(targets)
    return targets


def _run_now(tries: int) -> tuple[Sample, Sample]:
    from agent.monitoring.dispatching import run_monitor

    with folder() as place:
        workspace = place / "workspace"
        installation = installation_in(workspace, sqlite_synchronous=FSYNC)
        add_fleet(installation, 1000)
        add_script(installation, "nothing", "name: Nothing\nbody: body.sh\n", body="true\n")
        for path, text in {
            "monitors/now.yaml": "name: Now\ninterval: 1 days\nalert_style: send fail after success\ntarget: computer\n"
            "sql: now.sql\nalert_template: Now\n",
            "monitors/now.sql": "SELECT '1' AS TestValue, name AS IdentityField, computerid AS ComputerID "
            "FROM computers WHERE computerid = 7\n",
            "alert_templates/now.yaml": "name: Now\nguid: 3f6c0c36-6a2f-4a54-9d2b-6f2a2a4f7c11\nfailed:\n  - run_script: Nothing\nsuccess: []\n",
        }.items():
            (workspace / "content" / path).parent.mkdir(parents=True, exist_ok=True)
            (workspace / "content" / path).write_text(text)
        installation.content.reload()
        program = str(Path(sys.executable).with_name("exeunt"))
        command = [program, "--workspace", str(workspace), "--user", "benchmark"]
        by_verb, by_command = [], []
        with worker_process(workspace):
            # The console's process has imported everything by its first Run Now; a command's has not.
            warm = run_monitor(installation, "Now", actor="benchmark", reset=True, confirmed=True)
            _first_step(installation, warm.stored.id if warm.stored else "")
            for number in range(tries):
                asked = time.time()
                done = run_monitor(installation, "Now", actor="benchmark", reset=True, confirmed=True)
                assert done.stored is not None, done
                by_verb.append(_first_step(installation, done.stored.id) - asked)
                if number % 5 == 0:
                    asked = time.time()
                    subprocess.run(
                        [*command, "monitor", "run", "Now", "--reset", "--yes", "--json"],
                        check=True,
                        capture_output=True,
                    )
                    by_command.append(_first_step(installation, _last_plan(installation)) - asked)
        installation.database.close()
    return Sample.of(by_verb), Sample.of(by_command)


def _first_step(installation: Any, plan: str) -> float:
    """Time at which the first step of a plan was claimed, once its runs are over."""
    from sqlmodel import col, select

    from agent.model.runs import RunStep, ScriptRun

    wait_for_plan(installation, plan, limit=60)
    with installation.database.reading() as session:
        query = select(RunStep.started_at).join(ScriptRun, col(ScriptRun.id) == col(RunStep.root_id))
        return min(t.timestamp() for t in session.exec(query.where(ScriptRun.plan_id == plan)) if t)


def _last_plan(installation: Any) -> str:
    from sqlmodel import col, select

    from agent.model.runs import Plan

    with installation.database.reading() as session:
        return str(session.exec(select(Plan.id).order_by(col(Plan.created_at).desc()).limit(1)).one())


@contextmanager
def worker_process(workspace: Path) -> Iterator[psutil.Process]:
    """A worker in a process of its own; ended when its standard input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(workspace)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield psutil.Process(process.pid)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def idle(*, quick: bool) -> list[Target]:
    """Memory of an idle worker: what `exeunt worker` runs, with the monitors' clock where the command line has it."""
    rest = 3 if quick else 20
    heading(f"an idle worker, {rest} s after its start")
    found: dict[str, Sample] = {}
    for name, serve in (("worker alone", worker_process), ("`exeunt worker`", _worker_command)):
        values, threads, cpu = [], 0, 0.0
        for _ in range(1 if quick else 3):
            with folder() as place:
                installation = installation_in(place / "workspace", sqlite_synchronous=FSYNC)
                add_fleet(installation, 1000)
                installation.database.close()
                with serve(place / "workspace") as process:
                    time.sleep(rest / 2)
                    before = process.cpu_times()
                    time.sleep(rest / 2)
                    after = process.cpu_times()
                    cpu = 100 * (after.user + after.system - before.user - before.system) / (rest / 2)
                    values.append(process.memory_info().rss / 1e6)
                    threads = process.num_threads()
        found[name] = Sample.of(values, "MB")
        line(f"{name}: resident memory", found[name])
        line(f"{name}: threads, CPU while idle", f"{threads}, {cpu:.1f} % of a core")
    targets = [Target(f"resident memory, {name}", s.median, 150, "MB") for name, s in found.items()]
    print_targets(targets)
    return targets


@contextmanager
def _worker_command(workspace: Path) -> Iterator[psutil.Process]:
    program = Path(sys.executable).with_name("exeunt")
    process = subprocess.Popen([program, "--workspace", str(workspace), "worker"], stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        assert process.poll() is None, "`exeunt worker` ended by itself"
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def output(*, quick: bool) -> list[Target]:
    """Peak memory while a body writes much."""
    megabytes = 20 if quick else 100
    results = [in_fresh_process(_output, megabytes) for _ in range(1 if quick else 3)]
    heading(f"a local body that writes {megabytes} MB")
    growth = Sample.of([r["growth"] for r in results], "MB")
    line("growth of peak resident memory", growth)
    line("time", Sample.of([r["seconds"] for r in results]))
    line("kept in the database, in the file", f"{results[0]['kept']:.0f} bytes, {results[0]['file'] / 1e6:.0f} MB")
    targets = [Target(f"growth of memory by {megabytes} MB of output", growth.median, 10, "MB")]
    print_targets(targets)
    return targets


def _output(megabytes: int) -> dict[str, float]:
    from agent.transports.base import Body
    from agent.transports.local import LocalTransport
    from agent.transports.output import OutputCollector

    transport, settings = LocalTransport(), (65_536, 1 << 30)
    with folder() as place:
        for name, size in (("first", 1), ("large", megabytes)):
            body = Body(f"head -c {size}000000 /dev/zero | tr '\\0' 'x'\n", "sh", time_limit=600)
            before = _peak()
            collector = OutputCollector(place, name, *settings, ["a secret that is masked"])
            took = seconds(lambda body=body, collector=collector: transport.run(body, collector))  # type: ignore[misc]
            stdout = collector.finish()["stdout"]
        assert stdout["bytes"] == megabytes * 1_000_000, stdout["bytes"]
        size = sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
    return {"growth": _peak() - before, "seconds": took, "kept": len(stdout["text"]), "file": size}


def _peak() -> float:
    """Peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def start(*, quick: bool) -> list[Target]:
    """How long the command takes to answer."""
    program = str(Path(sys.executable).with_name("exeunt"))
    tries = 5 if quick else 20
    heading("start of the command line")
    found = {}
    for name, arguments in (("python -c pass", [sys.executable, "-c", "pass"]), ("exeunt --help", [program, "--help"])):
        values = [seconds(lambda a=arguments: subprocess.run(a, check=True, capture_output=True)) for _ in range(tries)]  # type: ignore[misc]
        found[name] = Sample.of(values)
        line(name, found[name])
    targets = [Target("`exeunt --help`", found["exeunt --help"].median, 0.3, "s")]
    print_targets(targets)
    return targets
