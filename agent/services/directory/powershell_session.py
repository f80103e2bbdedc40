"""A conversation in cmdlets with one of several hosts by PSRP: which host, what is asked again, and what a lost answer means.

Nothing is script text: each request is one pipeline of one cmdlet with typed parameters. As over LDAP, a wrong password is
tried at one host only, and once something was sent that changes, only the same host is asked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from pypsrp.complex_objects import PSCredential, PSInvocationState
from pypsrp.powershell import PowerShell, RunspacePool

from agent.errors import AccessDenied, AnswerLost, CannotConnect, SettingsError, TransportError
from agent.services.directory import errors, powershell_errors
from agent.services.directory.settings import DirectorySettings, wrong_settings
from agent.transports.psrp_host import PsrpHost, PsrpOptions
from agent.transports.wsman_http import DeadlinePassed
from agent.transports.wsman_target import WsmanTarget

#: By this the shells on a host are known as the directory's.
_TAG = "directory"
#: A shell that is left over, since its worker died, ends by itself after so long.
_IDLE_SECONDS = 900


class CmdletSession:
    """Opens on first use. `prefer`: the host to ask first, if it is one of them. Not shared between threads."""

    def __init__(self, settings: DirectorySettings, password: str, *, prefer: str | None = None) -> None:
        self._settings, self._password = settings, password
        self._order = sorted(settings.controllers, key=lambda c: c != prefer)
        self._open: tuple[PsrpHost, RunspacePool] | None = None
        self._controller: str | None = None
        #: Something that changes was sent: from here on, not to be reached means not to know.
        self._changed = False

    @property
    def controller(self) -> str:
        """The host that answers. Raises as `ask` does."""
        self._opened()
        assert self._controller is not None
        return self._controller

    def ask(
        self, cmdlet: str, parameters: Mapping[str, Any], doing: str, *, change: bool = False, secret: bool = False
    ) -> list[str]:
        """What a cmdlet gives, each object as XML. `secret`: a SecureString is among the parameters.

        It is sent a second time over a new pool when it certainly has not run, and when it only reads. Raises what
        Directory's methods do.
        """
        for last in (False, True):
            host, pool = self._opened()
            try:
                pipeline = self._started(host, pool, cmdlet, parameters, secret=secret)
            except (CannotConnect, AccessDenied) as error:
                # It has not run.
                failed: Exception = error
            except AnswerLost as error:
                failed, self._changed = error, self._changed or change
            else:
                self._changed = self._changed or change
                try:
                    return self._ended(host, pipeline, doing)
                except (DeadlinePassed, AnswerLost) as error:
                    failed = error
            self.close()
            if change and not isinstance(failed, CannotConnect | AccessDenied):
                raise errors.answer_lost(str(self._controller), doing, str(failed)) from failed
            if last:
                raise self._lost(str(self._controller), str(failed)) from failed
        raise AssertionError("the second attempt returns or raises")

    def close(self) -> None:
        """Let go of the shell and the connection. Never raises."""
        if self._open is not None:
            (host, pool), self._open = self._open, None
            host.end_shell(pool.id, pool.shell.resource_uri)
            host.close()

    def _started(
        self, host: PsrpHost, pool: RunspacePool, cmdlet: str, parameters: Mapping[str, Any], *, secret: bool
    ) -> PowerShell:
        host.allow(self._settings.answer_seconds)
        if secret:
            host.exchange_keys(pool)
        pipeline = PowerShell(pool)
        pipeline.add_cmdlet(cmdlet).add_parameters({**parameters, **self._server()})
        host.start(pipeline)
        return pipeline

    def _ended(self, host: PsrpHost, pipeline: PowerShell, doing: str) -> list[str]:
        """The output, once the pipeline has come to its end. Raises what a refusal means; AnswerLost, DeadlinePassed."""
        host.follow(pipeline, self._settings.answer_seconds, lambda: None)
        records = pipeline.streams.error
        if records:
            said = powershell_errors.read(records[0])
            if said.unanswered:
                raise AnswerLost(said.message)
            raise powershell_errors.refused(str(self._controller), self._settings.username, doing, said)
        if pipeline.state != PSInvocationState.COMPLETED:
            raise AnswerLost("the pipeline was ended on the host")
        # pypsrp's own reading lacks the lists and the times; it keeps the XML beside it.
        return [str(getattr(item, "_xml", None) or item) for item in pipeline.output if item is not None]

    def _server(self) -> dict[str, Any]:
        if not self._settings.psrp_forward_credential:
            return {"Server": self._settings.psrp_server}
        make: Any = PSCredential
        credential = make(username=self._settings.username, password=self._password)
        return {"Server": self._settings.psrp_server, "Credential": credential}

    def _opened(self) -> tuple[PsrpHost, RunspacePool]:
        if self._open is None:
            self._open = self._connect()
        return self._open

    def _connect(self) -> tuple[PsrpHost, RunspacePool]:
        candidates = [self._controller] if self._changed and self._controller else self._order
        failures: dict[str, TransportError] = {}
        for controller in candidates:
            host = self._host(controller)
            try:
                pool, _ = host.open(_TAG, idle_seconds=_IDLE_SECONDS)
                if self._settings.psrp_forward_credential:
                    host.exchange_keys(pool)
            except SettingsError as error:
                host.close()
                raise wrong_settings(str(error)) from error
            except (AccessDenied, CannotConnect) as error:
                host.close()
                failures[controller] = error
                if isinstance(error, AccessDenied) and not _of_certificate(error):
                    break
                continue
            self._controller = controller
            return host, pool
        raise self._not_opened(failures)

    def _host(self, controller: str) -> PsrpHost:
        try:
            return PsrpHost(*_target(self._settings, controller, self._password))
        except SettingsError as error:  # a library is missing for the way to sign in
            raise wrong_settings(str(error)) from error

    def _not_opened(self, failures: Mapping[str, TransportError]) -> TransportError:
        refused = {c: e for c, e in failures.items() if isinstance(e, AccessDenied)}
        if refused and not self._changed:
            # The one that was asked last, if it refused the credential; all others refused are certificates.
            controller, error = list(refused.items())[-1]
            if _of_certificate(error):
                return errors.identity_refused(controller, str(error))
            return errors.sign_in_refused(controller, self._settings.username, str(error))
        lost = self._lost(", ".join(failures), "; ".join(str(e) for e in failures.values()))
        lost.permanent = not lost.outcome_unknown and all(e.permanent for e in failures.values())
        return lost

    def _lost(self, controllers: str, why: str) -> TransportError:
        if self._changed:
            return errors.answer_lost(controllers, "read back what was changed", why)
        return errors.unreachable(controllers, why)


def _target(settings: DirectorySettings, controller: str, password: str) -> tuple[WsmanTarget, PsrpOptions]:
    """Where a host's PSRP is, and how to speak with it."""
    host, port = settings.address(controller)
    options = PsrpOptions(
        username=settings.username, auth=settings.psrp_auth, tls=settings.psrp_tls, verify=settings.verify,
        ca_file=Path(settings.ca_file) if settings.ca_file else None, configuration=settings.psrp_configuration,
        connect_seconds=settings.connect_seconds, open_seconds=settings.connect_seconds + settings.answer_seconds,
    )  # fmt: skip
    return WsmanTarget(host, port, options, password), options


def _of_certificate(error: TransportError) -> bool:
    return isinstance(error.__cause__, requests.exceptions.SSLError)
