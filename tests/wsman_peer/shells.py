"""What all shells of the peer have in common: an identity, and answers that are given again for the same message."""

from __future__ import annotations

import base64
import threading
import uuid
import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Callable

from wsman_peer.buffers import Buffer
from wsman_peer.envelope import NS, SHELL_URI, Request, element, timed_out, unknown

STATE = f"{SHELL_URI}/CommandState/"
#: Answers that are kept to be given again, per shell.
KEPT = 4


class Shell:
    """A shell. Subclasses say what a command is."""

    def __init__(self, request: Request, owner: str) -> None:
        part = request.part("rsp:Shell")
        self.id = part.get("ShellId") or str(uuid.uuid4()).upper()
        self.name = part.findtext("rsp:Name", "", NS) or "WinRM"
        self.resource = request.resource
        self.owner = owner
        self.state = "Connected"
        self.buffers: dict[str | None, Buffer] = {}
        self._answers: OrderedDict[str, _Once] = OrderedDict()
        self._lock = threading.Lock()

    #: Streams that are cut anywhere, or only between pieces.
    whole = False

    def command(self, request: Request) -> str:
        """Start a command: its id."""
        raise NotImplementedError

    def send(self, request: Request) -> None:
        """Take input for a command, or for the shell itself."""
        raise NotImplementedError

    def signal(self, command_id: str) -> None:
        """End a command."""
        raise NotImplementedError

    def close(self) -> None:
        """End everything that runs in this shell, and wait for it."""
        raise NotImplementedError

    def once(self, message_id: str, act: Callable[[], bytes]) -> bytes:
        """What `act` gives, or gave before for the same message. A repeated message waits for the first."""
        with self._lock:
            known = self._answers.setdefault(message_id, _Once(act))
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        return known.get()

    def receive(self, request: Request) -> ET.Element:
        """The next output of a command. Raises the time-out fault when there is none in time."""
        desired = request.part("rsp:Receive/rsp:DesiredStream")
        command_id = desired.get("CommandId")
        buffer = self.buffers.get(command_id)
        if buffer is None:
            raise unknown("command")
        # What base64 and the envelope add.
        limit = (request.max_size - 4096) * 3 // 4
        pieces, exit_code = buffer.take(limit, request.timeout, whole=self.whole)
        if not pieces and exit_code is None:
            raise timed_out()
        answer = element(None, "rsp:ReceiveResponse")
        named = {} if command_id is None else {"CommandId": command_id}
        for stream, data in _joined(pieces):
            element(answer, "rsp:Stream", base64.b64encode(data).decode(), Name=stream, **named)
        if command_id is not None:
            done = exit_code is not None
            if done:
                for stream in (desired.text or "").split():
                    element(answer, "rsp:Stream", Name=stream, End="true", **named)
            state = element(answer, "rsp:CommandState", State=STATE + ("Done" if done else "Running"), **named)
            if done:
                element(state, "rsp:ExitCode", str(exit_code))
        return answer

    def describe(self) -> ET.Element:
        """The shell as Get and Enumerate show it."""
        part = element(None, "rsp:Shell")
        for name, value in (
            ("ShellId", self.id),
            ("Name", self.name),
            ("ResourceUri", self.resource),
            ("Owner", self.owner),
            ("ClientIP", "127.0.0.1"),
            ("State", self.state),
        ):
            element(part, f"rsp:{name}", value)
        return part


class _Once:
    """A result that is made at most once."""

    def __init__(self, act: Callable[[], bytes]) -> None:
        self._act, self._lock = act, threading.Lock()
        self._result: bytes | Exception | None = None

    def get(self) -> bytes:
        with self._lock:
            if self._result is None:
                try:
                    self._result = self._act()
                except Exception as error:  # noqa: BLE001 - kept and raised again, for every asker alike
                    self._result = error
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def _joined(pieces: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Neighbouring pieces of one stream as one."""
    joined: list[tuple[str, bytes]] = []
    for stream, data in pieces:
        if joined and joined[-1][0] == stream:
            joined[-1] = (stream, joined[-1][1] + data)
        else:
            joined.append((stream, data))
    return joined
