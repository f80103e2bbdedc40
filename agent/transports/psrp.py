"""PSRP: PowerShell's own remoting protocol, by pypsrp.

A constant script gets the body and its parameters as typed arguments and does what `prelude.ps1` does elsewhere, so that
a body behaves alike on all transports. Secrets are plain strings within the encrypted channel: a body that declares
`[string]` could not read a SecureString, and one that needs a SecureString can make it from the string.

A pipeline has no exit code. How a body ends:

* `exit n` reaches us as the host call SetShouldExit(n) [MS-PSRP 2.2.3.17]; the exit code is n.
* At its end the constant script exits with $LASTEXITCODE, which is 0 if no program was called.
* A pipeline that fails (`throw`, a body that does not parse, or any error that ends it) is exit code 1; the error is on
  stderr. So are parameters that the body does not take.
* A pipeline that claims to be complete without an exit code was not ours to the end: AnswerLost.

A record on the error stream alone does not change the exit code.

Text on the output stream arrives as lines on stdout; an object that is not text arrives as one line of JSON. All other
streams arrive on stderr, each line with the name of its stream before it.

At its time limit the pipeline is stopped and its process on the host ended with its shell; programs that the body
had started by itself may outlive it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel
from pypsrp.complex_objects import PSInvocationState
from pypsrp.host import PSHost
from pypsrp.powershell import PowerShell, RunspacePool

from agent.errors import AnswerLost, TimeLimitReached, UsageError
from agent.model.base import utcnow
from agent.transports.base import Body, Execution, Target
from agent.transports.binding import merged
from agent.transports.output import OutputCollector
from agent.transports.psrp_host import PsrpHost, PsrpOptions
from agent.transports.psrp_values import drain, text, typed
from agent.transports.wsman_http import DeadlinePassed
from agent.transports.wsman_target import WsmanTarget, read_target

#: What the pipeline runs. The body's parameters are bound by name from the hash table.
WRAPPER = """\
param([string]$script, [hashtable]$parameters)
$ProgressPreference = 'SilentlyContinue'
$ErrorActionPreference = 'Stop'
$exeunt = [scriptblock]::Create($script)
$ErrorActionPreference = 'Continue'
$global:LASTEXITCODE = 0
& $exeunt @parameters
if (-not $? -and $global:LASTEXITCODE -eq 0) { exit 1 }
exit $global:LASTEXITCODE
"""


class PsrpTransport:
    """Runs `ps1` bodies in a new runspace pool each. Not shared between threads."""

    name = "psrp"
    Options: ClassVar[type[BaseModel]] = PsrpOptions

    def __init__(self, target: WsmanTarget, options: PsrpOptions) -> None:
        self._endpoint = target.endpoint
        self._host = PsrpHost(target, options)

    @classmethod
    def to(cls, target: Target) -> Self:
        """See `Transport.to`."""
        return cls(read_target(target), target.options)

    def run(self, body: Body, output: OutputCollector) -> Execution:
        """See `Transport.run`. Raises UsageError for a body that is not `ps1`."""
        if body.language != "ps1":
            raise UsageError(f"psrp runs PowerShell (.ps1) only, not .{body.language}; give the script a .ps1 body")
        script, parameters = text(body.text), typed(merged(body))
        started_at = utcnow()
        try:
            pool, host = self._host.open(body.tag)
            try:
                pipeline = self._start(pool, script, parameters)
                self._follow(pipeline, body, output)
                code = _exit_code(pipeline, host, self._endpoint)
            finally:
                self._host.end_shell(pool.id, pool.shell.resource_uri)
        finally:
            # A connection that was idle for long may be gone, and its security context with it.
            self.close()
        return Execution(code, started_at, utcnow())

    def end_leftovers(self, tag: str) -> int:
        """End the shells that runs with this tag left on the host, and with them what still runs there.

        Returns how many there were. Raises TransportError if the host cannot be asked.
        """
        found = self._host.own_shells(tag)
        for shell_id, resource_uri in found:
            self._host.end_shell(shell_id, resource_uri)
        return len(found)

    def close(self) -> None:
        """Let go of connections. Never raises."""
        self._host.close()

    def _start(self, pool: RunspacePool, script: str, parameters: Any) -> PowerShell:
        pipeline = PowerShell(pool)
        pipeline.add_script(WRAPPER).add_parameter("script", script).add_parameter("parameters", parameters)
        self._host.start(pipeline)
        return pipeline

    def _follow(self, pipeline: PowerShell, body: Body, output: OutputCollector) -> None:
        """Take output until the pipeline has ended."""
        try:
            self._host.follow(pipeline, body.time_limit, lambda: drain(pipeline, output))
        except DeadlinePassed:
            drain(pipeline, output)
            self._stop(pipeline, body)

    def _stop(self, pipeline: PowerShell, body: Body) -> None:
        """Stop what reached its time limit. Always raises."""
        error = self._host.stop(pipeline)
        if error is not None:
            raise AnswerLost(
                f"{self._endpoint}: the time limit of {body.time_limit:g} s was reached and the host did not confirm that "
                f"it stopped the script: {error}"
            ) from error
        raise TimeLimitReached(f"{self._endpoint}: stopped at its time limit of {body.time_limit:g} s")


def _exit_code(pipeline: PowerShell, host: PSHost, endpoint: str) -> int:
    """The exit code by the rules at the top of this module."""
    if pipeline.state == PSInvocationState.FAILED:
        return 1
    # Nobody but the script itself calls `exit`, whatever state the pipeline is in after it.
    if pipeline.state in (PSInvocationState.COMPLETED, PSInvocationState.STOPPED) and isinstance(host.rc, int):
        return host.rc
    how = "was stopped on the host" if pipeline.state == PSInvocationState.STOPPED else "ended without an exit code"
    raise AnswerLost(f"{endpoint}: the script {how}; what it did is not known")
