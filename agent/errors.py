"""The error tree. The docstring of a class says when it is raised; the message says what, where and what to do.

ExeuntError
├── UsageError                 the caller asked for something that cannot be (exit code 2)
│   ├── ContentError           a YAML, SQL or script file is wrong: file, line, key
│   ├── ImportLineError        a line of an import is wrong: line, column
│   ├── ImportRefused          all faults of an import, at most 100; nothing was stored
│   ├── NotFound               nothing has that id or name
│   └── Conflict               it exists already, or is in a state that does not allow this
├── NotSignedIn                nobody is signed in, or the session or token is over
├── Forbidden                  the person is known and may not do this
├── SettingsError              the workspace, a setting or the key for the secrets is missing or wrong
├── StoreError                 the database refused or cannot be reached
│   └── ClientMismatch         something of another client was about to be touched
├── MonitorQueryError          a monitor's SQL was refused, failed or took too long
├── GuardrailRefused           a guardrail stops the run; nothing was started
├── StepError                  a step said no: typed failure with impact and remediation
└── TransportError             a machine could not be reached or did not answer
    ├── AccessDenied           permanent: the credential was refused
    ├── CannotRun              permanent: the machine cannot run such a body; nothing was started
    ├── CannotConnect          passing: nothing was sent, it may be tried again
    ├── TimeLimitReached       the command was started and ended by us at its time limit
    └── AnswerLost             the command was sent and its outcome is unknown
"""

from __future__ import annotations

from pathlib import Path


class ExeuntError(Exception):
    """Base of every error that Exeunt raises on purpose."""

    exit_code = 1


class UsageError(ExeuntError):
    """The caller asked for something that cannot be."""

    exit_code = 2


class ContentError(UsageError):
    """A content file is wrong. Carries the file, the line (from 1) and the key."""

    def __init__(self, reason: str, *, file: Path | str, line: int | None = None, key: str | None = None) -> None:
        self.reason, self.file, self.line, self.key = reason, str(file), line, key
        where = self.file + (f":{line}" if line is not None else "") + (f": {key}" if key else "")
        super().__init__(f"{where}: {reason}")


class ImportLineError(UsageError):
    """A line of an import is wrong. Carries the line (from 1, the header counts) and the column's name."""

    def __init__(self, reason: str, *, file: Path | str, line: int, column: str | None = None) -> None:
        self.reason, self.file, self.line, self.column = reason, str(file), line, column
        super().__init__(f"{self.file}:{line}" + (f": {column}" if column else "") + f": {reason}")


class ImportRefused(UsageError):
    """An import is refused as a whole. Carries its faults in the order of their lines."""

    def __init__(self, faults: list[ImportLineError], *, more: bool = False) -> None:
        self.faults = faults
        lines = [str(fault) for fault in faults] + (["there may be more faults"] if more else [])
        super().__init__("nothing was stored:\n" + "\n".join(lines))


class NotFound(UsageError):
    """Nothing has that id or name."""


class Conflict(UsageError):
    """It exists already, or is in a state that does not allow what was asked."""


class NotSignedIn(ExeuntError):
    """Nobody is signed in: no session or token, a wrong one, or one that is over. The message never says which."""


class Forbidden(ExeuntError):
    """The person is known and may not do this. The message names the role that it takes."""


class SettingsError(ExeuntError):
    """The workspace, a setting or the key for the secrets is missing or wrong."""

    exit_code = 2


class StoreError(ExeuntError):
    """The database refused or cannot be reached."""


class ClientMismatch(StoreError):
    """Something that belongs to another client was about to be touched (DESIGN 5.7)."""


class MonitorQueryError(ExeuntError):
    """A monitor's SQL was refused, failed or took too long; nothing was changed."""


class GuardrailRefused(ExeuntError):
    """A guardrail stops the run before it starts. `guardrail` is its name; the message names the way round."""

    exit_code = 3

    def __init__(self, reason: str, *, guardrail: str) -> None:
        self.guardrail = guardrail
        super().__init__(f"{reason} (guardrail: {guardrail})")


class StepError(ExeuntError):
    """A step said no. Carries what a person needs to act on it."""

    def __init__(
        self,
        message: str,
        *,
        type: str,
        code: str | None = None,
        impact: str | None = None,
        remediation: str | None = None,
        critical: bool = False,
    ) -> None:
        self.type, self.code, self.impact = type, code, impact
        self.remediation, self.critical = remediation, critical
        super().__init__(message)


class TransportError(ExeuntError):
    """A machine could not be reached or did not answer as it must."""

    #: Trying again with the same settings cannot help.
    permanent = False
    #: The command may have been carried out: only `verify` can tell.
    outcome_unknown = False
    #: How it is stored and shown, where the service that was asked says it better than the class does.
    typed: StepError | None = None


class AccessDenied(TransportError):
    """The credential was refused, or the host's identity is not the expected one."""

    permanent = True


class CannotRun(TransportError):
    """The machine was reached but lacks what the body needs, such as its interpreter; nothing was started."""

    permanent = True


class CannotConnect(TransportError):
    """Nothing was sent: refused, no route, name not found, handshake timed out."""


class TimeLimitReached(TransportError):
    """The command was started and was ended by us at its time limit."""

    outcome_unknown = True


class AnswerLost(TransportError):
    """The command was sent; the connection ended before its exit code came back."""

    outcome_unknown = True
