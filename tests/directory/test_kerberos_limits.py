"""A KDC that says nothing: it costs no more than the limit. No domain is needed, only a port that is silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from peers import require_extra
from transport_help import Collecting
from wsman_peer import Peer

from agent import kerberos
from agent.errors import CannotConnect
from agent.kerberos import Identity, Tickets
from agent.services.directory.ldap import LdapDirectory
from agent.services.directory.settings import DirectorySettings
from agent.transports import registry
from agent.transports.base import Body, Transport

REALM, PASSWORD = "SILENT.EXAMPLE.TEST", "Silent.Secret.Pw1"
USER, SERVICE = f"svc@{REALM}", "host@pc1.silent.example.test"
#: Far more than any limit below, so that a broken one fails and is not waited for in vain.
PATIENCE = 120.0


@dataclass
class Silence:
    """A KDC that takes what is sent to it, over UDP and TCP, and never answers."""

    port: int
    datagrams: socket.socket

    def was_asked(self) -> bool:
        """Whether a request has come; waits for it."""
        self.datagrams.settimeout(PATIENCE)
        return bool(self.datagrams.recv(65_535))


def waiting() -> list[threading.Thread]:
    """Threads in which the library still waits."""
    return [thread for thread in threading.enumerate() if thread.name == "exeunt-kerberos"]


@pytest.fixture
def silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Silence]:
    require_extra("kerberos", "gssapi", "krb5")
    with ExitStack() as stack:
        stream = stack.enter_context(closing(socket.socket()))
        stream.bind(("127.0.0.1", 0))
        stream.listen()
        datagrams = stack.enter_context(closing(socket.socket(type=socket.SOCK_DGRAM)))
        datagrams.bind(stream.getsockname())
        made = Silence(stream.getsockname()[1], datagrams)
        conf = tmp_path / "krb5.conf"
        conf.write_text(
            "[libdefaults]\n dns_lookup_kdc = false\n dns_canonicalize_hostname = false\n rdns = false\n"
            f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{made.port}\n }}\n"
        )
        monkeypatch.setenv("KRB5_CONFIG", str(conf))
        yield made
    # The port is closed, so the library hears so at its next try.
    for thread in waiting():
        thread.join(PATIENCE)
    assert not waiting()


def check(error: CannotConnect, silence: Silence) -> None:
    """It says what, where and what to do; it may be tried again; and it has not waited for the library."""
    told = str(error)
    for part in (USER, REALM, f"127.0.0.1 port {silence.port}", "within 1 s", "firewall", "connect_seconds"):
        assert part in told
    assert not error.permanent and PASSWORD not in told
    assert waiting(), "the library came to its own end first"


def test_no_ticket_within_the_limit(silence: Silence) -> None:
    tickets = Tickets(Identity(USER, PASSWORD), 1)
    with pytest.raises(CannotConnect) as error:
        tickets.cache(SERVICE)
    check(error.value, silence)
    assert silence.was_asked()


@pytest.mark.parametrize("kind", ["winrm", "psrp"])
def test_a_computer(silence: Silence, kind: str, tmp_path: Path) -> None:
    with closing(transport(kind, 9, auth="kerberos")) as made, pytest.raises(CannotConnect) as error:
        Collecting(tmp_path / "output")(made, Body("Do-It", "ps1"))
    check(error.value, silence)


@pytest.mark.parametrize("kind", ["winrm", "psrp"])
def test_negotiate_goes_on_to_ntlm(silence: Silence, kind: str, tmp_path: Path) -> None:
    with Peer({USER: PASSWORD}, tmp_path / "accounts", ways=("negotiate",)) as peer:
        peer.handle("Do-It", lambda call: call.output("done"))
        with closing(transport(kind, peer.port, auth="negotiate")) as made:
            assert Collecting(tmp_path / "output")(made, Body("Do-It", "ps1")).code == 0
        assert {s.by for s in peer.sign_ins} == {"ntlm"}
    assert silence.was_asked()


def test_a_domain(silence: Silence) -> None:
    settings = DirectorySettings(
        controllers=("127.0.0.1:9", "127.0.0.2:9"), username=USER, ldap_auth="kerberos", connect_seconds=1
    )
    with closing(LdapDirectory(settings, PASSWORD)) as directory, pytest.raises(CannotConnect) as error:
        directory.search("", "(objectClass=*)", [])
    check(error.value, silence)
    assert len(waiting()) == 1, "the second controller is of the same realm"
    assert error.value.typed is not None and error.value.typed.code == "kerberos" and error.value.typed.remediation


def test_what_comes_too_late_is_destroyed(silence: Silence, monkeypatch: pytest.MonkeyPatch) -> None:
    import krb5

    go_on, filled = threading.Event(), []

    def slowly(identity: Identity, cache: str) -> None:
        assert go_on.wait(PATIENCE)
        context = krb5.init_context()
        principal = krb5.parse_name_flags(context, identity.principal.encode())
        krb5.cc_initialize(context, krb5.cc_resolve(context, cache.encode()), principal)
        filled.append(cache)

    monkeypatch.setattr(kerberos, "_acquire", slowly)
    with pytest.raises(CannotConnect):
        Tickets(Identity(USER, PASSWORD), 0.1).cache(SERVICE)
    [thread] = waiting()
    go_on.set()
    thread.join(PATIENCE)
    context = krb5.init_context()
    with pytest.raises(krb5.Krb5Error):
        _ = krb5.cc_resolve(context, filled[0].encode()).principal.name


def test_a_fault_of_the_thread_is_told_by_the_one_who_waits(silence: Silence, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(identity: Identity, cache: str) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(kerberos, "_acquire", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        Tickets(Identity(USER, PASSWORD), PATIENCE).cache(SERVICE)


def transport(kind: str, port: int, **options: Any) -> Transport:
    given = {"tls": False, "kerberos_hostname": "pc1.silent.example.test", "connect_seconds": 1, **options}
    computer = {
        "name": "PC1", "platform": "windows", "transport": kind, "address": "127.0.0.1", "port": port,
        "transport_options": given,
    }  # fmt: skip
    return registry.connect(computer, ({"username": USER}, {"password": PASSWORD}))
