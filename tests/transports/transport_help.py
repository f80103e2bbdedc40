"""What the tests of all transports share: running a body into a collector, and waiting for a condition."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from agent.transports import local
from agent.transports.base import Body, Execution, Transport
from agent.transports.output import OutputCollector, StreamResult


@dataclass
class Collected:
    """What came of one body."""

    result: dict[str, StreamResult]
    folder: Path
    execution: Execution | None = None

    @property
    def code(self) -> int:
        assert self.execution is not None
        return self.execution.exit_code

    @property
    def stdout(self) -> str:
        return self.result["stdout"]["text"]

    @property
    def stderr(self) -> str:
        return self.result["stderr"]["text"]

    def bytes(self, stream: str) -> bytes:
        assert not self.result[stream]["truncated"]
        return self.result[stream]["text"].encode()


class Collecting:
    """Runs a body with a fresh collector. `last` is what was collected, also when the body raised."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.last: Collected
        self.collector: OutputCollector

    def __call__(
        self, transport: Transport, body: Body, *, meanwhile: Callable[[], None] | None = None, live: bool = False
    ) -> Collected:
        """`meanwhile` is called again and again in another thread while the body runs."""
        self.count += 1
        body = replace(body, time_limit=min(body.time_limit, 120))  # a test that hangs shall end
        self.collector = collector = OutputCollector(
            self.folder, f"step{self.count}", 65_536, 100_000_000, body.secrets.values(), live=live
        )
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(0.05):
                if meanwhile is not None:
                    meanwhile()

        thread = threading.Thread(target=repeat)
        thread.start()
        execution = None
        try:
            execution = transport.run(body, collector)
        finally:
            over.set()
            thread.join()
            self.last = Collected(collector.finish(), self.folder, execution)
        return self.last


class Clock:
    """Takes the place of the module `time` in a transport: it goes as the real one does, and jumps when it is told.

    So a body reaches its time limit when what the test waits for has come, however slow the machine is.
    """

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def jump(self) -> None:
        """Every limit is over; what begins now has its whole time."""
        self.ahead += 100_000.0


def limit_when(patch: pytest.MonkeyPatch, when: Callable[[], object]) -> None:
    """A body on this machine that has begun reaches its time limit as soon as `when()` is true, and not before."""
    clock, turn, over = Clock(), local._Run._turn, list[local._Run]()

    def look(self: local._Run, seconds: float) -> None:
        turn(self, min(seconds, 0.05))
        if self.announced and self not in over and when():
            over.append(self)
            clock.jump()

    patch.setattr(local, "time", clock)
    patch.setattr(local._Run, "_turn", look)


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def command_lines() -> list[str]:
    """Command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines


def seconds() -> str:
    """A time to sleep that no other test sleeps."""
    return f"1000.{time.monotonic_ns()}"


def sleeping(seconds: str) -> list[psutil.Process]:
    """Living `sleep` processes with this argument."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == ["sleep", seconds] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
