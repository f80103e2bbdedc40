"""WinRM: a cmd shell that starts powershell.exe, by pywinrm.

The command line is constant; the body, its parameters and its secrets go in by standard input (`binding.bind`), and the
line with which the constant prelude answers tells that the body is started. A process that ends without that line did
not run the body, whatever exit code it gives. Standard output and standard error are powershell.exe's own: warnings and
verbose records stand on standard output there, unlike with PSRP.

At its time limit the process is ended by a signal and its shell deleted; WinRM ends all processes of a shell with it.
"""

from __future__ import annotations

import base64
import logging
import math
import uuid
import xml.etree.ElementTree as ET
from typing import ClassVar, Self

import pypsrp.exceptions
import winrm.exceptions
from pydantic import BaseModel, Field

from agent.errors import AccessDenied, AnswerLost, CannotRun, TimeLimitReached, TransportError, UsageError
from agent.model.base import utcnow
from agent.transports.base import Body, Execution, Target
from agent.transports.binding import Announcement, Bound, bind
from agent.transports.output import OutputCollector
from agent.transports.winrm_messages import ENUMERATION, POLL, SHELL, TRANSFER, Messages
from agent.transports.wsman_errors import (
    EXCHANGE_ERRORS,
    FAULT_TIMED_OUT,
    FAULT_UNKNOWN_SELECTOR,
    Stage,
    from_exchange,
    from_fault,
    from_status,
)
from agent.transports.wsman_http import BoundedAdapter, DeadlinePassed
from agent.transports.wsman_shells import ALL_SHELLS, MAX_ELEMENTS, own_shells, shell_name, shell_prefix
from agent.transports.wsman_target import WsmanOptions, WsmanTarget, read_target

log = logging.getLogger(__name__)

#: Bytes of standard input in one message: base64 and the envelope must fit into the 150 KiB of the oldest hosts.
INPUT_PIECE = 65_536
#: The code page in which powershell.exe's input and output are UTF-8.
UTF8_CODE_PAGE = "65001"

_ERRORS: tuple[type[Exception], ...] = (
    winrm.exceptions.WinRMError,
    winrm.exceptions.WinRMTransportError,
    winrm.exceptions.WinRMOperationTimeoutError,
    # from the handlers that sign in, see wsman_sign_in
    pypsrp.exceptions.WinRMError,
    *EXCHANGE_ERRORS,
)


class WinrmOptions(WsmanOptions):
    """Options of the transport `winrm`."""

    powershell: str = Field("powershell", pattern="^[A-Za-z0-9._-]+$", description="Program that runs .ps1 bodies")


