"""Connecting and logging in by SSH: our keys and password, the way through jump hosts."""

from __future__ import annotations

import base64
import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import paramiko

from agent.errors import AccessDenied, CannotConnect, SettingsError
from agent.transports.ssh_hosts import Hop, KnownKeys, SshOptions
from agent.transports.watchdog import Deadline

#: paramiko logs each refused connection with a traceback; we raise an error that says it.
_WIRE_LOG = "agent.transports.ssh.wire"
logging.getLogger(_WIRE_LOG).setLevel(logging.CRITICAL)
#: A connection whose peer acknowledges nothing for so long is gone, in seconds.
_SILENCE = 60
#: Cheapest first: the exchange is most of what a connection costs.
_KEX_FIRST = "curve25519-sha256@libssh.org"
#: RFC 5647: they authenticate as well, where paramiko would compare each packet's checksum byte by byte in Python.
_CIPHERS_FIRST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_KEY_CLASSES: dict[bytes, type[paramiko.PKey]] = {
    b"ssh-ed25519": paramiko.Ed25519Key, b"ecdsa-sha2-": paramiko.ECDSAKey, b"ssh-rsa": paramiko.RSAKey
}  # fmt: skip


class Login:
    """Who we are on one host: keys to try and a password."""

    def __init__(self, options: SshOptions, secrets: Mapping[str, str], prefix: str = "") -> None:
        text, passphrase = secrets.get(prefix + "private_key"), secrets.get(prefix + "passphrase")
        self.password = secrets.get(prefix + "password")
        self.keys: list[paramiko.PKey] = []
        if text:
            self.keys.append(_parse_key(text, passphrase, f"the secret {prefix}private_key"))
        if options.key_file is not None and not prefix:
            try:
                text = options.key_file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"key_file {options.key_file} cannot be read: {error}") from error
            self.keys.append(_parse_key(text, passphrase, f"key_file {options.key_file}"))
        self.use_agent = options.use_agent

    def __bool__(self) -> bool:
        return bool(self.keys or self.password or self.use_agent)

    def attempts(self, transport: paramiko.Transport, username: str) -> list[Callable[[], list[str]]]:
        """Ways to log in, in the order in which they are tried. Each returns what the host wants in addition."""
        keys = [*self.keys, *(paramiko.Agent().get_keys() if self.use_agent else ())]
        ways: list[Callable[[], list[str]]] = [partial(transport.auth_publickey, username, key) for key in keys]
        return [*ways, partial(transport.auth_password, username, self.password)] if self.password is not None else ways


