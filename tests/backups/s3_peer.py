"""A store that speaks S3 (moto, an own process), behind a relay that notes what is sent and can refuse or hang up.

What moto leaves out: it does not check signatures, and its checks of MD5 are the relay's here.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from peers import kept_port


@dataclass
class Sent:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Relay:
    """Between the client and the store. `answer`: a status with an S3 error code, or `hang up`; None passes it on."""

    url: str = ""
    sent: list[Sent] = field(default_factory=list)
    answer: Callable[[Sent], tuple[int, str] | str | None] = lambda sent: None

    def keys(self, method: str) -> list[str]:
        return [s.path.partition("?")[0] for s in self.sent if s.method == method]


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: Head and body go out at once: else each answer waits 40 ms for the acknowledgement of its head.
    disable_nagle_algorithm = True
    relay: Relay
    port: int

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        sent = Sent(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.relay.sent.append(sent)
        chosen = self.relay.answer(sent)
        if chosen is None and "content-md5" in sent.headers:
            good = base64.b64encode(hashlib.md5(body).digest()).decode() == sent.headers["content-md5"]
            chosen = None if good else (400, "BadDigest")
        if chosen == "hang up":
            self.close_connection = True
            self.connection.close()
            return
        if isinstance(chosen, tuple):
            text = f"<Error><Code>{chosen[1]}</Code><Message>no</Message></Error>".encode()
            self._answer(chosen[0], {"content-type": "application/xml"}, text)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k != "Expect"})
        answer = connection.getresponse()
        content = answer.read()
        headers = {
            k: v
            for k, v in answer.getheaders()
            if k.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        self._answer(answer.status, headers, content)
        connection.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        given = {k.lower() for k in headers}
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in given:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@contextmanager
def moto() -> Iterator[int]:
    """The port of a store of its own."""
    with kept_port() as port, _moto(port):
        yield port


@contextmanager
def _moto(port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(process, port)
            yield
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/moto-api/")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("moto does not answer")


@contextmanager
def relaying(port: int) -> Iterator[Relay]:
    """A relay in front of the store at a port."""
    relay = Relay()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Passing", (_Passing,), {"relay": relay, "port": port}))
    server.daemon_threads = True
    relay.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
