"""Kerberos against a real KDC: WinRM and PSRP with the peer of both, LDAP with the controller itself."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kerberos_peer
import pytest
from kerberos_peer import CONTROLLER, DEAD, HOSTS, Realm
from peers import require_extra
from samba_peer import PASSWORD, REALM
from transport_help import Collecting
from wsman_help import Certificates, certificates, kind
from wsman_peer import Peer

from agent import kerberos
from agent.errors import AccessDenied, CannotConnect, SettingsError, StepError, TransportError
from agent.kerberos import Identity, Tickets
from agent.transports import registry
from agent.transports.base import Body, Transport

if TYPE_CHECKING:
    from conftest import DirectoryContext, Domain

__all__ = ["certificates", "kind"]

CONTOSO, FABRIKAM = f"svc-contoso@{REALM}", f"svc-fabrikam@{REALM}"
SERVICE = f"host@{HOSTS['aes']}"
BODY = Body("Do-It", "ps1", time_limit=120.0)
Connect = Callable[..., Transport]


@pytest.fixture(scope="session", autouse=True)
def extra() -> None:
    """Asked for before a domain is made."""
    require_extra("kerberos", "gssapi", "krb5")


@pytest.fixture(scope="module")
def realm(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    with kerberos_peer.realm(domain, tmp_path_factory.mktemp("realm")) as made:
        yield made


@pytest.fixture
def connect(kind: str, realm: Realm) -> Iterator[Connect]:
    """`connect(peer, user, password, **options)`: a transport to a peer, closed after the test."""
    with ExitStack() as closing:

        def to(peer: Peer | Any, user: str = CONTOSO, password: str | None = PASSWORD, **options: Any) -> Transport:
            given = {"tls": False, "auth": "kerberos", "kerberos_hostname": HOSTS["aes"], "open_seconds": 90, **options}
            computer = {
                "name": "PC1", "platform": "windows", "transport": kind, "address": "127.0.0.1", "port": peer.port,
                "transport_options": given,
            }  # fmt: skip
            made = registry.connect(computer, ({"username": user}, {"password": password} if password else {}))
            closing.callback(made.close)
            return made

        yield to


@pytest.fixture
def output(tmp_path: Path) -> Collecting:
    return Collecting(tmp_path / "output")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """A host that speaks Kerberos, over plain HTTP with encrypted messages."""
    with Peer({}, tmp_path / "accounts", ways=("kerberos",)) as peer:
        peer.handle("Do-It", lambda call: call.output("done"))
        yield peer
        assert not peer.shells, "a shell was left over"


def refused(transport: Transport, output: Collecting, kind: type[TransportError]) -> TransportError:
    with pytest.raises(kind) as error:
        output(transport, BODY)
    assert PASSWORD not in str(error.value) and "wrong-word" not in str(error.value)
    return error.value


# WinRM and PSRP


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    ("way", "keys"), [("kerberos", "aes"), ("kerberos", "rc4"), ("negotiate", "aes"), ("negotiate", "rc4")]
)
def test_a_body_runs(
    connect: Connect, certificates: Certificates, tmp_path: Path, output: Collecting, kind: str, way: str,
    keys: str, tls: bool,
) -> None:  # fmt: skip
    context = certificates.server_context() if tls else None
    options = {"tls": True, "ca_file": str(certificates.ca_file)} if tls else {}
    big = "x" * 40_000
    with Peer({}, tmp_path / "accounts", ways=(way,), tls=context) as peer:
        peer.handle("Do-It", lambda call: call.output(call.parameters["big"]))
        transport = connect(peer, auth=way, kerberos_hostname=HOSTS[keys], **options)
        assert output(transport, Body("Do-It", "ps1", {"big": big})).stdout.strip() == big
        # A lost connection takes its security context with it; the ticket makes a new one.
        peer.inject("reset_after", "Receive", nth={"psrp": 2, "winrm": 1}[kind])
        assert output(transport, Body("Do-It", "ps1", {"big": "small"})).stdout.strip() == "small"
        assert peer.faults.fired and not peer.shells
        assert {(s.user, s.way, s.by) for s in peer.sign_ins} == {(CONTOSO, way, "kerberos")}
        assert (peer.most_parts == 1) is not tls, "over HTTP each message is encrypted, over HTTPS the connection is"


@pytest.mark.parametrize("way", ["kerberos", "negotiate"])
def test_a_wrong_password_is_tried_once(
    connect: Connect, domain: Domain, realm: Realm, tmp_path: Path, output: Collecting, way: str
) -> None:
    """Each try counts towards a lock of the account."""
    user = domain.user("Typist")
    with Peer({}, tmp_path / "accounts", ways=(way, "ntlm")) as peer:
        error = refused(connect(peer, f"{user.sam}@{REALM}", "wrong-word", auth=way), output, AccessDenied)
        assert error.permanent and "the password is wrong" in str(error) and "credential update" in str(error)
        assert user["badPwdCount"] == b"1"
        assert not peer.sign_ins and not peer.refused and not peer.service.requests


def test_accounts_that_may_not_sign_in(connect: Connect, domain: Domain, peer: Peer, output: Collecting) -> None:
    gone = domain.user("Gone", userAccountControl="514")
    for user, said in ((gone.sam, "disabled, locked or expired"), ("nobody", "knows no such account")):
        error = refused(connect(peer, f"{user}@{REALM}", "Old.Secret.Pw1"), output, AccessDenied)
        assert error.permanent and said in str(error)
    assert not peer.sign_ins


@pytest.mark.parametrize("host", ["stranger.corp.example.test", "127.0.0.1"])
def test_a_host_that_the_domain_does_not_know(connect: Connect, peer: Peer, output: Collecting, host: str) -> None:
    error = refused(connect(peer, kerberos_hostname=host), output, AccessDenied)
    assert error.permanent and "name the host by its full name" in str(error)
    assert not peer.sign_ins


def test_a_kdc_that_cannot_be_reached_is_passing(connect: Connect, peer: Peer, output: Collecting) -> None:
    error = refused(connect(peer, f"svc-contoso@{DEAD}"), output, CannotConnect)
    assert not error.permanent and DEAD in str(error) and "port 88" in str(error)
    # Where it was looked for.
    assert re.search(r"asked for DEAD\.EXAMPLE\.TEST: 127[0-9.]+ port 9\b", str(error))


def test_a_ticket_for_the_host_is_not_waited_for_longer(
    realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ticket in the file is good, but nobody answers when one for the host is asked for."""
    ticket = realm.ticket("svc-contoso")
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        (tmp_path / "krb5.conf").write_text(f"[realms]\n{REALM} = {{\n kdc = 127.0.0.1:{port}\n}}\n")
        monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
        tickets = Tickets(Identity(CONTOSO, ticket_file=ticket), 1)
        with pytest.raises(CannotConnect, match=f"within 1 s .*port {port}") as late:
            tickets.cache(SERVICE)
        assert not late.value.permanent
    assert ticket.stat().st_size > 0, "the file is somebody else's"
    for thread in threading.enumerate():
        if thread.name == "exeunt-kerberos":
            thread.join(120)


