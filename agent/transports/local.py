"""Running bodies on this machine.

A body gets its own session and process group, a clean environment and nothing on its command line; see `binding` for
how parameters reach it. It ends in one of four ways:

* by itself: its exit code, 128 + n if signal n ended it. What it left running stays: a body that must outlive itself
  (the removal of an agent) detaches with `setsid`, `nohup` or `systemd-run` and redirects the output of what it
  leaves, since the pipes are closed `LINGER` seconds after the body's end.
* at its time limit: SIGTERM to the group and to descendants that left it, SIGKILL after `grace_seconds`.
* with the worker: the body's group is killed as soon as the worker's end of its standard input closes. Descendants
  that left the group are out of reach then, and so is the whole body in PowerShell, which has no such watcher.
* it cannot start: CannotRun.
"""

from __future__ import annotations

import os
import pwd
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import psutil
from pydantic import BaseModel, ConfigDict, Field

from agent.errors import CannotRun, TimeLimitReached
from agent.model.base import utcnow
from agent.transports.base import Body, Execution, Target
from agent.transports.binding import Announcement, Bound, bind
from agent.transports.output import OutputCollector

#: Seconds in which output may still come after the body's end, from what it left running.
LINGER = 1.0
#: Seconds in which a killed process must be gone.
_END = 10.0
#: Where a system has no descriptor for a process: seconds between two looks whether it has ended.
_LOOK = 0.05
_PIECE = 65_536
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LocalOptions(BaseModel):
    """Options of the transport `local`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grace_seconds: float = Field(
        5.0, ge=0, le=300, description="Between asking a body to end at its time limit and killing it, in seconds"
    )
    powershell: str = Field("pwsh", pattern="^[A-Za-z0-9./_-]+$", description="Program that runs .ps1 bodies")


class LocalTransport:
    """Bodies run as the user of the worker."""

    name = "local"
    Options: ClassVar[type[BaseModel]] = LocalOptions

    def __init__(self, options: LocalOptions | None = None) -> None:
        self._options = options or LocalOptions()

    @classmethod
    def to(cls, target: Target) -> Self:
        """The transport to this machine; address and credential are not used."""
        return cls(target.options)

    def run(self, body: Body, output: OutputCollector) -> Execution:
        """See `Transport.run`. Raises CannotRun, TimeLimitReached, UsageError."""
        bound = bind(body, powershell=self._options.powershell)
        started_at = utcnow()
        try:
            # The process is ended and waited for by _Run, whatever happens.
            process = subprocess.Popen(
                bound.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                env=_clean_environment(), cwd=_home(), start_new_session=True, close_fds=True,
            )  # fmt: skip
        except OSError as error:
            raise CannotRun(f"{bound.argv[0]} cannot be started on this machine: {error.strerror}") from error
        run = _Run(process, bound, output, self._options.grace_seconds)
        try:
            exit_code = run.follow(body.time_limit)
        finally:
            run.close()
        if not run.announced:
            raise CannotRun(
                f"a {body.language} body could not be started on this machine (exit code {exit_code}): see its output"
            )
        return Execution(exit_code, started_at, utcnow())

    def close(self) -> None:
        """Nothing is held between two bodies."""


class _Run:
    """One process from its start to its end, in the calling thread: feeds it, reads both streams, watches the clock."""

    def __init__(self, process: subprocess.Popen[bytes], bound: Bound, output: OutputCollector, grace: float) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process, self._bound, self._output, self._grace = process, bound, output, grace
        self._stdin, self._unsent = process.stdin, memoryview(bound.stdin)
        self._reading = {process.stdout: "stdout", process.stderr: "stderr"}
        self._announcement = Announcement(bound.mark)
        self._selector = selectors.DefaultSelector()
        for pipe in (self._stdin, *self._reading):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ if pipe in self._reading else selectors.EVENT_WRITE)
        # A descriptor that tells the end of the process wakes us at once; where there is none we look now and then.
        self._pidfd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        if self._pidfd is not None:
            self._selector.register(self._pidfd, selectors.EVENT_READ)

    @property
    def announced(self) -> bool:
        """The prelude went through: the body itself was started."""
        return self._announcement.pid is not None

    def follow(self, limit: float) -> int:
        """The exit code. Raises TimeLimitReached after everything was ended."""
        deadline = time.monotonic() + limit
        while not self._ended():
            left = deadline - time.monotonic()
            if left <= 0:
                self._end_all()
                raise TimeLimitReached(f"the body was ended at its time limit of {limit:g} s")
            self._turn(left if self._pidfd is not None else min(left, _LOOK))
        self._drain()
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Give everything back; end the process if it still runs."""
        if self._process.returncode is None:
            self._end_all()
        self._output.write("stderr", self._announcement.rest())
        self._forget_pidfd()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _ended(self) -> bool:
        """Whether the process ended. It is not reaped yet: until then its id, and its group's, belong to nobody else."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _drain(self) -> None:
        """Take what is still in the pipes; not for longer than LINGER, since what was left running may hold them open."""
        deadline = time.monotonic() + LINGER
        self._forget_pidfd()
        while self._reading and (left := deadline - time.monotonic()) > 0:
            self._turn(left)

    def _forget_pidfd(self) -> None:
        """From now on it would only wake us without end."""
        if self._pidfd is not None:
            self._selector.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _turn(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._stdin:
                self._send()
            elif key.fileobj in self._reading:
                self._receive(key.fileobj)

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._stdin.fileno(), self._unsent[:_PIECE]) :]
        except BrokenPipeError:
            self._unsent = self._unsent[:0]  # it ended before it had read everything
        if not self._unsent:
            self._selector.unregister(self._stdin)
            if not self._bound.watched:
                self._stdin.close()

    def _receive(self, pipe: Any) -> None:
        stream, data = self._reading[pipe], os.read(pipe.fileno(), _PIECE)
        if not data:
            self._selector.unregister(pipe)
            del self._reading[pipe]
        self._output.write(stream, self._announcement.feed(data) if stream == "stderr" else data)

    def _end_all(self) -> None:
        """SIGTERM, the grace period, SIGKILL: for the group and for descendants that left it."""
        leader = psutil.Process(self._process.pid)
        family = _descendants(leader)
        self._signal(signal.SIGTERM, family)
        deadline = time.monotonic() + self._grace
        while (left := deadline - time.monotonic()) > 0:
            if self._ended():
                if not any(map(_alive, family)):
                    break
                self._forget_pidfd()
            self._turn(min(left, _LOOK))
        # Again: they may have started others meanwhile.
        family = [*family, *(child for process in (leader, *family) for child in _descendants(process))]
        self._signal(signal.SIGKILL, family)
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            raise TimeLimitReached(
                f"process {self._process.pid} does not end although it was killed: it waits for the kernel; look at it"
            ) from None
        self._drain()

    def _signal(self, number: signal.Signals, family: Sequence[psutil.Process]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
        for process in family:
            with suppress(psutil.Error):  # it is gone, or its id is somebody else's now
                process.send_signal(number)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _clean_environment() -> dict[str, str]:
    """Nothing of the worker's own environment: it holds settings and may hold the master key."""
    account = pwd.getpwuid(os.geteuid())
    return {
        "PATH": _PATH,
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "LANG": "C.UTF-8",
        "TMPDIR": tempfile.gettempdir(),
    }


def _home() -> str:
    home = pwd.getpwuid(os.geteuid()).pw_dir
    return home if Path(home).is_dir() else "/"
