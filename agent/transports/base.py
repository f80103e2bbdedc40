"""What every transport does: run one script body on one machine, with typed parameters, and tell exactly what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel

from agent.transports.output import OutputCollector

Language = Literal["sh", "py", "ps1"]


@dataclass(frozen=True)
class Body:
    """What is run. `parameters` are bound by the transport and never become text of a command:
    environment variables for `sh`, JSON on standard input for `py`, `add_parameters` or JSON on standard input for `ps1`.
    `secrets` are bound the same way and are masked wherever they come back in the output.
    """

    text: str
    language: Language
    parameters: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: seconds; the whole process tree on the target is ended after it
    time_limit: float = 600.0
    #: Names what runs, in logs and for finding what was left over. Not a secret, no spaces.
    tag: str = "exeunt"


@dataclass(frozen=True)
class Execution:
    """The body ran to its end. The output is in the collector that was passed in."""

    #: As the body gave it; 128 + n when signal n ended it.
    exit_code: int
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True)
class Identification:
    """The answer to a contact probe."""

    reachable: bool
    detail: str
    seconds: float


@dataclass(frozen=True)
class Target:
    """The machine that a transport is to reach, and as whom."""

    name: str
    platform: str
    address: str
    port: int | None
    #: An instance of the transport's own `Options`: the credential's settings, the computer's `transport_options` over them.
    options: Any
    #: Those of the credential: `password`, `private_key`, ...
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class Transport(Protocol):
    """A way to one machine. Not shared between threads; connects on first use."""

    name: str
    #: Every key that a credential's settings and a computer's `transport_options` may hold; unknown ones are refused.
    Options: ClassVar[type[BaseModel]]

    @classmethod
    def to(cls, target: Target) -> Self:
        """A transport to this machine, not yet connected. Raises SettingsError when something is missing."""

    def run(self, body: Body, output: OutputCollector) -> Execution:
        """Run a body to its end, streaming both streams into `output` as they come.

        Raises AccessDenied or CannotConnect when nothing was started; TimeLimitReached when it was ended at its time
        limit; AnswerLost when it was started and its exit code is not known; CannotRun when the machine lacks the
        interpreter; UsageError when a parameter cannot be bound.
        """

    def close(self) -> None:
        """Let go of connections. Never raises."""