def test_a_realm_that_nothing_is_known_about_is_permanent(connect: Connect, peer: Peer, output: Collecting) -> None:
    error = refused(connect(peer, "svc-contoso@OTHER.EXAMPLE.TEST"), output, CannotConnect)
    assert error.permanent and "krb5.conf" in str(error)


@pytest.mark.parametrize(
    ("user", "host"), [(f"local@{DEAD}", HOSTS["aes"]), (CONTOSO, "stranger.corp.example.test")], ids=["kdc", "host"]
)
def test_negotiate_falls_back_to_ntlm(
    connect: Connect, tmp_path: Path, output: Collecting, user: str, host: str
) -> None:
    """Without a KDC for the account, and without a ticket for the host."""
    with Peer({user: PASSWORD}, tmp_path / "accounts", ways=("negotiate",)) as peer:
        peer.handle("Do-It", lambda call: call.output("done"))
        assert output(connect(peer, user, auth="negotiate", kerberos_hostname=host), BODY).code == 0
        assert {s.by for s in peer.sign_ins} == {"ntlm"}


def test_a_host_that_does_not_offer_it(connect: Connect, tmp_path: Path, output: Collecting) -> None:
    with Peer({CONTOSO: PASSWORD}, tmp_path / "accounts", ways=("ntlm", "basic")) as peer:
        error = refused(connect(peer), output, AccessDenied)
        assert error.permanent and "offers NTLM, Basic" in str(error)
        assert not peer.sign_ins and not peer.refused


def test_a_keytab_takes_the_place_of_the_password(
    connect: Connect, realm: Realm, peer: Peer, output: Collecting
) -> None:
    keytab = realm.keytab("svc-contoso")
    assert output(connect(peer, password=None, keytab_file=str(keytab)), BODY).code == 0
    assert {s.user for s in peer.sign_ins} == {CONTOSO}
    error = refused(connect(peer, FABRIKAM, None, keytab_file=str(keytab)), output, AccessDenied)
    assert "the keytab has no key of this user" in str(error)


