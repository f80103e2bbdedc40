"""A machine's PSRP service: pools of runspaces, pipelines in them, and their end, by pypsrp. What fails becomes an error of ours.

`psrp` runs bodies through it, the directory over PSRP its cmdlets.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable
from typing import Any

import pypsrp.exceptions
import requests
from pydantic import Field
from pypsrp.complex_objects import PSInvocationState
from pypsrp.host import PSHost
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.shell import SignalCode
from pypsrp.wsman import SelectorSet, WSMan

from agent.errors import AccessDenied, SettingsError, TransportError
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
from agent.transports.wsman_sign_in import WAYS, SignIn
from agent.transports.wsman_target import Authentication, WsmanOptions, WsmanTarget

log = logging.getLogger(__name__)

#: Seconds that one Receive waits on the host for output.
POLL = 20
#: Factor of the pauses before a lost Receive is asked for again: 5 times, 16 seconds in all.
BACKOFF = 0.25

#: What an exchange of pypsrp may raise.
ERRORS: tuple[type[Exception], ...] = (pypsrp.exceptions.WinRMError, *EXCHANGE_ERRORS)
#: What a new connection may raise beside that.
_CONNECTING: tuple[type[Exception], ...] = (*ERRORS, TransportError, SettingsError)


class PsrpOptions(WsmanOptions):
    """Options of the transport `psrp`."""

    auth: Authentication = Field("negotiate", description="How to authenticate; `certificate` needs TLS")
    configuration: str = Field(
        "Microsoft.PowerShell", description="Session configuration to open; it must allow scripts"
    )


class PsrpHost:
    """One machine, asked with one credential. Not shared between threads."""

    def __init__(self, target: WsmanTarget, options: PsrpOptions) -> None:
        self.endpoint = target.endpoint
        self._target = target
        self._options = options
        self._adapter = BoundedAdapter(options.connect_seconds, encrypted_only=target.messages_encrypted)
        self._sign_in = SignIn(target)
        self._connection: WSMan | None = None

    def open(self, tag: str, *, idle_seconds: int | None = None) -> tuple[RunspacePool, PSHost]:
        """Open a pool whose name tells whose it is. Its host keeps the exit code. Raises AccessDenied, CannotConnect.

        The time for it lasts up to the start of the first pipeline. `idle_seconds`: after so long without a request the
        host ends the shell by itself (at least 60), where its own default is too long.
        """
        self._adapter.allow(self._options.open_seconds)
        host = PSHost(None, None, False, "Exeunt", None, None, "1.0")
        pool = RunspacePool(
            self._connect(), host=host, configuration_name=self._options.configuration, idle_timeout=idle_seconds
        )
        pool.shell.name = shell_name(tag, uuid.uuid4())
        try:
            pool.open()
        except ERRORS as error:
            refusal = self.translated(error, Stage.OPENING)
            # The pool may have been made although its answer is lost. A refused password is not tried again.
            if not isinstance(refusal, AccessDenied):
                self.end_shell(pool.id, pool.shell.resource_uri)
            raise refusal from error
        return pool, host

    def exchange_keys(self, pool: RunspacePool) -> None:
        """Agree upon the key for SecureStrings [MS-PSRP 3.1.5.4.3]. Raises AccessDenied, CannotConnect."""
        try:
            pool.exchange_keys()
        except ERRORS as error:
            raise self.translated(error, Stage.OPENING) from error

    def start(self, pipeline: PowerShell) -> None:
        """Start a pipeline. Raises AnswerLost when it may run, AccessDenied or CannotConnect when it does not."""
        try:
            self._adapter.remaining()
        except DeadlinePassed as error:
            raise self.translated(error, Stage.OPENING) from error
        try:
            pipeline.begin_invoke()
        except ERRORS as error:
            raise self.translated(error, Stage.STARTING) from error

    def follow(self, pipeline: PowerShell, seconds: float, take: Callable[[], object]) -> None:
        """Wait until a pipeline has ended; `take` is called when output has come. Raises AnswerLost, DeadlinePassed.

        A lost Receive is asked for again, since the shell outlives it.
        """
        self._adapter.allow(seconds)
        self._adapter.repeatable = True
        try:
            while pipeline.state == PSInvocationState.RUNNING:
                pipeline.poll_invoke(timeout=max(1, min(POLL, math.ceil(self._adapter.remaining()))))
                take()
        except DeadlinePassed:
            raise
        except ERRORS as error:
            raise self.translated(error, Stage.RUNNING) from error
        finally:
            self._adapter.repeatable = False

    def stop(self, pipeline: PowerShell) -> Exception | None:
        """Stop a pipeline whose time is over. Returns why the host did not confirm it; None when it did."""
        self._restart()
        self._adapter.allow(self._options.grace_seconds)
        try:
            pipeline.runspace_pool.shell.signal(SignalCode.PS_CTRL_C, pipeline.id)
        except ERRORS as error:
            return None if _is_gone(error) else error
        return None

    def allow(self, seconds: float) -> None:
        """The time for what follows, up to the start of the next pipeline."""
        self._adapter.allow(seconds)

    def own_shells(self, tag: str) -> list[tuple[str, str]]:
        """Id and resource of the shells with this tag that are on the host. Raises TransportError."""
        self._adapter.allow(self._options.open_seconds)
        try:
            return own_shells(self._connect().enumerate(ALL_SHELLS, enumeration_request()), shell_prefix(tag))
        except ERRORS as error:
            raise self.translated(error, Stage.OPENING) from error

    def end_shell(self, shell_id: str, resource_uri: str) -> None:
        """Delete a shell. A failure is logged and changes nothing about the result. Never raises."""
        selectors = SelectorSet()
        selectors.add_option("ShellId", shell_id)
        self._adapter.allow(self._options.grace_seconds)
        for attempt in (1, 2):
            try:
                if attempt == 2:
                    self._restart()
                self._connect().delete(resource_uri, selector_set=selectors)
                return
            except _CONNECTING as error:
                if _is_gone(error):
                    return
                if attempt == 2:
                    log.warning("a shell may be left on %s: %s: %s", self.endpoint, shell_id, error)

    def close(self) -> None:
        """Let go of connections and of what they were signed in with. Never raises."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._sign_in.close()

    def translated(self, error: Exception, stage: Stage) -> TransportError:
        """One of ERRORS as an error of ours."""
        endpoint = self.endpoint
        if isinstance(error, pypsrp.exceptions.AuthenticationError):
            return from_status(401, endpoint=endpoint, stage=stage)
        if isinstance(error, pypsrp.exceptions.WSManFaultError):
            return from_fault(error.code, error.reason, endpoint=endpoint, stage=stage)
        if isinstance(error, pypsrp.exceptions.WinRMTransportError):
            return from_status(error.code, endpoint=endpoint, stage=stage)
        return from_exchange(error, endpoint=endpoint, stage=stage)

    def _connect(self) -> WSMan:
        """The connection, made on first use: nothing is sent yet."""
        if self._connection is None:
            connection = _connection(self._target)
            connection.transport.session = self._session(connection.transport)
            self._connection = connection
        return self._connection

    def _restart(self) -> None:
        """Use a new HTTP connection from here on. What broke off in mid-message left a security context of no use."""
        http = self._connect().transport
        http.close()
        http.encryption = None
        http.session = self._session(http)

    def _session(self, http: Any) -> requests.Session:
        """A session of pypsrp's that sends through the adapter. Raises SettingsError, AccessDenied, CannotConnect."""
        session: requests.Session = http._build_session()
        mount(session, self._adapter)
        if self._target.options.auth in WAYS:
            session.auth = self._sign_in.handler()
        return session


def _connection(target: WsmanTarget) -> WSMan:
    """A connection of pypsrp. Raises SettingsError when it cannot be with these settings."""
    options = target.options
    # CredSSP is set when its library is there; until then pypsrp must take it for a way that encrypts just so.
    auth = "negotiate" if options.auth == "credssp" else options.auth
    # The library's annotation is too narrow: like requests it also takes the path of a file of authorities.
    verify: Any = target.ca_file if options.verify else False
    try:
        connection = WSMan(
            target.host,
            port=target.port,
            path=options.path,
            ssl=options.tls,
            auth=auth,
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
        )
    except (ImportError, ValueError) as error:
        raise SettingsError(f"transport options of {target.host}: {error}") from error
    return connection


def _is_gone(error: Exception) -> bool:
    """Whether the host says that there is no such shell or command any more."""
    return isinstance(error, pypsrp.exceptions.WSManFaultError) and error.code == FAULT_UNKNOWN_SELECTOR
