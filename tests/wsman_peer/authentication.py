"""Who a connection belongs to, and the encryption of its messages: pyspnego's acceptor does the cryptography.

Ways: basic, ntlm, negotiate (NTLM inside SPNEGO; Kerberos if KRB5_KTNAME names a keytab), kerberos, credssp. A client
certificate is believed when TLS has checked it and the client says that it means to be known by it. Channel bindings are
taken but not checked.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import spnego

#: Content types of encrypted messages: of one part, and of several, which only CredSSP makes.
ENCRYPTED = ("multipart/encrypted", "multipart/x-multi-encrypted")
PROTOCOLS = {"credssp": "CredSSP", "kerberos": "Kerberos"}
BOUNDARY = "Encrypted Boundary"
#: Largest part of a message of CredSSP, in bytes.
PART = 16_384

#: What a client sends that means to be known by its certificate [MS-WSMV 2.2.3.1.2].
MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"

_environment = threading.Lock()


class Accounts:
    """User names and passwords; users may be written with a domain before a backslash."""

    def __init__(self, passwords: dict[str, str], file: Path) -> None:
        self._passwords, self._file = passwords, file
        lines = [f"{d or ''}:{u}:{p}" for d, u, p in map(_split, passwords.items())]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        file.chmod(0o600)

    def accepts(self, user: str, password: str) -> bool:
        return self._passwords.get(user) == password

    @contextmanager
    def for_ntlm(self) -> Iterator[None]:
        """pyspnego's NTLM reads its accounts from a file that an environment variable names.

        Libraries in C that read another variable meanwhile may miss it, so nothing is set for a peer without accounts.
        """
        if not self._passwords:
            yield
            return
        with _environment:
            before = os.environ.get("NTLM_USER_FILE")
            os.environ["NTLM_USER_FILE"] = str(self._file)
            try:
                yield
            finally:
                if before is None:
                    del os.environ["NTLM_USER_FILE"]
                else:
                    os.environ["NTLM_USER_FILE"] = before


class Authentication:
    """The state of one connection."""

    def __init__(self, accounts: Accounts, ways: Sequence[str]) -> None:
        self._accounts, self.ways = accounts, ways
        self._context: spnego.ContextProxy | None = None
        self.way = ""
        self.user: str | None = None
        #: What proved it within SPNEGO or CredSSP: ntlm or kerberos.
        self.negotiated: str | None = None
        #: Parts of the last encrypted message.
        self.parts = 0

    @property
    def protocol(self) -> str:
        """The type of encrypted messages for the way that the client took."""
        return f"application/HTTP-{PROTOCOLS.get(self.way, 'SPNEGO')}-session-encrypted"

    @property
    def delegated(self) -> tuple[str, str] | None:
        """User name and password that CredSSP has handed over."""
        given = self._context.get_extra_info("client_credential") if self._context else None
        return (given.username, given.password) if given else None

    def offers(self) -> list[str]:
        """The WWW-Authenticate headers of a 401."""
        names = {
            "basic": 'Basic realm="WSMAN"', "ntlm": "NTLM", "negotiate": "Negotiate", "kerberos": "Kerberos",
            "credssp": "CredSSP",
        }  # fmt: skip
        return [names[way] for way in self.ways]

    def take(self, header: str, certified: bool) -> str | None:
        """Take an Authorization header. Returns the WWW-Authenticate header that goes back, if any.

        `certified`: TLS has checked a certificate of the client. `user` is set once the client is known. Raises
        PermissionError when it is refused.
        """
        if header == MUTUAL and certified:
            self.user = "certificate"
            return None
        scheme, _, token = header.partition(" ")
        way = scheme.lower()
        if way not in self.ways:
            raise PermissionError(f"not offered: {scheme}")
        try:
            data = base64.b64decode(token, validate=True)
        except binascii.Error as error:
            raise PermissionError("not base64") from error
        if way == "basic":
            user, _, password = data.decode("utf-8").partition(":")
            if not self._accounts.accepts(user, password):
                raise PermissionError(user)
            self.user = user
            return None
        return self._negotiate(scheme, way, data)

    def _negotiate(self, scheme: str, way: str, token: bytes) -> str | None:
        try:
            with self._accounts.for_ntlm():
                if self._context is None or self._context.complete:
                    self.user, self.way = None, way
                    self._context = spnego.server(
                        protocol=way, options=spnego.NegotiateOptions.wrapping_winrm, service="WSMAN"
                    )
                answer = self._context.step(token)
        except spnego.exceptions.SpnegoError as error:
            self._context = None
            raise PermissionError(str(error)) from error
        if self._context.complete:
            self.user = self._context.client_principal or "?"
            self.negotiated = self._context.negotiated_protocol
        return f"{scheme} {base64.b64encode(answer).decode()}" if answer else None

    def decrypt(self, body: bytes) -> bytes:
        """The message in an encrypted body [MS-WSMV 2.2.9.1]. Raises PermissionError when it is not for us."""
        if self._context is None or not self._context.complete:
            raise PermissionError("an encrypted message without a security context")
        parts = body.removesuffix(f"--{BOUNDARY}--\r\n".encode()).split(f"--{BOUNDARY}\r\n".encode())
        if parts.pop(0) or len(parts) % 2 or (len(parts) > 2 and self.way != "credssp"):
            raise PermissionError("the parts of the message are wrong")
        self.parts = len(parts) // 2
        return b"".join(map(self._decrypt_part, parts[::2], parts[1::2]))

    def _decrypt_part(self, head: bytes, body: bytes) -> bytes:
        assert self._context is not None
        marker = b"\tContent-Type: application/octet-stream\r\n"
        length = re.search(rb"Length=(\d+)", head)
        if not body.startswith(marker) or length is None or self.protocol.encode() not in head:
            raise PermissionError("the head of an encrypted part is wrong")
        data = body.removeprefix(marker)
        (size,) = struct.unpack("<I", data[:4])
        try:
            plain = self._context.unwrap_winrm(data[4 : 4 + size], data[4 + size :])
        except spnego.exceptions.SpnegoError as error:
            raise PermissionError(str(error)) from error
        if len(plain) != int(length[1]):
            raise PermissionError("the length of the message is wrong")
        return plain

    def encrypt(self, message: bytes) -> tuple[str, bytes]:
        """Content type and body of an encrypted message."""
        size = PART if self.way == "credssp" else len(message)
        parts = [self._encrypt_part(message[at : at + size]) for at in range(0, len(message), size)]
        kind = ENCRYPTED[len(parts) > 1]
        body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
        return f'{kind};protocol="{self.protocol}";boundary="{BOUNDARY}"', body

    def _encrypt_part(self, part: bytes) -> bytes:
        assert self._context is not None
        wrapped = self._context.wrap_winrm(part)
        length = len(part) + wrapped.padding_length
        head = (
            f"--{BOUNDARY}\r\n\tContent-Type: {self.protocol}\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={length}\r\n"
            f"--{BOUNDARY}\r\n\tContent-Type: application/octet-stream\r\n"
        )
        return head.encode() + struct.pack("<I", len(wrapped.header)) + wrapped.header + wrapped.data


def _split(account: tuple[str, str]) -> tuple[str | None, str, str]:
    name, password = account
    domain, separator, user = name.rpartition("\\")
    return (domain if separator else None), user, password
