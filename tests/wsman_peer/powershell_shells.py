"""PowerShell shells: runspace pools, by the server side of psrpcore. Scripts go to the handlers."""

from __future__ import annotations

import base64
import threading
import uuid
import xml.etree.ElementTree as ET
from typing import Any

import psrpcore
from psrpcore.types import (
    ErrorCategoryInfo,
    ErrorRecord,
    HostMethodIdentifier,
    NETException,
    PSInvocationState,
    PSVersion,
)

from wsman_peer.buffers import Buffer
from wsman_peer.envelope import NS, Request, SoapFault, unknown
from wsman_peer.handlers import Call, Exit, Handlers, Stopped, Terminating
from wsman_peer.shells import Shell

#: Bytes of one fragment, its head included.
FRAGMENT = 32768


def _either_ci(event: Any) -> int:
    """psrpcore reads `ci` here, while clients send `CI` as Windows does."""
    given = event._ps_object
    return int(getattr(given, "CI", None) if hasattr(given, "CI") else given.ci)


for _event in (psrpcore.SetMaxRunspacesEvent, psrpcore.SetMinRunspacesEvent):
    _event.ci = property(_either_ci)  # type: ignore[assignment, method-assign]


class PowerShellShell(Shell):
    """One runspace pool. psrpcore is not made for threads: everything goes through one lock."""

    whole = True

    def __init__(self, request: Request, owner: str, handlers: Handlers) -> None:
        super().__init__(request, owner)
        self._handlers = handlers
        self._guard = threading.RLock()
        self._pool = psrpcore.ServerRunspacePool(
            application_private_data={"PSVersionTable": {"PSVersion": PSVersion("5.1.17763.1")}}
        )
        self._runs: dict[str, Run] = {}
        self.buffers[None] = Buffer()
        self._take(base64.b64decode(request.part("rsp:Shell/pwsh:creationXml").text or ""))

    def command(self, request: Request) -> str:
        part = request.part("rsp:CommandLine")
        command_id = (part.get("CommandId") or str(uuid.uuid4())).upper()
        with self._guard:
            self.buffers[command_id] = Buffer()
            pipeline = psrpcore.ServerPipeline(self._pool, uuid.UUID(command_id))
            self._runs[command_id] = Run(self, pipeline, self.buffers[command_id])
            self._take(base64.b64decode("".join(a.text or "" for a in part.findall("rsp:Arguments", NS))))
        return command_id

    def send(self, request: Request) -> None:
        for stream in request.part("rsp:Send").findall("rsp:Stream", NS):
            self._take(base64.b64decode(stream.text or ""))

    def signal(self, command_id: str) -> None:
        run = self._runs.get(command_id.upper())
        if run is None:
            raise unknown("command")
        run.stop()

    def close(self) -> None:
        for run in list(self._runs.values()):
            run.stop()
        self.buffers[None].abandon()

    def _take(self, data: bytes) -> None:
        """Give fragments to psrpcore, answer what it asks, start what it was told to start."""
        with self._guard:
            self._pool.receive_data(psrpcore.PSRPPayload(data, psrpcore.StreamType.default, None))
            while (event := self._pool.next_event()) is not None:
                if isinstance(event, psrpcore.CreatePipelineEvent):
                    self._runs[str(event.pipeline_id).upper()].start(event.pipeline)
                elif isinstance(event, psrpcore.GetAvailableRunspacesEvent):
                    self._pool.runspace_availability_response(event.ci, 1)
                elif isinstance(
                    event,
                    psrpcore.SetMaxRunspacesEvent | psrpcore.SetMinRunspacesEvent | psrpcore.ResetRunspaceStateEvent,
                ):
                    self._pool.runspace_availability_response(event.ci, True)
            self.flush()

    def flush(self) -> None:
        """Move what psrpcore has to say into the buffers, in whole fragments."""
        with self._guard:
            while (payload := self._pool.data_to_send(FRAGMENT)) is not None:
                key = None if payload.pipeline_id is None else str(payload.pipeline_id).upper()
                buffer = self.buffers.get(key)
                if buffer is not None:
                    buffer.put("stdout", payload.data)


class Run:
    """One pipeline and the thread of its handler."""

    def __init__(self, shell: PowerShellShell, pipeline: psrpcore.ServerPipeline, buffer: Buffer) -> None:
        self._shell, self._pipeline, self._buffer = shell, pipeline, buffer
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, powershell: Any) -> None:
        """Run the pipeline's script. A script that does nothing but run another one with parameters is looked through."""
        if not isinstance(powershell, psrpcore.PowerShell):
            raise SoapFault(87, "w:InternalError", "The peer runs pipelines only.")
        given = {n or "": _plain(v) for c in powershell.commands for n, v in c.parameters}
        wrapped = set(given) == {"script", "parameters"}
        if wrapped:
            script, given = given["script"], given["parameters"]
        elif powershell.commands[0].command_text == "Invoke-Expression":
            script, given = given["Command"], {}
        else:
            script = "\n".join(c.command_text for c in powershell.commands)
        self._pipeline.start()
        call = Call(script, given, self, self._stopped, self._shell.owner)
        if len(powershell.commands) == 1 and not powershell.commands[0].is_script:
            call.cmdlet = script
            call.arguments = {str(n): v for n, v in powershell.commands[0].parameters}
        self._thread = threading.Thread(target=self._run, args=(call, wrapped), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._buffer.abandon()
        if self._thread is not None:
            self._thread.join()

    def record(self, stream: str, value: Any) -> None:
        with self._shell._guard:
            self._write(stream, value)
            self._shell.flush()
        self._buffer.wait_for_room()

    def _write(self, stream: str, value: Any) -> None:
        if stream == "output":
            self._pipeline.write_output(value)
        elif stream == "error":
            self._pipeline.write_error(NETException(Message=value), fully_qualified_error_id="PeerError")
        elif stream == "information":
            self._pipeline.write_information(value, source="peer")
        elif stream == "progress":
            self._pipeline.write_progress(value, 1, "running")
        else:
            getattr(self._pipeline, f"write_{stream}")(value)

    def _run(self, call: Call, wrapped: bool) -> None:
        """Run the handler and end the pipeline as PowerShell would."""
        code: int | None = None
        failure: ErrorRecord | None = None
        stopped = False
        try:
            ended = self._shell._handlers.run(call)
            code = ended if wrapped else None
        except Exit as asked:
            code = asked.code
        except Terminating as error:
            failure = error.record if isinstance(error.record, ErrorRecord) else _error(str(error), error.record)
        except Stopped:
            stopped = True
        with self._shell._guard:
            if code is not None and self._has_host():
                self._pipeline.host_call(HostMethodIdentifier.SetShouldExit, [code])
            if stopped:
                self._pipeline.stop()
            elif failure is not None:
                self._pipeline._change_state(PSInvocationState.Failed, error=failure)
            else:
                self._pipeline.complete()
            self._shell.flush()
            self._pipeline.close()
        self._buffer.finish(0)

    def _has_host(self) -> bool:
        host = self._shell._pool.host
        return host is not None and not host.IsHostNull


def _error(message: str, identifier: str | None) -> ErrorRecord:
    record = ErrorRecord(
        Exception=NETException(Message=message), CategoryInfo=ErrorCategoryInfo(),
        FullyQualifiedErrorId=identifier or "PeerFailure",
    )  # fmt: skip
    record.serialize_extended_info = False
    return record


def _plain(value: Any) -> Any:
    """Python's own types instead of psrpcore's, so that a handler can compare values and types."""
    if value is None or isinstance(value, ET.Element):
        return value
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dict):
        return {_plain(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
