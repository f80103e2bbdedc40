"""WS-Man messages by pywinrm: its headers, its authentication and encryption, its reading of faults.

What it does not do is done here: every answer must relate to its question, and every request has a deadline.
"""

from __future__ import annotations

import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

import requests
import winrm.exceptions
import winrm.transport
import xmltodict  # type: ignore[import-untyped]
from winrm.protocol import Protocol

from agent.errors import SettingsError
from agent.transports.wsman_http import BoundedAdapter, mount
from agent.transports.wsman_sign_in import WAYS, MessageEncryption, SignIn
from agent.transports.wsman_target import WsmanTarget

CMD = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
RELATES_TO = "{http://schemas.xmlsoap.org/ws/2004/08/addressing}RelatesTo"

#: Seconds that one Receive waits on the host for output, and how much later an answer may come.
POLL, READ_MARGIN = 20, 10
#: How often a question that may be repeated is asked again, and the first pause in seconds; the pauses double.
REPEATS, PAUSE = 5, 0.25


class AnswerMismatch(ValueError):
    """The answer belongs to no question of ours: a proxy's page, or somebody else's message."""


class Messages:
    """Questions to one host and their answers."""

    def __init__(self, target: WsmanTarget, adapter: BoundedAdapter) -> None:
        self._adapter = adapter
        self._sign_in = SignIn(target)
        self._protocol = _protocol(target, adapter, self._sign_in)

    def ask(
        self,
        action: str,
        body: Mapping[str, Any],
        *,
        shell_id: str | None = None,
        options: Mapping[str, str] | None = None,
        resource: str = CMD,
        seconds: int = POLL,
        repeat: bool = False,
    ) -> ET.Element:
        """The answer to one message. `repeat`: when the answer is lost the same message is sent again, which WS-Man
        answers with the same answer.

        Raises what pywinrm, requests and ElementTree raise; AnswerMismatch; DeadlinePassed.
        """
        self._protocol.operation_timeout_sec = seconds
        self._protocol.transport.read_timeout_sec = seconds + READ_MARGIN
        message_id = uuid.uuid4()
        header = self._protocol.build_wsman_header(action, resource, shell_id=shell_id, message_id=message_id)
        if options:
            chosen = [{"@Name": name, "#text": value} for name, value in options.items()]
            header["env:Header"]["w:OptionSet"] = {"w:Option": chosen}
        message = xmltodict.unparse({"env:Envelope": {**header, "env:Body": dict(body)}})
        answer = ET.fromstring(self._send(message, REPEATS if repeat else 0))
        related = answer.findtext(f".//{RELATES_TO}") or ""
        if related.lower() != f"uuid:{message_id}":
            raise AnswerMismatch("the answer does not belong to the question")
        return answer

    def restart(self) -> None:
        """Use a new connection from here on. What broke off in mid-message left a security context of no use."""
        self._protocol.transport.close_session()
        self._protocol.transport.encryption = None

    def close(self) -> None:
        """Let go of the connection and of what it was signed in with. Never raises."""
        self.restart()
        self._sign_in.close()

    def _send(self, message: str, repeats: int) -> bytes:
        pause = PAUSE
        while True:
            try:
                return self._protocol.send_message(message)
            except requests.exceptions.SSLError:
                raise
            except (requests.ConnectionError, requests.Timeout):
                if repeats <= 0:
                    raise
            repeats -= 1
            self.restart()
            time.sleep(min(pause, self._adapter.remaining()))
            pause *= 2


class _HttpTransport(winrm.transport.Transport):
    """pywinrm's connection, sending through our adapter from its first byte on."""

    adapter: BoundedAdapter
    #: Signs in instead of pywinrm.
    sign_in: SignIn | None = None
    way: str
    messages_encrypted: bool
    encryption: Any

    def build_session(self) -> requests.Session:
        if self.session is not None:
            return self.session
        handler = self.sign_in.handler() if self.sign_in else None
        session = super().build_session()
        mount(session, self.adapter)
        if handler is not None:
            session.auth = handler
            try:
                self._encrypt(session, handler)
            except BaseException:
                # Nothing may go out over a session that should encrypt and does not.
                self.close_session()
                raise
        return session

    def _encrypt(self, session: requests.Session, handler: requests.auth.AuthBase) -> None:
        """Sign in with an empty message; what comes after it is encrypted if the connection itself is not."""
        if self.messages_encrypted:
            self._send_message_request(session, session.prepare_request(requests.Request("POST", self.endpoint)))
            self.encryption = MessageEncryption(handler, self.way)

    def setup_encryption(self, session: requests.Session) -> None:
        mount(session, self.adapter)
        super().setup_encryption(session)


def _protocol(target: WsmanTarget, adapter: BoundedAdapter, sign_in: SignIn) -> Protocol:
    """pywinrm's protocol for a target; nothing is sent yet. Raises SettingsError when it cannot be with these options."""
    options = target.options
    ours = options.auth in WAYS
    # pywinrm must take it for something that it can do; what signs in is set before anything is sent.
    auth: Any = "basic" if ours else options.auth
    shared: dict[str, Any] = {
        "endpoint": target.endpoint,
        "username": "-" if ours else options.username or None,
        "password": "" if ours else target.password or None,
        "ca_trust_path": target.ca_file,
        "cert_pem": options.certificate_file and str(options.certificate_file),
        "cert_key_pem": options.certificate_key_file and str(options.certificate_key_file),
        "server_cert_validation": "validate" if options.verify else "ignore",
        "read_timeout_sec": POLL + READ_MARGIN,
        "proxy": None,
    }
    try:
        protocol = Protocol(transport=auth, operation_timeout_sec=POLL, **shared)
        transport = _HttpTransport(auth_method=auth, **shared)
    except winrm.exceptions.WinRMError as error:
        raise SettingsError(f"options of {target.host}: {error}") from error
    transport.adapter, transport.way, transport.messages_encrypted = adapter, options.auth, target.messages_encrypted
    transport.sign_in = sign_in if ours else None
    # The answer is read as it comes, not unpacked.
    transport.default_headers["Accept-Encoding"] = "identity"
    protocol.transport = transport
    return protocol
