"""What every transport does: run one script body on one machine, with typed parameters, and tell exactly what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from agent.settings import Settings
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


class ConnectionOptions(BaseModel):
    """What every transport understands in a computer's `transport_options`; each transport adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect_seconds: float = Field(10.0, gt=0, le=300, description="Time limit of each stage of connecting, in seconds")
    grace_seconds: float = Field(
        5.0, ge=0, le=300, description="Between asking a body to end at its time limit and killing it, in seconds"
    )


@dataclass(frozen=True)
class Credentials:
    """A stored credential as a transport sees it: `settings` in clear (user name, file of a key, ...), `secrets` not."""

    settings: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Target:
    """The machine that a transport is to reach. `options` is an instance of the transport's own `Options`."""

    name: str
    platform: str
    address: str
    port: int | None
    options: BaseModel
    credentials: Credentials | None
    settings: Settings


class Transport(Protocol):
    """A way to one machine. Not shared between threads; connects on first use."""

    name: str
    #: Checks a computer's `transport_options`; a subclass of ConnectionOptions.
    Options: ClassVar[type[ConnectionOptions]]

    @classmethod
    def to(cls, target: Target) -> Self:
        """A transport to this machine, not yet connected. Raises SettingsError when the credential lacks something."""

    def run(self, body: Body, output: OutputCollector) -> Execution:
        """Run a body to its end, streaming both streams into `output` as they come.

        Raises AccessDenied or CannotConnect when nothing was started; TimeLimitReached when it was ended at its time
        limit; AnswerLost when it was started and its exit code is not known; CannotRun when the machine lacks the
        interpreter; UsageError when a parameter cannot be bound.
        """

    def close(self) -> None:
        """Let go of connections. Never raises."""
