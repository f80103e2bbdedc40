"""The local transport: real processes, their ends, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transport_help import Collecting, command_lines, limit_when, seconds, sleeping, wait_for

from agent.errors import CannotRun, TimeLimitReached, UsageError
from agent.transports.base import Body
from agent.transports.local import LocalOptions, LocalTransport
from agent.transports.registry import connect

SHOW_SH = """
printf '%s' "$EXEUNT_TEXT"
"""
SHOW_PY = "import json, sys\nsys.stdout.buffer.write(json.load(sys.stdin)['text'].encode())\n"
ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=200)
AWKWARD = [
    "", " ", "-n", "--help", "it's", '"', "$(touch /tmp/exeunt-owned)", "`id`", "a\nb\n\n", "\n", "\\", "\\n\\0101", "%s%n",
    "ä€😀", "\x81\x88", "!!", "*", "~", "a\rb\r\n", "\x1b[31m", ";", "&&", "\t", "=", "EXEUNT_TEXT", "\x01\x7f",
]  # fmt: skip


@pytest.fixture
def local() -> Iterator[LocalTransport]:
    transport = LocalTransport(LocalOptions(grace_seconds=0.5))
    yield transport
    transport.close()


Limit = Callable[[Callable[[], object]], None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """`limit(when)`: a body that has begun reaches its time limit as soon as that is true, and not before."""
    return lambda when: limit_when(monkeypatch, when)


def test_streams_and_exit_code_come_apart(local: LocalTransport, output: Collecting) -> None:
    done = output(local, Body("echo out; echo err >&2; exit 7", "sh"))
    assert (done.code, done.stdout, done.stderr) == (7, "out\n", "err\n")
    done = output(local, Body("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(7)", "py"))
    assert (done.code, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert done.execution.started_at <= done.execution.finished_at


def test_a_body_starts_clean(local: LocalTransport, output: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXEUNT_SECRETS_KEY", "the master key")
    monkeypatch.setenv("PYTHONPATH", "/tmp")
    done = output(local, Body('env; echo "$# $0"; read -r line || echo nothing; set', "sh", tag="run:1"))
    assert "the master key" not in done.stdout and "PYTHONPATH" not in done.stdout
    assert "0 run:1\n" in done.stdout and "nothing" in done.stdout and "LANG=C.UTF-8" in done.stdout
    assert done.stderr == ""


def test_a_python_body_is_a_main_program(local: LocalTransport, output: Collecting) -> None:
    text = """
import sys, json, dataclasses, pickle
@dataclasses.dataclass
class Point:
    x: int
if __name__ == "__main__":
    parameters = json.load(sys.stdin)
    print(pickle.loads(pickle.dumps(Point(parameters["x"]))), sys.argv, input_left := sys.stdin.read())
    raise ValueError("no")
