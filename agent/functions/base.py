"""What a Function is: typed parameters, a preview, the act, and a verification of the act (DESIGN 3, floor 3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from agent.errors import StepError, TransportError
from agent.installation import Installation
from agent.model.runs import StepState
from agent.transports.base import Execution


class Parameters(BaseModel):
    """Base of a function's parameters; unknown ones are refused. A secret is declared as pydantic.SecretStr."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Outcome:
    """What became of a step. `result` is stored and shown; it never holds a secret."""

    state: StepState
    result: Mapping[str, Any] = field(default_factory=dict)
    #: Set for failed and unknown.
    error: StepError | None = None

    @classmethod
    def succeeded(cls, **result: Any) -> Outcome:
        """It was done, and verified where that is possible."""
        return cls(StepState.SUCCEEDED, result)

    @classmethod
    def failed(cls, error: StepError, **result: Any) -> Outcome:
        """It was not done."""
        return cls(StepState.FAILED, result, error)

    @classmethod
    def unknown(cls, error: StepError, **result: Any) -> Outcome:
        """Whether it was done cannot be told."""
        return cls(StepState.UNKNOWN, result, error)

    @classmethod
    def reboot_needed(cls, **result: Any) -> Outcome:
        """It was done as far as possible; a reboot must finish it."""
        return cls(StepState.REBOOT_NEEDED, result)

    @classmethod
    def skipped(cls, reason: str) -> Outcome:
        """There was nothing to do."""
        return cls(StepState.SKIPPED, {"reason": reason})


@dataclass(frozen=True)
class BodyResult:
    """What a script's body answered. `answer` is the JSON object on the last line of its standard output, if any."""

    execution: Execution
    stdout: str
    stderr: str
    answer: Mapping[str, Any] | None


@dataclass(frozen=True)
class FinishedStep:
    """A step of the same run tree that is over, as later steps see it."""

    name: str
    script: str
    function: str | None
    state: StepState
    label: str
    result: Mapping[str, Any]
    error: Mapping[str, Any] | None
    #: The step stands in a child script (not in the wrapper itself): it counts for @Success@ and @Failure@.
    in_child: bool
    finished_at: datetime | None = None
    #: Its parameters as far as they were known when the run was planned.
    planned: Mapping[str, Any] = field(default_factory=dict)


class Context(Protocol):
    """What a function may use while it runs. It knows one target of one client, and nothing of any other."""

    installation: Installation
    run_id: str
    root_id: str
    step_id: str
    step_name: str
    #: Name of the root run's script, e.g. "Offboarding Wrapper".
    root_script: str
    #: Who started the run.
    started_by: str
    target_kind: str
    target_id: int
    client_id: int

    @property
    def places(self) -> Mapping[str, Mapping[str, Any] | None]:
        """Columns of computer, contact, location and client as they are now; a place that there is not is None."""

    @property
    def plan(self) -> Mapping[str, Any]:
        """What the plan fixed: `levels`, `columns`, `children`, `fallback`; and `outcome`: what the fallback permits,
        None while every removal so far is verified.
        """

    def run_body(
        self, script: str, parameters: Mapping[str, Any], *, body: str = "body", secrets: Mapping[str, str] | None = None,
        time_limit: float | None = None,
    ) -> BodyResult:  # fmt: skip
        """Run the stored revision of a script's body (`body` or `verify`) on the target. Raises TransportError."""

    def finished_steps(self) -> list[FinishedStep]:
        """Steps of this run tree that are over, in order."""

    def system_property(self, name: str) -> str | None:
        """A system property as it is now, None if it is not set."""

    def secret(self, name: str) -> str:
        """A secret by its credential's name, in the scope of this target. Raises StepError (type missing_credential)."""

    def credential(self, kind: str) -> tuple[Mapping[str, Any], Mapping[str, str]] | None:
        """Settings and secrets of the nearest credential of a kind (location, client, server), None if there is none."""

    def state(self, variable: str) -> str | None:
        """A value that this root script keeps for this target between runs."""

    def set_state(self, variable: str, value: str) -> None:
        """Keep a value for later runs."""


@dataclass(frozen=True)
class Finding:
    """One thing that a look before an offboarding found. `error`: a step will fail; `warning`: somebody should decide."""

    severity: Literal["error", "warning", "info"]
    #: What it is about: a system, or a part of the inventory.
    subject: str
    message: str
    remediation: str | None = None

    @classmethod
    def of(cls, subject: str, error: StepError | TransportError) -> Finding:
        """An error that a system answered with, or that kept it from being asked."""
        said = error.typed or error if isinstance(error, TransportError) else error
        return cls("error", subject, str(said), said.remediation if isinstance(said, StepError) else None)


T = TypeVar("T")


class PreflightContext(Context, Protocol):
    """What a function may use to look ahead. It keeps no state and runs no body: both raise."""

    def once(self, key: tuple[str, ...], ask: Callable[[], T]) -> T:
        """The answer of `ask`, which is called once per key; its StepError or TransportError is kept and raised again."""


P = TypeVar("P", bound=Parameters)


class Function(ABC, Generic[P]):
    """What a step can call. One instance serves all runs and holds no state."""

    #: As written in a step: `remove_application`, `ticket.create`.
    name: ClassVar[str]
    #: One line for the manual.
    summary: ClassVar[str]
    Parameters: ClassVar[type[Parameters]]
    #: It removes, disables or deletes something.
    destructive: ClassVar[bool] = False
    #: After an interruption it may simply be done again, even when `verify` cannot tell.
    repeatable: ClassVar[bool] = False
    #: It deletes an account: the engine refuses it while a legal hold, a missing backup or a retention stands.
    deletes_account: ClassVar[bool] = False
    #: It backs up a person's data: its success is what allows a later deletion.
    backs_up: ClassVar[bool] = False
    #: It reaches the target over a transport; otherwise it works on the server.
    on_target: ClassVar[bool] = False
    #: Scripts whose bodies it runs: their revisions are stored with the plan.
    uses_scripts: ClassVar[tuple[str, ...]] = ()
    #: The system that it acts in, as people call it.
    system: ClassVar[str | None] = None
    #: What the account of that system's credential must be allowed, in the system's words.
    rights: ClassVar[str | None] = None

    @abstractmethod
    def preview(self, parameters: P) -> str:
        """One sentence that says exactly what `do` would do, without secrets."""

    @abstractmethod
    def do(self, context: Context, parameters: P) -> Outcome:
        """Do it. Raises StepError for a typed failure, TransportError when the target cannot be reached."""

    def verify(self, context: Context, parameters: P) -> bool | None:
        """Whether it is already done: True, False, or None when that cannot be told."""
        return None

    def preflight(self, context: PreflightContext, parameters: P) -> list[Finding]:
        """What would hinder `do`, asked without changing anything. May raise StepError or TransportError.

        Steps of one plan share `context.once`, so that a system is asked once and not by each of them.
        """
        return []

    def rights_ahead(self, context: PreflightContext) -> list[Finding] | None:
        """Which rights the credential has and lacks, asked of its system; None where only `rights` can be told.

        May raise StepError or TransportError.
        """
        return None

    def label(self, parameters: P, step_name: str) -> str:
        """What the lists of success and failure call this step."""
        return step_name
