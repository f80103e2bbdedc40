"""A TCP proxy that ends a conversation at a chosen point: after a request was passed on, before its answer comes back."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

#: Type of a TLS record that carries data (RFC 8446, 5.1).
_APPLICATION_DATA = 23


@dataclass
class CuttingProxy:
    """Counts the client's messages over TLS. `cut_at`: the number of the one after which everything ends; `for_good`:
    every later connection ends as well; `hang`: the answer never comes, and the connection stays.
    """

    port: int
    target: tuple[str, int]
    cut_at: int | None = None
    for_good: bool = False
    hang: bool = False
    seen: int = 0
    fired: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, cut_at: int | None, *, for_good: bool = False, hang: bool = False) -> None:
        """Begin to count anew."""
        with self.lock:
            self.cut_at, self.for_good, self.hang, self.seen, self.fired = cut_at, for_good, hang, 0, False

    def counted(self) -> bool:
        """Count a message of the client; whether it is the one to cut after."""
        with self.lock:
            self.seen += 1
            if self.seen != self.cut_at or self.fired:
                return False
            self.fired = True
            return True

    def serve(self, client: socket.socket) -> None:
        """One connection, to its end."""
        with client:
            if self.fired and self.for_good:
                _record(client)
                _reset(client)
                return
            with socket.create_connection(self.target, 60) as server:
                cut = threading.Event()
                back = threading.Thread(target=_pump, args=(server, client, cut), daemon=True)
                back.start()
                self._forward(client, server, cut, back)
                back.join(10)

    def _forward(
        self, client: socket.socket, server: socket.socket, cut: threading.Event, back: threading.Thread
    ) -> None:
        while True:
            record = _record(client)
            if record is None:
                with suppress(OSError):
                    server.shutdown(socket.SHUT_WR)
                return
            fires = record[0] == _APPLICATION_DATA and self.counted()
            if fires:
                cut.set()
            server.sendall(record)
            if fires:
                # The controller has the request, and its answer is on its way to nobody.
                back.join(10)
                if self.hang:
                    _record(client)
                else:
                    _reset(client)
                return


def _pump(source: socket.socket, sink: socket.socket, cut: threading.Event) -> None:
    """Pass answers on, until the one that is to be lost."""
    with suppress(OSError):
        while (data := source.recv(65536)) and not cut.is_set():
            sink.sendall(data)


def _record(source: socket.socket) -> bytes | None:
    """The next TLS record, None at the end."""
    head = _exactly(source, 5)
    body = head and _exactly(source, struct.unpack(">H", head[3:5])[0])
    return head + body if head and body is not None else None


def _exactly(source: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            part = source.recv(size - len(data))
        except OSError:
            return None
        if not part:
            return None
        data += part
    return data


def _reset(client: socket.socket) -> None:
    """End it as a dying host does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextmanager
def cutting_proxy(address: str, port: int) -> Iterator[CuttingProxy]:
    """A proxy on 127.0.0.1 before a controller; ended with the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = CuttingProxy(listener.getsockname()[1], (address, port))

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_quietly, args=(proxy, client), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield proxy
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def _quietly(proxy: CuttingProxy, client: socket.socket) -> None:
    with suppress(OSError):
        proxy.serve(client)