def _parse_key(text: str, passphrase: str | None, what: str) -> paramiko.PKey:
    # OpenSSH's format names the kind in clear; decrypting for each kind in turn would cost a second or more.
    lines = "".join(line for line in text.split("\n") if "-" not in line and ":" not in line)[:400]
    try:
        start = base64.b64decode(lines[: len(lines) // 4 * 4]) if "OPENSSH" in text else b""
    except ValueError:
        start = b""
    for kind in [named for name, named in _KEY_CLASSES.items() if name in start] or _KEY_CLASSES.values():
        try:
            return kind.from_private_key(io.StringIO(text), passphrase)
        except paramiko.PasswordRequiredException:
            raise SettingsError(f"{what} is encrypted: give the secret `passphrase`") from None
        except (paramiko.SSHException, ValueError, IndexError):
            continue  # another kind of key
    raise SettingsError(f"{what} is no private key in OpenSSH's or PEM format, or the passphrase is wrong")


def open_transport(options: SshOptions, target: Hop, login: Login, jump_login: Login) -> list[paramiko.Transport]:
    """Connections through all jump hosts to the target, which is the last. Raises CannotConnect, AccessDenied."""
    opened: list[paramiko.Transport] = []
    try:
        for hop in (*options.jump, target):
            hop = hop if hop.username else hop.model_copy(update={"username": options.username})
            link = _tunnel(opened[-1], hop, options) if opened else _tcp(hop, options)
            opened.append(_handshake(link, hop, options))
            _log_in(opened[-1], hop, login if len(opened) > len(options.jump) else jump_login, options.connect_seconds)
    except BaseException:
        close_all(opened)
        raise
    return opened


def close_all(opened: list[paramiko.Transport]) -> None:
    """End connections, the one to the target first."""
    for transport in reversed(opened):
        transport.close()


@contextmanager
def closed_after(connection: paramiko.Transport, limit: float) -> Iterator[Deadline]:
    """A limit, in seconds, for calls that wait for an answer without one: the connection is closed at its end."""
    deadline = Deadline(limit, connection.close)
    try:
        yield deadline
    finally:
        deadline.cancel()


def first_line_through(options: SshOptions, target: Hop, jump_login: Login) -> bytes:
    """What the target says first, as seen from the last jump host; nobody logs in to the target.

    Raises CannotConnect, AccessDenied; OSError (TimeoutError) when the target says nothing in `connect_seconds`.
    """
    *before, last = options.jump
    opened = open_transport(options.model_copy(update={"jump": tuple(before)}), last, jump_login, jump_login)
    try:
        with _tunnel(opened[-1], target, options) as channel:
            deadline, said = time.monotonic() + options.connect_seconds, b""
            while b"\n" not in said and len(said) < 8192:
                channel.settimeout(max(0.001, deadline - time.monotonic()))
                piece = channel.recv(1024)
                if not piece:
                    break
                said += piece
            return said.partition(b"\n")[0]
    finally:
        close_all(opened)


def _tcp(hop: Hop, options: SshOptions) -> socket.socket:
    try:
        link = socket.create_connection((hop.address, hop.port), timeout=options.connect_seconds)
    except (OSError, UnicodeError) as error:
        raise CannotConnect(f"{hop.address} port {hop.port} cannot be reached: {error}") from error
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE * 1000)
    return link


def _tunnel(through: paramiko.Transport, hop: Hop, options: SshOptions) -> paramiko.Channel:
    try:
        return through.open_channel(
            "direct-tcpip", (hop.address, hop.port), ("127.0.0.1", 0), timeout=options.connect_seconds
        )
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise CannotConnect(f"the jump host does not reach {hop.address} port {hop.port}: {error}") from error


def _handshake(link: socket.socket | paramiko.Channel, hop: Hop, options: SshOptions) -> paramiko.Transport:
    """Agree on keys and check the host's. The time limit also counts for a host that sends drop by drop."""
    known = KnownKeys(hop, options)
    try:
        transport = paramiko.Transport(link)
    except paramiko.SSHException as error:
        link.close()
        raise CannotConnect(f"{hop.address}: {error}") from error
    transport.set_log_channel(_WIRE_LOG)
    transport.banner_timeout = transport.auth_timeout = transport.channel_timeout = options.connect_seconds
    preferences = transport.get_security_options()
    preferences.kex = sorted(preferences.kex, key=lambda name: name != _KEX_FIRST)
    preferences.ciphers = sorted(preferences.ciphers, key=lambda name: name not in _CIPHERS_FIRST)
    preferences.key_types = sorted(preferences.key_types, key=lambda name: not known.has_type(name))
    done = threading.Event()
    try:
        transport.start_client(event=done)
        if not done.wait(options.connect_seconds):
            raise CannotConnect(f"{hop.address} port {hop.port} does not answer as an SSH server in time")
        if not transport.is_active():
            raise CannotConnect(f"{hop.address}: {transport.get_exception() or 'it closed the connection'}")
        known.check(transport.get_remote_server_key())
    except BaseException:
        transport.close()
        raise
    return transport


def _log_in(transport: paramiko.Transport, hop: Hop, login: Login, limit: float) -> None:
    refused: list[str] = []
    for attempt in login.attempts(transport, hop.username or ""):
        began = time.monotonic()
        try:
            if not attempt():
                return
            refused.append("it wants a further proof after this one")
        except paramiko.BadAuthenticationType as error:
            refused.append(f"it takes only {', '.join(error.allowed_types)}")
        except (paramiko.SSHException, EOFError) as error:
            # paramiko raises the same for a refusal, for silence and for a connection that breaks off.
            answered = transport.is_active() and time.monotonic() - began < limit
            if isinstance(error, paramiko.AuthenticationException) and answered:
                refused.append("it refused the key or password")
            elif refused:
                break
            else:
                raise CannotConnect(f"{hop.address} broke off the login of {hop.username}: {error}") from error
    reasons = "; ".join(dict.fromkeys(refused)) or "the SSH agent has no key"
    raise AccessDenied(f"{hop.address} does not let {hop.username} in: {reasons}")
