"""A real mail server (aiosmtpd) with its own certificate authority, whose every answer can be chosen."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from peers import kept_port

from agent.installation import Installation
from agent.secrets import create_key
from agent.settings import Settings


@pytest.fixture
def keyed(installation: Installation) -> Installation:
    """An installation that has a key for its secrets."""
    create_key(installation.settings)
    return installation


@dataclass
class Post:
    """What the mail server took, and how it answers."""

    port: int
    received: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    #: address -> reply to RCPT
    refused: dict[str, str] = field(default_factory=dict)
    data_reply: str = "250 taken"
    drop_at_data: bool = False
    #: Called when a recipient is named, before any text is sent.
    before_text: Callable[[], None] = lambda: None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        self.before_text()
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.drop_at_data:
            server.transport.abort()
            return "250 never arrives"
        if self.data_reply.startswith("2"):
            message = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(message, EmailMessage)
            self.received.append(message)
            self.recipients.append(list(envelope.rcpt_tos))
        return self.data_reply


@dataclass(frozen=True)
class Authority:
    """Files of a certificate authority and of a server certificate for 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of our own and a certificate that it gave to 127.0.0.1."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("authority")
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, key: Any, issuer: str, signer: Any, extensions: list[tuple[Any, bool]]) -> Any:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    ca = certificate(
        "test authority", ca_key, "test authority", ca_key,
        [(x509.BasicConstraints(True, None), True), (usage, True),
         (x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)],
    )  # fmt: skip
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = certificate(
        "127.0.0.1", server_key, "test authority", ca_key,
        [(names, False), (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)],
    )  # fmt: skip
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    pem = serialization.Encoding.PEM
    made.ca.write_bytes(ca.public_bytes(pem))
    made.certificate.write_bytes(server.public_bytes(pem))
    made.key.write_bytes(server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return made


MailServer = Callable[..., Post]


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """Start a mail server: keywords are those of aiosmtpd's controller; `tls=context` is TLS from the first byte."""
    from aiosmtpd.controller import Controller

    running: list[Controller] = []

    def start(*, tls: ssl.SSLContext | None = None, **keywords: Any) -> Post:
        with kept_port() as port:
            post = Post(port)
            controller = Controller(
                post, hostname="127.0.0.1", port=port, ssl_context=tls, ready_timeout=120, **keywords
            )
            controller.start()
        running.append(controller)
        return post

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture
def with_mail(installation: Installation) -> Callable[..., Installation]:
    """The installation with other mail settings, on the same database."""

    def make(**values: object) -> Installation:
        chosen: dict[str, object] = {"smtp_host": "127.0.0.1", "smtp_security": "none", **values}
        changed = installation.settings.model_copy(update=chosen)
        assert isinstance(changed, Settings)
        copy = Installation(changed)
        copy.__dict__["database"] = installation.database
        return copy

    return make
