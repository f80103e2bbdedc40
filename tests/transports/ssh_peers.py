"""SSH servers for tests: the real OpenSSH, and in-process ones that misbehave."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import peers
import pytest
from transport_help import Clock, wait_for

from agent.transports import ssh


@dataclass
class OpenSsh:
    """A running sshd that lets the user of the tests in by a key."""

    folder: Path
    port: int
    user: str
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> str:
        return (self.folder / "id").read_text()

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host.pub").read_text().split()[:2])

    def computer(self, **options: Any) -> dict[str, Any]:
        """Columns of a computer behind this server."""
        options = {"host_key": self.host_key, "username": self.user, "grace_seconds": 1, **options}
        return {
            "name": "PC1", "platform": "linux", "transport": "ssh", "address": "127.0.0.1", "port": self.port,
            "transport_options": {name: value for name, value in options.items() if value is not None},
        }  # fmt: skip

    def drop_connections(self) -> None:
        """Kill the processes that serve connections, not the listener."""
        import psutil

        for child in psutil.Process(self.process.pid).children():
            child.kill()


def make_key(path: Path, *arguments: str) -> None:
    subprocess.run(
        [peers.require("ssh-keygen", "openssh-client"), "-q", "-N", "", "-f", str(path), *(arguments or ("-t", "ed25519"))],
        check=True,
    )  # fmt: skip


@contextmanager
def open_ssh(folder: Path, **settings: str) -> Iterator[OpenSsh]:
    """Start sshd on a free port. `settings` are lines of its configuration."""
    sshd = peers.require("sshd", "openssh-server", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    make_key(folder / "host")
    make_key(folder / "id")
    (folder / "authorized_keys").write_text((folder / "id.pub").read_text())
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root wants it
    with peers.kept_port() as port, _running(sshd, folder, port, settings) as process:
        wait_for(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield OpenSsh(folder, port, getpass.getuser(), process)


@contextmanager
def _running(sshd: str, folder: Path, port: int, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    lines = {
        "Port": str(port), "ListenAddress": "127.0.0.1", "HostKey": str(folder / "host"),
        "AuthorizedKeysFile": str(folder / "authorized_keys"), "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no", "UsePAM": "no", "StrictModes": "no", "PermitRootLogin": "yes",
        "PidFile": "none", "MaxStartups": "300:30:400", "LogLevel": "ERROR", "UseDNS": "no", **settings,
    }  # fmt: skip
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    known = subprocess.run([sshd, "-T", "-f", str(config)], capture_output=True, text=True, check=True).stdout
    if "persourcepenalties" in known.lower():
        # Since 9.8 it turns away for a while where somebody comes from who got a password wrong, or whose process was killed.
        config.write_text(config.read_text() + "PerSourcePenalties no\n")
    process = subprocess.Popen([sshd, "-D", "-f", str(config), "-E", str(folder / "log")])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def limit_when(patch: pytest.MonkeyPatch, when: Callable[[], object], *, started: bool = True) -> None:
    """A body reaches its time limit as soon as `when()` is true, and not before.

    `started`: and it has told that it started.
    """
    clock, take, over = Clock(), ssh._Conversation._take, list[ssh._Conversation]()

    def look(self: ssh._Conversation) -> bool:
        ended = take(self)
        if (self.pid is not None or not started) and self not in over and when():
            over.append(self)
            clock.jump()
        return ended

    patch.setattr(ssh, "time", clock)
    patch.setattr(ssh._Conversation, "_take", look)


Handler = Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[None]]


@dataclass
class Misbehaving:
    """An in-process server whose commands are a coroutine of the test's. It takes the password `right`."""

    port: int
    host_key: str
    commands: list[str] = field(default_factory=list)

    def computer(self, **options: Any) -> dict[str, Any]:
        options = {"host_key": self.host_key, "username": "user", "connect_seconds": 60, **options}
        return {
            "name": "PC1", "platform": "linux", "transport": "ssh", "address": "127.0.0.1", "port": self.port,
            "transport_options": options,
        }  # fmt: skip


@contextmanager
def misbehaving(handler: Handler, **options: Any) -> Iterator[Misbehaving]:
    """Serve in a thread with an event loop of its own; ended with the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    key = asyncssh.generate_private_key("ssh-ed25519")
    peer = Misbehaving(0, " ".join(key.export_public_key().decode().split()[:2]))

    connections: list[asyncssh.SSHServerConnection] = []

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return password == "right"

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        peer.commands.append(process.command or "")
        await handler(process)

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.create_server(
            Server, "127.0.0.1", 0, server_host_keys=[key], process_factory=serve, encoding=None, **options
        )

    async def stop() -> None:
        acceptor.close()
        for connection in connections:
            connection.abort()
            await connection.wait_closed()
        await acceptor.wait_closed()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    acceptor = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    peer.port = acceptor.get_port()
    try:
        yield peer
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server on a free port; `answer` is called with each connection in a thread. Yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_links: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(link: socket.socket) -> None:
        try:
            answer(link)
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            open_links.append(link)
            threads.append(threading.Thread(target=serve, args=(link,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for link in open_links:
            link.close()
        for thread in threads:
            thread.join(60)