"""
    done = output(local, Body(text, "py", {"x": 4}))
    assert done.stdout == "Point(x=4) ['exeunt'] \n" and done.code == 1
    assert done.stderr.startswith("Traceback") and 'File "exeunt", line 9' in done.stderr


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_any_text_arrives_byte_for_byte(local: LocalTransport, output: Collecting, text: str) -> None:
    for language, body in (("sh", SHOW_SH), ("py", SHOW_PY)):
        done = output(local, Body(body, language, {"text": text}))  # type: ignore[arg-type]
        assert done.bytes("stdout") == text.encode() and done.code == 0, done.stderr


def test_awkward_texts_arrive_byte_for_byte(local: LocalTransport, output: Collecting) -> None:
    parameters = {f"n{number}": text for number, text in enumerate(AWKWARD)}
    every = "".join(f"printf '%s\\037' \"$EXEUNT_N{number}\"\n" for number in range(len(AWKWARD)))
    done = output(local, Body(every, "sh", parameters))
    assert done.bytes("stdout") == b"".join(text.encode() + b"\x1f" for text in AWKWARD)
    assert not Path("/tmp/exeunt-owned").exists()


def test_values_of_other_types(local: LocalTransport, output: Collecting) -> None:
    values: dict[str, Any] = {
        "user name": "a", "count": 3, "share": 0.5, "yes": True, "no": False, "list": ["a b", 1], "map": {"k": "ü"}, "gone": None,
    }  # fmt: skip
    done = output(local, Body("env | grep ^EXEUNT_ | sort", "sh", values, {"token": "tok3n-value"}))
    assert done.stdout.splitlines() == [
        "EXEUNT_COUNT=3", 'EXEUNT_LIST=["a b", 1]', 'EXEUNT_MAP={"k": "ü"}', "EXEUNT_NO=0", "EXEUNT_SHARE=0.5",
        "EXEUNT_TOKEN=***", "EXEUNT_USER_NAME=a", "EXEUNT_YES=1",
    ]  # fmt: skip
    done = output(local, Body("import sys; print(sys.stdin.read())", "py", values))
    assert json.loads(done.stdout) == values


@pytest.mark.parametrize(
    ("parameters", "secrets", "reason"),
    [
        ({"a": "x\0y"}, {}, "NUL"),
        ({"a b": 1, "a-b": 2}, {}, "both be EXEUNT_A_B"),
        ({"token": "x"}, {"Token": "y"}, "both be EXEUNT_TOKEN"),
        ({"": 1}, {}, "without a name"),
        ({"a": float("nan")}, {}, "not a finite number"),
        ({"a": "\ud800"}, {}, "not Unicode"),
        ({"a": object()}, {}, "cannot be passed"),
        ({"a": "x" * 130_000}, {}, "120000"),
    ],
)
def test_what_cannot_be_bound_is_refused(
    local: LocalTransport, output: Collecting, parameters: dict[str, Any], secrets: dict[str, str], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        output(local, Body("true", "sh", parameters, secrets))


def test_a_tag_is_no_command(local: LocalTransport, output: Collecting) -> None:
    with pytest.raises(UsageError, match="tag"):
        output(local, Body("true", "sh", tag="a'; touch /tmp/x; '"))


def test_secrets_are_neither_on_command_lines_nor_in_output(
    local: LocalTransport, output: Collecting, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "S3cret-'\"\\-welcome"
    flag = tmp_path / "flag"
    text = 'printf "%s\\n" "$EXEUNT_PASSWORD"; while [ ! -e "$EXEUNT_FLAG" ]; do sleep 0.05; done; head -c 200000 /dev/zero | tr "\\000" "$EXEUNT_PASSWORD"; echo "$EXEUNT_PASSWORD"'  # noqa: E501
    lines: list[str] = []

    def look() -> None:
        wait_for(lambda: any("exeunt-look" in line for line in command_lines()))
        for _ in range(20):
            lines.extend(command_lines())
        flag.touch()

    looking = threading.Thread(target=look)
    looking.start()
    body = Body(text, "sh", {"flag": str(flag)}, {"password": secret}, tag="exeunt-look")
    done = output(local, body)
    looking.join()
    assert any("exeunt-look" in line for line in lines)
    assert not any("S3cret" in line for line in lines)
    assert done.code == 0 and done.stdout.startswith("***\n")
    stored = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert secret not in stored + str(done.result) + caplog.text
    assert "S3cret" not in repr(body)


@pytest.mark.parametrize(
    ("text", "sleeps"),
    [
        ("trap '' TERM; sleep 1000 & sleep 1000", 2),
        ("trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >&2; sleep 1000' & while :; do sleep 1; done", 1),
        ("(trap '' TERM INT HUP; while :; do sleep 1; done) & wait", 0),
        ("(sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' &); sh -c 'sleep 1000'", 2),
    ],
)
def test_the_time_limit_ends_the_whole_tree(
    local: LocalTransport, output: Collecting, limit: Limit, text: str, sleeps: int
) -> None:
    before, children = started_by_test(), set[psutil.Process]()
    text = text.replace("1000", number := str(time.monotonic_ns()))

    def all_began() -> bool:
        now = started_by_test() - before
        children.update(now)
        return len(now) >= 3 and any(is_sleep(process) for process in now) and len(sleeping(number)) == sleeps

    limit(all_began)
    with pytest.raises(TimeLimitReached, match="at its time limit"):
        output(local, Body("echo begun\n" + text, "sh"))
    assert output.last.stdout == "begun\n"
    assert len(children) >= 3
    wait_for(lambda: not any(alive(child) for child in children))
    wait_for(lambda: not any(number in line for line in command_lines()))


def started_by_test() -> set[psutil.Process]:
    """Others of this process may be there as well: a fixture's server, a browser."""
    return set(psutil.Process().children(recursive=True))


def is_sleep(process: psutil.Process) -> bool:
    try:
        return process.name() == "sleep"
    except psutil.NoSuchProcess:
        return False


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_body_that_cleans_up_at_sigterm_is_let(output: Collecting, limit: Limit) -> None:
    patient, before = LocalTransport(LocalOptions(grace_seconds=60)), started_by_test()
    limit(lambda: any(is_sleep(process) for process in started_by_test() - before))
    with pytest.raises(TimeLimitReached):
        output(patient, Body("trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.1; done", "sh"))
    assert output.last.stdout == "cleaned\n"


def test_a_child_that_holds_the_pipes_does_not_hang_us(local: LocalTransport, output: Collecting) -> None:
    began, number = time.monotonic(), seconds()
    done = output(local, Body(f"sleep {number} & echo done", "sh", time_limit=50))
    assert done.stdout == "done\n" and time.monotonic() - began < 30
    for process in sleeping(number):
        process.kill()