class WinrmTransport:
    """Runs `ps1` bodies in a new cmd shell each. Not shared between threads."""

    name = "winrm"
    Options: ClassVar[type[BaseModel]] = WinrmOptions

    def __init__(self, target: WsmanTarget, options: WinrmOptions) -> None:
        self._endpoint, self._options = target.endpoint, options
        self._adapter = BoundedAdapter(options.connect_seconds, encrypted_only=target.messages_encrypted)
        self._messages = Messages(target, self._adapter)

    @classmethod
    def to(cls, target: Target) -> Self:
        """See `Transport.to`."""
        return cls(read_target(target), target.options)

    def run(self, body: Body, output: OutputCollector) -> Execution:
        """See `Transport.run`. Raises UsageError for a body that is not `ps1`."""
        if body.language != "ps1":
            raise UsageError(f"winrm runs PowerShell (.ps1) only, not .{body.language}; give the script a .ps1 body")
        bound = bind(body, powershell=self._options.powershell)
        started_at = utcnow()
        self._adapter.allow(self._options.open_seconds)
        try:
            shell_id = self._open(body.tag)
            try:
                command_id = self._start(shell_id, bound)
                code = self._follow(shell_id, command_id, bound, body, output)
            finally:
                self._end_shell(shell_id)
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
            found = self._own_shells(shell_prefix(tag))
        except _ERRORS as error:
            raise self._translated(error, Stage.OPENING) from error
        for shell_id in found:
            self._end_shell(shell_id)
        return len(found)

    def close(self) -> None:
        """Let go of connections. Never raises."""
        self._messages.close()

    def _open(self, tag: str) -> str:
        """Open a shell whose name tells whose it is: its id."""
        name = shell_name(tag, uuid.uuid4())
        shell = {"rsp:InputStreams": "stdin", "rsp:OutputStreams": "stdout stderr", "rsp:Name": name}
        options = {"WINRS_NOPROFILE": "TRUE", "WINRS_CODEPAGE": UTF8_CODE_PAGE}
        try:
            answer = self._messages.ask(f"{TRANSFER}/Create", {"rsp:Shell": shell}, options=options)
            return _text(answer, "ShellId")
        except _ERRORS as error:
            refusal = self._translated(error, Stage.OPENING)
            # The shell may have been made although its answer is lost. A refused password is not tried again.
            if not isinstance(refusal, AccessDenied):
                self._end_named(name)
            raise refusal from error

    def _start(self, shell_id: str, bound: Bound) -> str:
        """Start the constant command and hand the body over: the command's id.

        The body cannot start before the last piece of input was sent, so until then nothing has happened.
        """
        program, *arguments = bound.argv
        line = {"rsp:CommandLine": {"rsp:Command": program, "rsp:Arguments": " ".join(arguments)}}
        # Standard input is a pipe, not a console.
        options = {"WINRS_CONSOLEMODE_STDIN": "FALSE", "WINRS_SKIP_CMD_SHELL": "FALSE"}
        stage = Stage.OPENING
        try:
            answer = self._messages.ask(f"{SHELL}/Command", line, shell_id=shell_id, options=options)
            command_id = _text(answer, "CommandId")
            for at in range(0, len(bound.stdin), INPUT_PIECE):
                last = at + INPUT_PIECE >= len(bound.stdin)
                self._adapter.remaining()
                stage = Stage.STARTING if last else stage
                piece = base64.b64encode(bound.stdin[at : at + INPUT_PIECE]).decode()
                stream = {"@Name": "stdin", "@CommandId": command_id, "@End": str(last).lower(), "#text": piece}
                self._messages.ask(f"{SHELL}/Send", {"rsp:Send": {"rsp:Stream": stream}}, shell_id=shell_id)
        except _ERRORS as error:
            raise self._translated(error, stage) from error
        return command_id

    def _follow(self, shell_id: str, command_id: str, bound: Bound, body: Body, output: OutputCollector) -> int:
        """Take output until the command has ended: its exit code."""
        announcement = Announcement(bound.mark)
        self._adapter.allow(body.time_limit)
        code: int | None = None
        try:
            while code is None:
                pieces, code = self._receive(shell_id, command_id)
                for stream, data in pieces:
                    output.write(stream, announcement.feed(data) if stream == "stderr" else data)
        except DeadlinePassed:
            self._stop(shell_id, command_id, body)
        except _ERRORS as error:
            raise self._translated(error, Stage.RUNNING) from error
        finally:
            output.write("stderr", announcement.rest())
        assert code is not None
        if announcement.pid is None:
            raise CannotRun(
                f"{self._endpoint}: {self._options.powershell} ended with exit code {code} before it ran the script; is "
                "PowerShell installed there, and may it run?"
            )
        return code

    def _receive(self, shell_id: str, command_id: str) -> tuple[list[tuple[str, bytes]], int | None]:
        """Output that has come, and the exit code once there is one."""
        seconds = max(1, min(POLL, math.ceil(self._adapter.remaining())))
        desired = {"rsp:DesiredStream": {"@CommandId": command_id, "#text": "stdout stderr"}}
        try:
            answer = self._messages.ask(
                f"{SHELL}/Receive", {"rsp:Receive": desired}, shell_id=shell_id, seconds=seconds, repeat=True
            )
        except winrm.exceptions.WinRMOperationTimeoutError:
            return [], None
        pieces = [
            (stream.attrib["Name"], base64.b64decode(stream.text))
            for stream in answer.iter(f"{{{SHELL}}}Stream")
            if stream.text and stream.attrib["Name"] in ("stdout", "stderr")
        ]
        state = answer.find(f".//{{{SHELL}}}CommandState")
        if state is None or not state.attrib["State"].endswith("/Done"):
            return pieces, None
        return pieces, int(_text(state, "ExitCode"))

    def _stop(self, shell_id: str, command_id: str, body: Body) -> None:
        """End what reached its time limit. Always raises."""
        self._messages.restart()
        self._adapter.allow(self._options.grace_seconds)
        signal = {"rsp:Signal": {"@CommandId": command_id, "rsp:Code": f"{SHELL}/signal/terminate"}}
        limit = f"time limit of {body.time_limit:g} s"
        try:
            self._messages.ask(f"{SHELL}/Signal", signal, shell_id=shell_id)
        except _ERRORS as error:
            if not _is_gone(error):
                raise AnswerLost(
                    f"{self._endpoint}: the {limit} was reached and the host did not confirm that it ended the script: "
                    f"{error}"
                ) from error
        raise TimeLimitReached(f"{self._endpoint}: ended at its {limit}")

    def _end_shell(self, shell_id: str) -> None:
        """Delete a shell. A failure is logged and changes nothing about the result."""
        self._adapter.allow(self._options.grace_seconds)
        for attempt in (1, 2):
            try:
                self._messages.ask(f"{TRANSFER}/Delete", {}, shell_id=shell_id)
                return
            except _ERRORS as error:
                if _is_gone(error):
                    return
                if attempt == 2:
                    log.warning("a shell may be left on %s: %s: %s", self._endpoint, shell_id, error)
                self._messages.restart()

    def _end_named(self, name: str) -> None:
        """Delete the shell of this name, if it was made."""
        self._messages.restart()
        self._adapter.allow(self._options.grace_seconds)
        try:
            found = self._own_shells(name)
        except _ERRORS as error:
            log.warning("a shell may be left on %s under the name %s: %s", self._endpoint, name, error)
            return
        for shell_id in found:
            self._end_shell(shell_id)

    def _own_shells(self, prefix: str) -> list[str]:
        wanted = {"n:Enumerate": {"w:OptimizeEnumeration": None, "w:MaxElements": str(MAX_ELEMENTS)}}
        answer = self._messages.ask(f"{ENUMERATION}/Enumerate", wanted, resource=ALL_SHELLS)
        return [shell_id for shell_id, resource in own_shells(answer, prefix) if resource.endswith("/shell/cmd")]

    def _translated(self, error: Exception, stage: Stage) -> TransportError:
        endpoint = self._endpoint
        if isinstance(error, winrm.exceptions.AuthenticationError | pypsrp.exceptions.AuthenticationError):
            return from_status(401, endpoint=endpoint, stage=stage)
        if isinstance(error, winrm.exceptions.WSManFaultError):
            return from_fault(error.wsman_fault_code, error.reason, endpoint=endpoint, stage=stage)
        if isinstance(error, winrm.exceptions.WinRMOperationTimeoutError):
            return from_fault(FAULT_TIMED_OUT, "timed out", endpoint=endpoint, stage=stage)
        if isinstance(error, winrm.exceptions.WinRMTransportError):
            return from_status(error.code, endpoint=endpoint, stage=stage)
        return from_exchange(error, endpoint=endpoint, stage=stage)


def _text(answer: ET.Element, name: str) -> str:
    """The text of the first element of this name. Raises LookupError when there is none."""
    found = answer.findtext(f".//{{{SHELL}}}{name}")
    if not found:
        raise LookupError(f"the answer has no {name}")
    return found


def _is_gone(error: Exception) -> bool:
    """Whether the host says that there is no such shell or command any more."""
    return isinstance(error, winrm.exceptions.WSManFaultError) and error.wsman_fault_code == FAULT_UNKNOWN_SELECTOR
