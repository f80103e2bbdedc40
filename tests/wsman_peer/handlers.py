"""PowerShell commands of the peer: functions of the test that stand for a script body, or for a cmdlet.

There is no PowerShell here. A handler is chosen by a pattern that is searched in the text of the script; it gets the
text and the named parameters and does what the body would do, as far as a client can see it. A pipeline of one command that
is no script goes to the cmdlet of that name, with its arguments as psrpcore has read them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol


class Exit(Exception):
    """`exit n`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Terminating(Exception):
    """`throw`: an error that ends the script. `record`: the error record, where a message does not say all of it."""

    def __init__(self, message: str, record: Any = None) -> None:
        super().__init__(message)
        self.record = record


class Stopped(Exception):
    """The client stopped the script, or ended its shell."""


class Sink(Protocol):
    """Where a script writes."""

    def record(self, stream: str, value: Any) -> None:
        """Take one object of `output`, or one record of another stream."""


@dataclass
class Call:
    """One run of a script."""

    script: str
    parameters: dict[str, Any]
    sink: Sink
    stopped: threading.Event
    #: Who is signed in.
    user: str = ""
    #: Name of the cmdlet when the pipeline is one and no script, and its arguments with their types.
    cmdlet: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def output(self, value: Any) -> None:
        """Write an object to the output stream."""
        self._record("output", value)

    def error(self, message: str) -> None:
        """Write an error record and go on."""
        self._record("error", message)

    def warning(self, message: str) -> None:
        self._record("warning", message)

    def verbose(self, message: str) -> None:
        self._record("verbose", message)

    def debug(self, message: str) -> None:
        self._record("debug", message)

    def information(self, message: str) -> None:
        """Write-Information, Write-Host."""
        self._record("information", message)

    def progress(self, activity: str) -> None:
        self._record("progress", activity)

    def exit(self, code: int) -> NoReturn:
        """`exit code`."""
        raise Exit(code)

    def fail(self, message: str) -> NoReturn:
        """`throw message`."""
        raise Terminating(message)

    def wait(self, seconds: float | None = None) -> None:
        """Start-Sleep, for ever without a number. Ends when the script is stopped."""
        if self.stopped.wait(seconds):
            raise Stopped

    def _record(self, stream: str, value: Any) -> None:
        if self.stopped.is_set():
            raise Stopped
        self.sink.record(stream, value)


#: Stands for the record of a command that there is not, or that a session configuration does not show.
NOT_FOUND = "CommandNotFoundException"

#: Returns `$LASTEXITCODE` at the end of the script; None stands for 0.
Handler = Callable[[Call], int | None]


class Handlers:
    """Patterns and their handlers; the one that was added last is asked first."""

    def __init__(self) -> None:
        self._entries: list[tuple[re.Pattern[str], Handler]] = []
        #: By name. While there are any, a session configuration allows nothing else, as a constrained one does.
        self.cmdlets: dict[str, Handler] = {}
        #: Text and parameters of every script that ran, in order.
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def add(self, pattern: str, handler: Handler) -> None:
        """Let scripts in which the regular expression is found do what the handler does."""
        self._entries.insert(0, (re.compile(pattern), handler))

    def run(self, call: Call) -> int:
        """Run the handler for a script: its exit code. Raises Exit, Terminating or Stopped."""
        self.calls.append((call.script, call.parameters))
        if self.cmdlets:
            handler = self.cmdlets.get(call.cmdlet or "")
            if handler is None:
                raise Terminating(f"The term '{call.script[:100]}' is not recognized.", NOT_FOUND)
            return handler(call) or 0
        for pattern, handler in self._entries:
            if pattern.search(call.script):
                return handler(call) or 0
        raise Terminating(f"The peer has no handler for this script: {call.script[:100]!r}")