@pytest.mark.parametrize("how", ["setsid sh -c", "nohup sh -c"])
def test_detached_work_outlives_the_body(local: LocalTransport, output: Collecting, tmp_path: Path, how: str) -> None:
    go, did = tmp_path / "go", tmp_path / "did"
    text = f"""{how} 'while [ ! -e "$EXEUNT_GO" ]; do sleep 0.05; done; echo yes > "$EXEUNT_DID"' </dev/null >/dev/null 2>&1 &"""
    done = output(local, Body(text, "sh", {"go": str(go), "did": str(did)}))
    assert done.code == 0 and not did.exists()
    go.touch()
    wait_for(did.exists)


@pytest.mark.parametrize(("language", "text"), [
    ("sh", "kill -KILL $$"), ("sh", "sh -c 'kill -KILL $PPID'"), ("py", "import os; os.kill(os.getpid(), 9)"),
])  # fmt: skip
def test_a_body_ended_by_a_signal_gives_128_and_its_number(
    local: LocalTransport, output: Collecting, language: Any, text: str
) -> None:
    assert output(local, Body(text, language)).code == 128 + signal.SIGKILL


@pytest.mark.parametrize("language", ["sh", "py"])
def test_a_body_does_not_go_on_without_its_worker(tmp_path: Path, language: str) -> None:
    pids = tmp_path / "pids"
    text = {
        "sh": 'echo $$ > "$EXEUNT_PIDS.new"; mv "$EXEUNT_PIDS.new" "$EXEUNT_PIDS"; trap "" TERM; sleep 1000; sleep 1000',
        "py": "import json,sys,os,subprocess\np=json.load(sys.stdin)['pids']\nopen(p+'.new','w').write(str(os.getpid()))\n"
        "os.rename(p+'.new',p)\nsubprocess.run(['sleep','1000'])",
    }[language]
    worker = subprocess.Popen(
        [sys.executable, "-c", f"""
import pathlib
from agent.transports.base import Body
from agent.transports.local import LocalTransport
from agent.transports.output import OutputCollector
folder = pathlib.Path({str(tmp_path)!r})
body = Body({text!r}, {language!r}, {{"pids": {str(pids)!r}}})
LocalTransport().run(body, OutputCollector(folder, "step", 1000, 1000))
"""],
    )  # fmt: skip
    try:
        wait_for(pids.exists)
        processes = psutil.Process(worker.pid).children(recursive=True)
        assert len(processes) >= 2
    finally:
        worker.kill()
        worker.wait()
    wait_for(lambda: not any(alive(process) for process in processes))


def test_large_output_and_large_bodies_pass(local: LocalTransport, output: Collecting) -> None:
    body = Body("# " + "x" * 300_000 + "\nhead -c 3000000 /dev/zero | tr '\\000' x; head -c 500000 /dev/zero >&2", "sh")
    done = output(local, body)
    assert done.result["stdout"]["bytes"] == 3_000_000 and done.result["stderr"]["bytes"] == 500_000
    body = Body(
        f"import json, sys\nprint(len(json.load(sys.stdin)['big']))\n{'#' * 500_000}", "py", {"big": "é" * 2_000_000}
    )
    assert output(local, body).stdout == "2000000\n"


def test_a_missing_interpreter_is_said(
    local: LocalTransport, output: Collecting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without = LocalTransport(LocalOptions(powershell="no-such-powershell"))
    with pytest.raises(CannotRun, match=r"no-such-powershell.*No such file"):
        output(without, Body("Get-Date", "ps1"))
    monkeypatch.setattr("agent.transports.local._PATH", str(tmp_path))
    with pytest.raises(CannotRun, match="py body could not be started"):
        output(local, Body("print(1)", "py"))
    assert "not found" in output.last.stderr


def test_a_failing_body_is_not_a_missing_interpreter(local: LocalTransport, output: Collecting) -> None:
    assert output(local, Body("no-such-command", "sh")).code == 127
    assert output(local, Body("exit 126", "sh")).code == 126
    assert output(local, Body("if", "sh")).code == 2
    assert output(local, Body("if", "py")).code == 1


def test_nothing_stays_behind(local: LocalTransport, output: Collecting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # fmt: skip
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    before, tag = started_by_test(), f"exeunt-left-{time.monotonic_ns()}"
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for language in ("sh", "py"):
        output(local, Body("x=1", language, {"a": "b"}, tag=tag))  # type: ignore[arg-type]
        with pytest.raises(TimeLimitReached):
            stop = {"sh": "sleep 1000", "py": "import time; time.sleep(1000)"}[language]
            output(local, Body(stop, language, time_limit=0.3, tag=tag))  # type: ignore[arg-type]
    assert not list(made.iterdir())
    # Not more: what earlier tests have left to be collected may have been closed meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # noqa: PTH208
    wait_for(lambda: not [p for p in started_by_test() - before if alive(p)])
    wait_for(lambda: not any(tag in line for line in command_lines()))


def test_the_registry_makes_one(output: Collecting, two_clients: Any) -> None:
    transport = connect({"name": "PC1", "transport": "local", "transport_options": {"grace_seconds": "1"}}, None)
    assert output(transport, Body("echo hello", "sh")).stdout == "hello\n"
