"""The WS-Man service: its shells, and what each operation does to them."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET

from wsman_peer.command_shells import CommandShell
from wsman_peer.envelope import NS, Request, SoapFault, answer, element, unknown
from wsman_peer.handlers import Handlers
from wsman_peer.powershell_shells import PowerShellShell
from wsman_peer.shells import Shell


class Service:
    """Shells and the operations on them. Connect (a second client on a disconnected pool) is missing."""

    def __init__(self, *, quota: int, has_powershell: bool) -> None:
        self.handlers = Handlers()
        self.has_powershell, self.quota = has_powershell, quota
        self._lock = threading.Lock()
        self.shells: dict[str, Shell] = {}
        #: Every command line that a cmd shell was given.
        self.command_lines: list[str] = []
        #: Operation and message id of every request that was carried out.
        self.requests: list[tuple[str, str]] = []

    def carry_out(self, request: Request, user: str) -> bytes:
        """Do what a request asks for. Raises SoapFault when it is refused."""
        self.requests.append((request.operation, request.message_id))
        if request.operation == "Create":
            return answer(request, *self._create(request, user))
        if request.operation == "Enumerate":
            return answer(request, self._enumerate())
        if request.operation == "Get" and request.resource.endswith("/config"):
            config = element(None, "cfg:Config")
            element(config, "cfg:MaxEnvelopeSizekb", "500")
            return answer(request, config)
        shell = self._shell(request)
        if request.operation == "Receive":
            return shell.once(request.message_id, lambda: answer(request, shell.receive(request)))
        acts = {
            "Command": self._command, "Send": self._send, "Signal": self._signal, "Delete": self._delete,
            "Get": self._get, "Disconnect": self._disconnect, "Reconnect": self._reconnect,
        }  # fmt: skip
        if request.operation not in acts:
            raise SoapFault(2150858752, "a:ActionNotSupported", f"Not supported: {request.action}", sender=True)
        return answer(request, *acts[request.operation](request, shell))

    def close(self) -> None:
        """End all shells."""
        with self._lock:
            shells = list(self.shells.values())
            self.shells.clear()
        for shell in shells:
            shell.close()

    def _shell(self, request: Request) -> Shell:
        with self._lock:
            shell = self.shells.get(request.selectors.get("ShellId", ""))
        if shell is None:
            raise unknown("shell")
        return shell

    def _create(self, request: Request, user: str) -> list[ET.Element]:
        with self._lock:
            if len(self.shells) >= self.quota:
                raise SoapFault(2150859173, "w:QuotaLimit", "This user may not have more shells.")
        shell: Shell
        if request.resource.endswith("/shell/cmd"):
            shell = made = CommandShell(request, user, self.handlers, has_powershell=self.has_powershell)
            made.lines = self.command_lines
        elif request.resource.startswith(NS["pwsh"] + "/"):
            shell = PowerShellShell(request, user, self.handlers)
        else:
            raise SoapFault(2150858752, "w:InvalidResourceURI", f"No such resource: {request.resource}", sender=True)
        with self._lock:
            self.shells[shell.id] = shell
        created = element(None, "x:ResourceCreated")
        element(created, "a:Address", "http://peer.example.test/wsman")
        reference = element(created, "a:ReferenceParameters")
        element(reference, "w:ResourceURI", request.resource)
        element(element(reference, "w:SelectorSet"), "w:Selector", shell.id, Name="ShellId")
        return [created, shell.describe()]

    def _enumerate(self) -> ET.Element:
        response = element(None, "n:EnumerateResponse")
        items = element(response, "w:Items")
        with self._lock:
            items.extend(shell.describe() for shell in self.shells.values())
        element(response, "w:EndOfSequence")
        return response

    def _command(self, request: Request, shell: Shell) -> list[ET.Element]:
        response = element(None, "rsp:CommandResponse")
        element(response, "rsp:CommandId", shell.command(request))
        return [response]

    def _send(self, request: Request, shell: Shell) -> list[ET.Element]:
        shell.send(request)
        return [element(None, "rsp:SendResponse")]

    def _signal(self, request: Request, shell: Shell) -> list[ET.Element]:
        shell.signal(request.part("rsp:Signal").get("CommandId", ""))
        return [element(None, "rsp:SignalResponse")]

    def _delete(self, request: Request, shell: Shell) -> list[ET.Element]:
        with self._lock:
            self.shells.pop(shell.id, None)
        shell.close()
        return []

    def _get(self, request: Request, shell: Shell) -> list[ET.Element]:
        return [shell.describe()]

    def _disconnect(self, request: Request, shell: Shell) -> list[ET.Element]:
        shell.state = "Disconnected"
        return [element(None, "rsp:DisconnectResponse")]

    def _reconnect(self, request: Request, shell: Shell) -> list[ET.Element]:
        shell.state = "Connected"
        return [element(None, "rsp:ReconnectResponse")]
