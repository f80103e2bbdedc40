"""The HTTP side of the peer: connections, authentication, encryption, and the faults that a test asks for."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsman_peer import envelope
from wsman_peer.authentication import ENCRYPTED, Accounts, Authentication
from wsman_peer.faults import Fault, Faults, Kind
from wsman_peer.handlers import Handler
from wsman_peer.service import Service

SOAP = "application/soap+xml;charset=UTF-8"
#: Pieces of an answer that drips.
PIECES = 50
PAGE = b"<html><head><title>Proxy</title></head><body><p>Please log in.</p></body></html>"


@dataclass(frozen=True)
class SignedIn:
    """One sign-in: the user as authentication names it, the way, what proved it within that way, what CredSSP handed over."""

    user: str
    way: str
    by: str | None
    delegated: tuple[str, str] | None


class Peer:
    """A WS-Man server on a free loopback port while it is entered.

    accounts: passwords by user name, which may be `DOMAIN\\user`.
    file: where NTLM's accounts are kept meanwhile.
    tls: for HTTPS. ways: of authenticating, in the order offered: basic, ntlm, negotiate, kerberos, credssp.
    in_clear: accepts messages over plain HTTP that are not encrypted. quota: most shells at once.
    """

    def __init__(
        self,
        accounts: dict[str, str],
        file: Path,
        *,
        tls: ssl.SSLContext | None = None,
        ways: Sequence[str] = ("negotiate", "ntlm", "basic"),
        in_clear: bool = False,
        quota: int = 30,
        has_powershell: bool = True,
    ) -> None:
        self.accounts, self.ways, self.in_clear = Accounts(accounts, file), tuple(ways), in_clear
        self.faults = Faults()
        #: Who signed in, by connection, in order; how often somebody was refused.
        self.sign_ins: list[SignedIn] = []
        self.refused = 0
        #: Most parts of one encrypted message.
        self.most_parts = 0
        #: False answers encrypted messages in clear, as somebody on the line would.
        self.encrypts = True
        self.service = Service(quota=quota, has_powershell=has_powershell)
        self._server = _Server(self, tls)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def shells(self) -> dict[str, Any]:
        """The shells that are open now, by id."""
        return self.service.shells

    def handle(self, pattern: str, handler: Handler) -> None:
        """Let scripts in which the regular expression is found do what the handler does. See `handlers.Call`."""
        self.service.handlers.add(pattern, handler)

    def inject(self, kind: Kind, operation: str | None = None, **details: Any) -> None:
        """Ask for a fault. See `faults.Fault`."""
        self.faults.add(Fault(kind, operation, **details))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self.service.close()
        self._server.hang_up()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    # server_close waits for the threads of all connections.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, peer: Peer, tls: ssl.SSLContext | None) -> None:
        self.peer, self.tls = peer, tls
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is an error of the peer."""
        import sys

        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Gone(OSError):
    """This side hung up."""


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._authentication = Authentication(self.server.peer.accounts, self.server.peer.ways)

    def do_POST(self) -> None:
        peer = self.server.peer
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = None
        header = self.headers.get("Authorization")
        if header:
            try:
                certified = self.server.tls is not None and bool(self.connection.getpeercert())
                token = self._authentication.take(header, certified)
            except PermissionError:
                peer.refused += 1
                self._refuse()
                return
            made = self._authentication
            if made.user is not None:
                peer.sign_ins.append(SignedIn(made.user, made.way, made.negotiated, made.delegated))
        if self._authentication.user is None:
            self._refuse(token)
            return
        encrypted = self.headers.get("Content-Type", "").startswith(ENCRYPTED)
        if encrypted:
            try:
                body = self._authentication.decrypt(body)
                peer.most_parts = max(peer.most_parts, self._authentication.parts)
            except PermissionError:
                self._refuse()
                return
        elif body and self.server.tls is None and not peer.in_clear:
            self._answer(403, b"", "text/plain", token)
            return
        if not body:
            self._answer(200, b"", SOAP, token)
            return
        self._operate(body, encrypted, token)

    def _operate(self, body: bytes, encrypted: bool, token: str | None) -> None:
        """Carry the message out, with the fault that waits for it."""
        request: envelope.Request | None = None
        fault: Fault | None = None
        try:
            request = envelope.read(body)
            fault = self.server.peer.faults.take(request.operation)
            if fault is not None:
                self._before(fault)
                if fault.kind in ("status", "html"):
                    self._answer(fault.code if fault.kind == "status" else 200, *_page(fault), token)
                    return
            status, answer = 200, self.server.peer.service.carry_out(request, self._authentication.user or "")
        except envelope.SoapFault as refused:
            status, answer = 500, envelope.fault(request.message_id if request else "", refused)
        if fault is not None and fault.kind == "reset_after":
            self._reset()
        if fault is not None and fault.kind == "delay":
            time.sleep(fault.seconds)
        content_type = SOAP
        if encrypted and self.server.peer.encrypts:
            content_type, answer = self._authentication.encrypt(answer)
        self._answer(status, answer, content_type, token, fault)

    def _before(self, fault: Fault) -> None:
        if fault.kind == "reset_before":
            self._reset()
        if fault.kind == "fault":
            raise envelope.SoapFault(fault.code, "w:InternalError", "A fault that the test asked for.")

    def _refuse(self, token: str | None = None) -> None:
        self.send_response(401)
        for offer in [token] if token else self._authentication.offers():
            self.send_header("WWW-Authenticate", offer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(
        self, status: int, body: bytes, content_type: str, token: str | None, fault: Fault | None = None
    ) -> None:
        self.send_response(status)
        if token:
            self.send_header("WWW-Authenticate", token)
        if status == 401:
            for offer in self._authentication.offers():
                self.send_header("WWW-Authenticate", offer)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault is not None and fault.kind == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault is not None and fault.kind == "drip":
            size = len(body) // PIECES + 1
            for at in range(0, len(body), size):
                self.wfile.write(body[at : at + size])
                time.sleep(fault.seconds / PIECES)
        else:
            self.wfile.write(body)

    def _reset(self) -> None:
        """End the connection as a host does that dies: a reset, no farewell."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True
        raise _Gone("reset, as the test asked")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


def _page(fault: Fault) -> tuple[bytes, str]:
    return (PAGE, "text/html") if fault.kind == "html" else (b"", "text/plain")