def test_a_ticket_that_lies_in_a_file(connect: Connect, realm: Realm, peer: Peer, output: Collecting) -> None:
    ticket = realm.ticket("svc-contoso")
    assert output(connect(peer, password=None, ticket_file=str(ticket)), BODY).code == 0
    assert {s.user for s in peer.sign_ins} == {CONTOSO}
    empty = ticket.with_name("empty")
    empty.touch()
    for user, file, said in (
        (CONTOSO, realm.ticket("svc-contoso", expired=True), "the ticket has expired"),
        (CONTOSO, empty, "the file holds no ticket of this user"),
        (FABRIKAM, realm.ticket("svc-contoso"), "the file holds no ticket of this user"),
    ):
        error = refused(connect(peer, user, None, ticket_file=str(file)), output, AccessDenied)
        assert error.permanent and said in str(error)
    assert {s.user for s in peer.sign_ins} == {CONTOSO}


# Whose tickets


def test_tickets_of_the_worker_are_nobodys(
    connect: Connect, realm: Realm, peer: Peer, output: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ticket that somebody got for the process is used for no credential, also not for one of the same name."""
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{realm.ticket('Administrator')}")
    assert output(connect(peer), BODY).code == 0
    assert {s.user for s in peer.sign_ins} == {CONTOSO}
    refused(connect(peer, f"Administrator@{REALM}", "wrong-word"), output, AccessDenied)
    with pytest.raises(SettingsError, match="tickets of the worker itself are not used"):
        connect(peer, f"Administrator@{REALM}", None)


def test_two_clients_in_one_worker_see_nothing_of_each_other(
    connect: Connect, realm: Realm, tmp_path: Path, certificates: Certificates
) -> None:
    """Both run at the same time, each several bodies; and neither leaves anything where the other could find it."""
    import krb5

    before = dict(os.environ)
    together = threading.Barrier(2)
    with Peer({}, tmp_path / "one", ways=("kerberos",)) as one, Peer({}, tmp_path / "two", ways=("negotiate",)) as two:
        # Each body waits for the other's, so that both have their tickets at once.
        failed: list[Exception] = []

        def work(peer: Peer, user: str, auth: str) -> None:
            peer.handle("Do-It", lambda call: (call.output(str(together.wait(120) >= 0)), None)[1])
            collect = Collecting(tmp_path / user)
            try:
                for _ in range(3):
                    assert collect(connect(peer, user, auth=auth), BODY).stdout.strip() == "True"
            except Exception as error:  # noqa: BLE001 - told by the test's own thread
                failed.append(error)
                together.abort()

        threads = [
            threading.Thread(target=work, args=given)
            for given in ((one, CONTOSO, "kerberos"), (two, FABRIKAM, "negotiate"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        assert ({s.user for s in one.sign_ins}, {s.user for s in two.sign_ins}) == ({CONTOSO}, {FABRIKAM})
    assert dict(os.environ) == before
    assert not (realm.folder / "of_the_process").exists()
    assert [cache for cache in krb5.cccol_iter(krb5.init_context()) if cache.principal] == []


def test_tickets_are_destroyed_at_the_end(realm: Realm) -> None:
    import krb5

    def principal(cache: str) -> str | None:
        try:
            return str(krb5.cc_resolve(context, cache.encode()).principal)
        except krb5.Krb5Error:
            return None

    context = krb5.init_context()
    one, two = Tickets(Identity(CONTOSO, PASSWORD), 30), Tickets(Identity(FABRIKAM.lower(), PASSWORD), 30)
    first, second = one.cache(SERVICE), two.cache(SERVICE)
    assert (principal(first), principal(second)) == (CONTOSO, FABRIKAM)
    one.close()
    assert (principal(first), principal(second)) == (None, FABRIKAM)
    assert two.cache(SERVICE) == second and one.cache(SERVICE) != first
    one.close()
    two.close()
    assert principal(second) is None


@pytest.mark.parametrize(
    ("number", "sort", "permanent", "said"),
    [
        (37, CannotConnect, True, "clocks"),
        (33, CannotConnect, True, "clocks"),
        (23, AccessDenied, True, "password has expired"),
        (12, AccessDenied, True, "rule of the domain"),
        (68, CannotConnect, True, "another realm"),
        (29, CannotConnect, False, "not available"),
        (60, AccessDenied, True, "Kerberos refused it"),
    ],
)
def test_what_a_kdc_says(number: int, sort: type[TransportError], permanent: bool, said: str) -> None:
    """Numbers of RFC 4120, section 7.5.9, that no KDC of the tests can be brought to say."""
    from gssapi.raw import GSSError

    inner = GSSError(13 << 16, (number - 1765328384) & 0xFFFFFFFF)
    outer = RuntimeError("wrapped")
    outer.__cause__ = inner
    error = kerberos.explained(outer, "http://pc1.contoso.test")
    assert type(error) is sort and error.permanent is permanent and said in str(error)
    assert kerberos.explained(RuntimeError("something else"), "pc1") is None


# LDAP


@pytest.fixture
def by_kerberos(
    context: Callable[..., DirectoryContext], domain: Domain, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., DirectoryContext]:
    """A context whose controller is named as its ticket must be; there is no DNS."""
    resolve = socket.getaddrinfo

    def named(host: Any, *args: Any, **options: Any) -> Any:
        return resolve(domain.controller.address if host == CONTROLLER else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", named)

    def make(client: str = "Contoso", **settings: Any) -> DirectoryContext:
        user = f"svc-{client.lower()}@{REALM}"
        return context(client, **{"ldap_auth": "kerberos", "controllers": [CONTROLLER], "username": user, **settings})

    return make


@pytest.mark.parametrize("encryption", ["ldaps", "starttls"])
def test_an_account_is_disabled(by_kerberos: Callable[..., DirectoryContext], domain: Domain, encryption: str) -> None:
    leaver, theirs = domain.user("Leaver"), domain.user("Theirs", "Fabrikam")
    made = by_kerberos(encryption=encryption)
    result = made.call("ad.disable_account", account=leaver.mail).result
    assert result["object_guid"] == leaver.guid and result["controller"] == CONTROLLER and leaver.disabled
    assert made.verify("ad.disable_account", account=leaver.mail) is True
    # The ticket is the client's own account, which has no rights on the other client.
    with pytest.raises(StepError) as denied:
        by_kerberos(encryption=encryption, base_dn="").call("ad.disable_account", account=theirs.mail)
    assert denied.value.type == "PERMISSION_DENIED" and not theirs.disabled


def test_a_wrong_password_is_told_by_the_kdc(by_kerberos: Callable[..., DirectoryContext], domain: Domain) -> None:
    typist, leaver = domain.user("Typist"), domain.user("Leaver")
    made = by_kerberos(username=f"{typist.sam}@{REALM}")
    with pytest.raises(AccessDenied, match="the password is wrong") as wrong:
        made.call("ad.disable_account", account=leaver.mail)
    assert wrong.value.typed is not None
    assert (wrong.value.typed.type, wrong.value.typed.code) == ("PERMISSION_DENIED", "kerberos")
    assert typist["badPwdCount"] == b"1" and not leaver.disabled


@pytest.mark.parametrize(
    ("given", "sort", "permanent", "said"),
    [
        ({"username": f"svc-contoso@{DEAD}"}, CannotConnect, False, "no KDC of the realm can be reached"),
        ({"username": "svc-contoso@OTHER.EXAMPLE.TEST"}, CannotConnect, True, "no KDC of the realm is known"),
        ({"controllers": "address"}, AccessDenied, True, "name the host by its full name"),
    ],
)
def test_no_ticket_for_the_controller(
    by_kerberos: Callable[..., DirectoryContext], domain: Domain, given: dict[str, Any],
    sort: type[TransportError], permanent: bool, said: str,
) -> None:  # fmt: skip
    """The password would do for a simple bind: nothing else is tried when Kerberos was asked for."""
    if "controllers" in given:
        given = {"controllers": [domain.controller.address]}
    leaver = domain.user("Leaver")
    with pytest.raises(sort, match=said) as failed:
        by_kerberos(**given).call("ad.disable_account", account=leaver.mail)
    typed = failed.value.typed
    assert failed.value.permanent is permanent and typed is not None and typed.remediation and not leaver.disabled


@pytest.mark.parametrize(
    ("given", "library", "said"),
    [
        ({"username": "CORP\\svc-contoso"}, None, "user@REALM"),
        ({"way": "psrp", "ldap_auth": "kerberos"}, None, "ldap_auth cannot be set with way: psrp"),
        ({}, "gssapi", r"install exeunt\[kerberos\]"),
        ({"way": "psrp", "ldap_auth": "simple", "psrp_auth": "kerberos"}, "krb5", r"install exeunt\[kerberos\]"),
        ({"way": "psrp", "ldap_auth": "simple", "psrp_auth": "credssp"}, "requests_credssp", r"install exeunt\[credssp\]"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(
    context: Callable[..., DirectoryContext], monkeypatch: pytest.MonkeyPatch, given: dict[str, Any],
    library: str | None, said: str,
) -> None:  # fmt: skip
    if library:
        monkeypatch.setitem(sys.modules, library, None)
    made = context(**{"ldap_auth": "kerberos", "username": CONTOSO, **given})
    with pytest.raises(StepError, match=said) as refused:
        made.call("ad.disable_account", account="x")
    assert refused.value.code == "wrong_credential" and refused.value.remediation
