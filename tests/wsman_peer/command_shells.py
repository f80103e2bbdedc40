"""cmd shells: /bin/sh stands for cmd.exe, and `powershell -EncodedCommand` goes to the handlers.

A constant script that reads {"mark", "script", "parameters"} from standard input, as `agent/transports/prelude.ps1` does,
is emulated: the handler gets the script and the parameters that came in. Otherwise the encoded text is the script.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import uuid
from typing import Any
from xml.sax.saxutils import escape

from wsman_peer.buffers import Buffer
from wsman_peer.envelope import NS, Request, SoapFault, unknown
from wsman_peer.handlers import Call, Exit, Handlers, Stopped, Terminating
from wsman_peer.shells import Shell

POWERSHELL = re.compile(r"(?i)^\s*\"?powershell(\.exe)?\"?\s")
ENCODED = re.compile(r"(?i)\s-(?:EncodedCommand|enc|e)\s+([A-Za-z0-9+/=]+)")
#: Exit code of a process that was ended from outside.
ENDED = 1


class CommandShell(Shell):
    """One cmd shell."""

    def __init__(self, request: Request, owner: str, handlers: Handlers, *, has_powershell: bool) -> None:
        super().__init__(request, owner)
        self._handlers, self._has_powershell = handlers, has_powershell
        self._commands: dict[str, Program | Script] = {}
        #: Every command line that was started.
        self.lines: list[str] = []

    def command(self, request: Request) -> str:
        part = request.part("rsp:CommandLine")
        words = [part.findtext("rsp:Command", "", NS), *(a.text or "" for a in part.findall("rsp:Arguments", NS))]
        line = " ".join(words).strip()
        command_id = part.get("CommandId") or str(uuid.uuid4()).upper()
        self.lines.append(line)
        buffer = self.buffers[command_id] = Buffer()
        if self._has_powershell and POWERSHELL.match(line):
            self._commands[command_id] = Script(line, self._handlers, buffer)
        else:
            self._commands[command_id] = Program(line, buffer)
        return command_id

    def send(self, request: Request) -> None:
        for stream in request.part("rsp:Send").findall("rsp:Stream", NS):
            command = self._commands.get(stream.get("CommandId", ""))
            if command is None:
                raise unknown("command")
            command.feed(base64.b64decode(stream.text or ""), stream.get("End", "").lower() == "true")

    def signal(self, command_id: str) -> None:
        command = self._commands.pop(command_id, None)
        if command is None:
            raise unknown("command")
        command.end()
        self.buffers.pop(command_id)

    def close(self) -> None:
        for command in self._commands.values():
            command.end()
        self._commands.clear()


class Program:
    """A command line under /bin/sh."""

    def __init__(self, line: str, buffer: Buffer) -> None:
        self._buffer = buffer
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", line],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._threads = [threading.Thread(target=self._pump, args=(n,), daemon=True) for n in ("stdout", "stderr")]
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        for thread in (*self._threads, self._waiter):
            thread.start()

    def feed(self, data: bytes, end: bool) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            stdin.write(data)
            stdin.flush()
            if end:
                stdin.close()

    def end(self) -> None:
        self._buffer.abandon()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._waiter.join()

    def _pump(self, name: str) -> None:
        with getattr(self._process, name) as stream:
            while data := stream.read1(32768):
                self._buffer.put(name, data)
                self._buffer.wait_for_room()

    def _wait(self) -> None:
        for thread in self._threads:
            thread.join()
        code = self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._buffer.finish(code if code >= 0 else ENDED)


class Script:
    """`powershell` with an encoded command: runs when its standard input has ended."""

    def __init__(self, line: str, handlers: Handlers, buffer: Buffer) -> None:
        found = ENCODED.search(line)
        if found is None:
            raise SoapFault(87, "w:InternalError", "The peer knows powershell with -EncodedCommand only.")
        self._text = base64.b64decode(found[1]).decode("utf-16-le")
        self._as_text = re.search(r"(?i)-OutputFormat\s+Text", line) is not None
        self._handlers, self._buffer = handlers, buffer
        self._input, self._ended, self._stopped = bytearray(), threading.Event(), threading.Event()
        self._errors: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        if "$input" not in self._text:
            self._ended.set()
        self._thread.start()

    def feed(self, data: bytes, end: bool) -> None:
        self._input += data
        if end:
            self._ended.set()

    def end(self) -> None:
        self._stopped.set()
        self._ended.set()
        self._buffer.abandon()
        self._thread.join()

    def record(self, stream: str, value: Any) -> None:
        """As powershell.exe writes: errors to standard error, everything else but progress to standard output."""
        if stream == "progress":
            return
        if stream == "error" and not self._as_text:
            self._errors.append(str(value))
            return
        name = "stderr" if stream == "error" else "stdout"
        prefix = f"{stream.upper()}: " if stream in ("warning", "verbose", "debug") else ""
        self._buffer.put(name, f"{prefix}{value}\r\n".encode())
        self._buffer.wait_for_room()

    def _run(self) -> None:
        self._ended.wait()
        code = ENDED
        if not self._stopped.is_set():
            try:
                code = self._handlers.run(self._call())
            except Exit as asked:
                code = asked.code
            except Terminating as error:
                self.record("error", str(error))
            except Stopped:
                pass
        if self._errors:
            self._buffer.put("stderr", _clixml(self._errors))
        self._buffer.finish(code)

    def _call(self) -> Call:
        if not self._input:
            return Call(self._text, {}, self, self._stopped)
        given = json.loads(self._input.decode("ascii"))
        if given.get("mark"):
            self._buffer.put("stderr", f"{given['mark']} 4711\r\n".encode())
        return Call(given["script"], _unmarked(given["parameters"]), self, self._stopped)


def _unmarked(value: Any) -> Any:
    """What ConvertFrom-Exeunt in prelude.ps1 does: each text begins with a sign that keeps it a text."""
    if isinstance(value, str):
        return value[1:]
    if isinstance(value, dict):
        return {name: _unmarked(part) for name, part in value.items()}
    return [_unmarked(part) for part in value] if isinstance(value, list) else value


def _clixml(errors: list[str]) -> bytes:
    """Errors as powershell.exe gives them to a program that might be PowerShell [MS-PSRP 2.2.5]."""
    texts = "".join(f'<S S="Error">{escape(e).replace("_x", "_x005F_x")}_x000D__x000A_</S>' for e in errors)
    namespace = "http://schemas.microsoft.com/powershell/2004/04"
    return f'#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="{namespace}">{texts}</Objs>'.encode()
