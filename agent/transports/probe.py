"""Is a machine there? A look from outside, without logging in, at those that have no endpoint agent of ours.

SSH is told by its banner, WinRM and PSRP by the answer to an anonymous Identify (a 401 identifies them too), this
machine needs no look, and of anything else it is asked whether its port takes a connection. Only jump hosts are logged
in to; no secret goes anywhere else, so the certificate of a TLS server is not checked. A host that accepts and then is
silent, or sends drop by drop, has no more time than one that does not answer.
"""

from __future__ import annotations

import math
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

from agent.errors import SettingsError, TransportError
from agent.transports import registry
from agent.transports.base import Identification
from agent.transports.output import printable

#: Machines looked at at once.
AT_ONCE = 64
#: More than this nobody needs to say who they are.
_ANSWER_BYTES = 65_536
_IDENTIFY = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
    "<s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>"
)
T = TypeVar("T")


def probe(computers: Iterable[Mapping[str, Any]], timeout: float = 5.0) -> dict[int, Identification]:
    """Look at many computers at once; the answer is by their ids.

    computers: columns as `registry.connect` takes them, with `computer_id`, the credential's settings laid under
    `transport_options`, and its `secrets` where a jump host must be passed.
    timeout: seconds for one computer, 0.1 to 60. All of them take at most that for each AT_ONCE computers.
    """
    asked = {int(computer["computer_id"]): computer for computer in computers}
    pool = ThreadPoolExecutor(min(AT_ONCE, max(1, len(asked))), thread_name_prefix="probe")
    try:
        began = {number: pool.submit(_look, computer, timeout) for number, computer in asked.items()}
        # The look has its own limit; only the resolver of names has none.
        wait(began.values(), timeout=timeout * math.ceil(len(asked) / AT_ONCE) + 1)
        late = Identification(False, "its name was not resolved in time", timeout)
        return {number: future.result() if future.done() else late for number, future in began.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _look(computer: Mapping[str, Any], timeout: float) -> Identification:
    began = time.monotonic()
    try:
        reachable, detail = _ask(computer, began + timeout)
    except TimeoutError:
        reachable, detail = False, f"no answer in {timeout:g} s"
    except (SettingsError, TransportError) as error:
        reachable, detail = False, str(error)
    except (OSError, UnicodeError, ValueError) as error:
        reachable, detail = False, getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Identification(reachable, printable(detail)[:200], time.monotonic() - began)


def _ask(computer: Mapping[str, Any], deadline: float) -> tuple[bool, str]:
    kind, address, port = computer.get("transport") or "", str(computer.get("address") or ""), computer.get("port")
    if kind == "local":
        return True, "this machine"
    if not address:
        return False, "it has no address"
    if kind in ("winrm", "psrp"):
        options: Any = registry.check_options(kind, computer.get("transport_options") or {})
        with _Dialogue(address, int(port or (5986 if options.tls else 5985)), deadline, tls=options.tls) as dialogue:
            return _identify(dialogue, address, options.path)
    if kind == "ssh":
        options = registry.check_options(kind, computer.get("transport_options") or {})
        if options.jump:
            transport: Any = registry.connect(computer, ({}, computer.get("secrets") or {}))
            said = transport.banner(max(0.1, deadline - time.monotonic()))
            return said.startswith("SSH-"), said or "it says nothing"
        with _Dialogue(address, int(port or 22), deadline) as dialogue:
            return _banner(dialogue)
    if not port:
        return False, f"it has neither a transport that can be asked nor a port: {kind or 'none'}"
    with _Dialogue(address, int(port), deadline):
        return True, f"port {port} takes connections"


def _banner(dialogue: _Dialogue) -> tuple[bool, str]:
    """RFC 4253, 4.2: lines of the server's own may come before the identification."""
    answer = dialogue.until(lambda data: re.search(rb"(?m)^SSH-[^\n]*\n", data))
    found = re.search(rb"(?m)^(SSH-(2\.0|1\.99)-[^\r\n]*)", answer)
    return (True, found[1].decode("ascii", "replace")) if found else (False, "it answers, but not as an SSH server")


def _identify(dialogue: _Dialogue, address: str, path: str) -> tuple[bool, str]:
    """DSP0226, 11: Identify. The header asks to be answered without authentication."""
    host = f"[{address}]" if ":" in address else address.encode("idna").decode()
    dialogue.send(
        f"POST /{path.lstrip('/')} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        "wsmanidentify: unauthenticated\r\nContent-Type: application/soap+xml;charset=UTF-8\r\n"
        f"Content-Length: {len(_IDENTIFY)}\r\n\r\n{_IDENTIFY}".encode("ascii")
    )
    refusal = re.compile(rb"HTTP/1\.[01] (?!200)\d{3}.*?\r\n\r\n", re.DOTALL)
    answer = dialogue.until(lambda data: b"IdentifyResponse>" in data or refusal.match(data))
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    if status is None:
        return False, "it answers, but not by HTTP"
    if status[1] == b"401":
        return True, "WS-Management, asks for a login"
    if status[1] == b"200" and b"IdentifyResponse" in answer:
        names = [re.search(rb"Product%s>([^<]*)<" % part, answer) for part in (b"Vendor", b"Version")]
        return True, " ".join(["WS-Management", *(found[1].decode("utf-8", "replace") for found in names if found)])
    return False, f"it answers HTTP {status[1].decode()}, not WS-Management"


class _Dialogue:
    """A connection whose every act ends at one deadline. Raises TimeoutError and OSError."""

    def __init__(self, address: str, port: int, deadline: float, *, tls: bool = False) -> None:
        self._deadline = deadline
        self._link = self._connect(address, port)
        if not tls:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            self._link = context.wrap_socket(self._link, do_handshake_on_connect=False, server_hostname=address)
            self._act(self._link.do_handshake)
        except BaseException:
            self._link.close()
            raise

    def __enter__(self) -> _Dialogue:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            data = data[self._act(partial(self._link.send, data)) :]

    def until(self, enough: Callable[[bytes], object]) -> bytes:
        """What came until it is enough, the other side ends, or it is too much."""
        answer = b""
        while len(answer) < _ANSWER_BYTES and not enough(answer):
            piece = self._act(partial(self._link.recv, 8192))
            if not piece:
                break
            answer += piece
        return answer

    def _connect(self, address: str, port: int) -> socket.socket:
        failure: OSError = OSError(f"{address} has no address")
        for family, kind, protocol, _, place in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM):
            link = socket.socket(family, kind, protocol)
            try:
                link.settimeout(self._left())
                link.connect(place)
                link.setblocking(False)
                return link
            except OSError as error:
                link.close()
                failure = error
        raise failure

    def _act(self, act: Callable[[], T]) -> T:
        while True:
            try:
                return act()
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._link, event)
        poll.poll(1000 * self._left())

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
