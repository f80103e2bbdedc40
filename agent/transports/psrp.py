"""PSRP: PowerShell's own remoting protocol, by pypsrp.

A constant script gets the body and its parameters as typed arguments and does what `prelude.ps1` does elsewhere, so that
a body behaves alike on all transports. Secrets are plain strings within the encrypted channel: a body that declares
`[string]` could not read a SecureString, and one that needs a SecureString can make it from the string.

A pipeline has no exit code. How a body ends:

* `exit n` reaches us as the host call SetShouldExit(n) [MS-PSRP 2.2.3.17]; the exit code is n.
* At its end the constant script exits with $LASTEXITCODE, which is 0 if no program was called.
* A pipeline that fails (`throw`, or any error that ends it) is exit code 1; the error is on stderr.
* A pipeline that claims to be complete without an exit code was not ours to the end: AnswerLost.

A record on the error stream alone does not change the exit code.

Text on the output stream arrives as lines on stdout; an object that is not text arrives as one line of JSON. All other
streams arrive on stderr, each line with the name of its stream before it.

At its time limit the pipeline is stopped and its process on the host ended with its shell; programs that the body
had started by itself may outlive it.
"""

from __future__ import annotations

import logging
import math
import uuid
from typing import Any, ClassVar, Self

import pypsrp.exceptions
from pydantic import BaseModel, Field
from pypsrp.complex_objects import PSInvocationState
from pypsrp.host import PSHost
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.shell import SignalCode
from pypsrp.wsman import SelectorSet, WSMan

from agent.errors import AccessDenied, AnswerLost, SettingsError, TimeLimitReached, TransportError, UsageError
from agent.model.base import utcnow
from agent.transports.base import Body, Execution, Target
from agent.transports.binding import merged
from agent.transports.output import OutputCollector
from agent.transports.psrp_values import drain, text, typed
from agent.transports.wsman_errors import (
    EXCHANGE_ERRORS,
    FAULT_UNKNOWN_SELECTOR,
    Stage,
    from_exchange,
    from_fault,
    from_status,
)
from agent.transports.wsman_http import BoundedAdapter, DeadlinePassed, mount
from agent.transports.wsman_shells import ALL_SHELLS, enumeration_request, own_shells, shell_name, shell_prefix
from agent.transports.wsman_target import Authentication, WsmanOptions, WsmanTarget, read_target

log = logging.getLogger(__name__)

#: What the pipeline runs. The body's parameters are bound by name from the hash table.
WRAPPER = """\
param([string]$script, [hashtable]$parameters)
$ProgressPreference = 'SilentlyContinue'
$global:LASTEXITCODE = 0
& ([scriptblock]::Create($script)) @parameters
exit $global:LASTEXITCODE
"""

#: Seconds that one Receive waits on the host for output.
POLL = 20
#: Factor of the pauses before a lost Receive is asked for again: 5 times, 16 seconds in all.
BACKOFF = 0.25

_ERRORS = (pypsrp.exceptions.WinRMError, *EXCHANGE_ERRORS)


class PsrpOptions(WsmanOptions):
    """Options of the transport `psrp`."""

    auth: Authentication = Field("negotiate", description="How to authenticate; `certificate` needs TLS")
    configuration: str = Field(
        "Microsoft.PowerShell", description="Session configuration to open; it must allow scripts"
    )


