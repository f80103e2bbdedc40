"""What the tests of WinRM and PSRP share: a peer, its certificates, and the two transports against it."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from wsman_peer import Peer

from agent.transports import registry
from agent.transports.base import Transport

USER, PASSWORD = "CONTOSO\\agent", "pass-word 1!"


@dataclass(frozen=True)
class Certificates:
    """A private authority and a server certificate of its own for 127.0.0.1."""

    ca_file: Path
    chain_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        """For a server that also takes client certificates of the same authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file, self.key_file)
        context.load_verify_locations(self.ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context


def make_certificates(folder: Path) -> Certificates:
    folder.mkdir()
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _sign("Test CA", ca_key.public_key(), "Test CA", ca_key, x509.BasicConstraints(True, None))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = _sign("peer", key.public_key(), "Test CA", ca_key, alternative)
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.chain_file.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    made.key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _sign(name: str, public: Any, issuer: str, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer)).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(days=1))
    return builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints)).sign(
        key, hashes.SHA256()
    )


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "one")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """A peer with message encryption over plain HTTP. After the test it must hold no shell."""
    with Peer({USER: PASSWORD}, tmp_path / "accounts") as peer:
        yield peer
        assert not peer.shells, "a shell was left over"


Connect = Callable[..., Transport]


@pytest.fixture(params=["psrp", "winrm"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both transports, one after the other."""
    return str(request.param)


@pytest.fixture
def connect(kind: str) -> Iterator[Connect]:
    """`connect(peer, **options)`: a transport to a peer, closed after the test."""
    made: list[Transport] = []

    def to(peer: Peer, *, password: str = PASSWORD, **options: Any) -> Transport:
        computer = {
            "name": "CONTOSO-PC1",
            "platform": "windows",
            "transport": kind,
            "address": "127.0.0.1",
            "port": peer.port,
            "transport_options": {"tls": False, "open_seconds": 90, "grace_seconds": 60, **options},
        }
        made.append(registry.connect(computer, ({"username": USER}, {"password": password})))
        return made[-1]

    yield to
    for transport in made:
        transport.close()


def starting(kind: str) -> str:
    """The operation after which a body may have been started."""
    return {"psrp": "Command", "winrm": "Send"}[kind]