class PsrpTransport:
    """Runs `ps1` bodies in a new runspace pool each. Not shared between threads."""

    name = "psrp"
    Options: ClassVar[type[BaseModel]] = PsrpOptions

    def __init__(self, target: WsmanTarget, options: PsrpOptions) -> None:
        self._target = target
        self._options = options
        self._adapter = BoundedAdapter(options.connect_seconds, encrypted_only=target.messages_encrypted)
        self._connection: WSMan | None = None

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
        self._adapter.allow(self._options.open_seconds)
        try:
            pool, host = self._open(body.tag)
            try:
                pipeline = self._start(pool, script, parameters)
                self._follow(pipeline, body, output)
                code = _exit_code(pipeline, host, self._target.endpoint)
            finally:
                self._end_shell(pool.id, pool.shell.resource_uri)
        finally:
            # A connection that was idle for long may be gone, and its security context with it.
            self.close()
        return Execution(code, started_at, utcnow())

    def end_leftovers(self, tag: str) -> int:
        """End the shells that runs with this tag left on the host, and with them what still runs there.

        Returns how many there were. Raises TransportError if the host cannot be asked.
        """
        self._adapter.allow(self._options.open_seconds)
        try:
            found = own_shells(self._connect().enumerate(ALL_SHELLS, enumeration_request()), shell_prefix(tag))
        except _ERRORS as error:
            raise self._translated(error, Stage.OPENING) from error
        for shell_id, resource_uri in found:
            self._end_shell(shell_id, resource_uri)
        return len(found)

    def close(self) -> None:
        """Let go of connections. Never raises."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> WSMan:
        """The connection, made on first use: nothing is sent yet."""
        if self._connection is None:
            self._connection = _connection(self._target, self._adapter)
        return self._connection

    def _restart(self) -> None:
        """Use a new HTTP connection from here on. What broke off in mid-message left a security context of no use."""
        http = self._connect().transport
        http.close()
        http.encryption = None
        http.session = http._build_session()
        mount(http.session, self._adapter)

    def _open(self, tag: str) -> tuple[RunspacePool, PSHost]:
        """Open a pool whose name tells whose it is. Its host keeps the exit code."""
        connection = self._connect()
        host = PSHost(None, None, False, "Exeunt", None, None, "1.0")
        pool = RunspacePool(connection, host=host, configuration_name=self._options.configuration)
        pool.shell.name = shell_name(tag, uuid.uuid4())
        try:
            pool.open()
        except _ERRORS as error:
            refusal = self._translated(error, Stage.OPENING)
            # The pool may have been made although its answer is lost. A refused password is not tried again.
            if not isinstance(refusal, AccessDenied):
                self._end_shell(pool.id, pool.shell.resource_uri)
            raise refusal from error
        return pool, host

    def _start(self, pool: RunspacePool, script: str, parameters: Any) -> PowerShell:
        pipeline = PowerShell(pool)
        pipeline.add_script(WRAPPER).add_parameter("script", script).add_parameter("parameters", parameters)
        try:
            self._adapter.remaining()
        except DeadlinePassed as error:
            raise self._translated(error, Stage.OPENING) from error
        try:
            pipeline.begin_invoke()
        except _ERRORS as error:
            raise self._translated(error, Stage.STARTING) from error
        return pipeline

    def _follow(self, pipeline: PowerShell, body: Body, output: OutputCollector) -> None:
        """Take output until the pipeline has ended. A lost Receive is asked for again, since the shell outlives it."""
        self._adapter.allow(body.time_limit)
        self._adapter.repeatable = True
        try:
            while pipeline.state == PSInvocationState.RUNNING:
                pipeline.poll_invoke(timeout=max(1, min(POLL, math.ceil(self._adapter.remaining()))))
                drain(pipeline, output)
        except DeadlinePassed:
            drain(pipeline, output)
            self._stop(pipeline, body)
        except _ERRORS as error:
            raise self._translated(error, Stage.RUNNING) from error
        finally:
            self._adapter.repeatable = False

    def _stop(self, pipeline: PowerShell, body: Body) -> None:
        """Stop what reached its time limit. Always raises."""
        endpoint = self._target.endpoint
        self._restart()
        self._adapter.allow(self._options.grace_seconds)
        try:
            pipeline.runspace_pool.shell.signal(SignalCode.PS_CTRL_C, pipeline.id)
        except _ERRORS as error:
            if not _is_gone(error):
                raise AnswerLost(
                    f"{endpoint}: the time limit of {body.time_limit:g} s was reached and the host did not confirm that "
                    f"it stopped the script: {error}"
                ) from error
        raise TimeLimitReached(f"{endpoint}: stopped at its time limit of {body.time_limit:g} s")

    def _end_shell(self, shell_id: str, resource_uri: str) -> None:
        """Delete a shell. A failure is logged and changes nothing about the result."""
        selectors = SelectorSet()
        selectors.add_option("ShellId", shell_id)
        self._adapter.allow(self._options.grace_seconds)
        for attempt in (1, 2):
            try:
                self._connect().delete(resource_uri, selector_set=selectors)
                return
            except _ERRORS as error:
                if _is_gone(error):
                    return
                if attempt == 2:
                    log.warning("a shell may be left on %s: %s: %s", self._target.endpoint, shell_id, error)
                self._restart()

    def _translated(self, error: Exception, stage: Stage) -> TransportError:
        endpoint = self._target.endpoint
        if isinstance(error, pypsrp.exceptions.AuthenticationError):
            return from_status(401, endpoint=endpoint, stage=stage)
        if isinstance(error, pypsrp.exceptions.WSManFaultError):
            return from_fault(error.code, error.reason, endpoint=endpoint, stage=stage)
        if isinstance(error, pypsrp.exceptions.WinRMTransportError):
            return from_status(error.code, endpoint=endpoint, stage=stage)
        return from_exchange(error, endpoint=endpoint, stage=stage)


def _connection(target: WsmanTarget, adapter: BoundedAdapter) -> WSMan:
    """A connection of pypsrp that sends through the adapter. Raises SettingsError when it cannot be with these settings."""
    options = target.options
    # The library's annotation is too narrow: like requests it also takes the path of a file of authorities.
    verify: Any = target.ca_file if options.verify else False
    try:
        connection = WSMan(
            target.host,
            port=target.port,
            path=options.path,
            ssl=options.tls,
            auth=options.auth,
            username=options.username or None,
            password=target.password or None,
            cert_validation=verify,
            encryption="never" if target.in_clear else "auto",
            no_proxy=True,
            operation_timeout=POLL,
            connection_timeout=math.ceil(options.connect_seconds),
            read_timeout=POLL + 10,
            reconnection_backoff=BACKOFF,
            certificate_pem=options.certificate_file and str(options.certificate_file),
            certificate_key_pem=options.certificate_key_file and str(options.certificate_key_file),
            negotiate_hostname_override=options.kerberos_hostname,
        )
        session = connection.transport._build_session()
    except (ImportError, ValueError) as error:
        raise SettingsError(f"transport options of {target.host}: {error}") from error
    mount(session, adapter)
    connection.transport.session = session
    return connection


def _exit_code(pipeline: PowerShell, host: PSHost, endpoint: str) -> int:
    """The exit code by the rules at the top of this module."""
    if pipeline.state == PSInvocationState.FAILED:
        return 1
    # Nobody but the script itself calls `exit`, whatever state the pipeline is in after it.
    if pipeline.state in (PSInvocationState.COMPLETED, PSInvocationState.STOPPED) and isinstance(host.rc, int):
        return host.rc
    how = "was stopped on the host" if pipeline.state == PSInvocationState.STOPPED else "ended without an exit code"
    raise AnswerLost(f"{endpoint}: the script {how}; what it did is not known")


def _is_gone(error: Exception) -> bool:
    """Whether the host says that there is no such shell or command any more."""
    return isinstance(error, pypsrp.exceptions.WSManFaultError) and error.code == FAULT_UNKNOWN_SELECTOR
