"""The directory over PSRP: the same entries as over LDAP, whom the host lets in, what it shows, and how far a sign-in reaches."""

from __future__ import annotations

import socket
import ssl
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import samba_peer as samba
from cmdlet_peer import ActiveDirectory, DomainAccounts, failure
from peers import require_extra
from psrpcore.types import PSSecureString
from wsman_peer import Peer

from agent.errors import AccessDenied, AnswerLost, CannotConnect, StepError
from agent.functions.probing import works
from agent.secrets import create_key
from agent.services import credentials
from agent.services.directory.connecting import connect
from agent.services.directory.names import guid_dn
from agent.services.directory.port import Change, Directory, Scope
from agent.services.directory.settings import directory_settings

if TYPE_CHECKING:
    from conftest import DirectoryContext, Domain, Remoting

    from agent.installation import Installation

    Make = Callable[..., DirectoryContext]
    Open = Callable[..., Directory]


@pytest.fixture
def way() -> str:
    return "psrp"


@pytest.fixture
def reach(domain: Domain, on_way: None) -> Iterator[Callable[..., Directory]]:
    """The directory with these settings; "ldap" or "psrp" first."""
    opened: list[Directory] = []

    def make(way: str = "psrp", **settings: Any) -> Directory:
        remoting = domain.remoting
        if way == "ldap":
            domain.remoting = None
        given, secrets = domain.credential(**settings)
        domain.remoting = remoting
        opened.append(connect(directory_settings(given), secrets["password"]))
        return opened[-1]

    yield make
    for directory in opened:
        directory.close()


#: One or more of each syntax.
EVERYTHING = (
    "objectGUID", "objectSid", "sAMAccountName", "userAccountControl", "accountExpires", "pwdLastSet", "whenCreated",
    "uSNChanged", "description", "displayName", "memberOf", "thumbnailPhoto", "isCriticalSystemObject",
    "servicePrincipalName", "primaryGroupID", "manager", "mail", "info", "notInAnySchema", "userCertificate",
    "dSCorePropagationData", "mS-DS-ConsistencyGuid",
)  # fmt: skip


def test_an_entry_is_the_same_as_over_ldap(reach: Open, domain: Domain) -> None:
    user = domain.user(
        "Zoë _x0041_ \U0001f600 Ånd", description="one\ntwo & <three> _x000A_", thumbnailPhoto=bytes(range(256)),
        servicePrincipalName=["a/b", "c/d"], info="2026-01-01T00:00:00Z",
        userCertificate=[b"\0\1", b"\2"], accountExpires="9223372036854775807", **{"mS-DS-ConsistencyGuid": b"\xff" * 16},
    )  # fmt: skip
    for name in ("Alone", "Both"):
        domain.group(f"{name} {user.sam}", user.dn)
    over = {way: reach(way).read(guid_dn(uuid.UUID(user.guid)), EVERYTHING) for way in ("ldap", "psrp")}
    ldap, psrp = over["ldap"], over["psrp"]
    assert ldap is not None and psrp is not None and psrp.dn == ldap.dn == user.dn
    assert set(psrp.attributes) == set(ldap.attributes) and "notinanyschema" not in psrp.attributes
    for name, values in ldap.attributes.items():
        assert sorted(psrp.attributes[name]) == sorted(values), name
    assert psrp.raw("whenCreated") and psrp.guid == uuid.UUID(user.guid) and psrp.number("accountExpires") == 2**63 - 1


def test_searches_stay_below_their_base(reach: Open, domain: Domain) -> None:
    own, theirs = domain.user("Own"), domain.user("Theirs", "Fabrikam")
    for way in ("ldap", "psrp"):
        directory = reach(way)
        found = directory.search(directory.base, "(objectClass=user)", ("sAMAccountName",))
        names = {e.text("sAMAccountName") for e in found}
        assert own.sam in names and theirs.sam not in names
        assert directory.search(directory.base, "(objectClass=user)", ("cn",), scope=Scope.CHILDREN) == []
        for base in (f"OU=Nowhere,{directory.base}", "no name"):
            with pytest.raises(StepError):
                directory.search(base, "(cn=*)", ("cn",))
            assert way == "ldap" or directory.read(base, ("cn",)) is None


def test_several_changes_are_one_request(reach: Open, domain: Domain, remoting: Remoting) -> None:
    user, boss = domain.user("Changed", description="old"), domain.user("Boss")
    directory, count = reach(), len(remoting.module.ran)
    photo = Change("add", "thumbnailPhoto", (b"\0photo",))
    changes = [Change("replace", "manager", (boss.dn,)), Change("replace", "description"), photo]
    directory.modify(user.dn, changes)
    assert [name for name, _ in remoting.module.ran[count:]] == ["Set-ADObject"]
    assert (user["manager"], user["description"], user["thumbnailPhoto"]) == (boss.dn.encode(), None, b"\0photo")
    with pytest.raises(StepError):
        directory.modify(user.dn, [Change("replace", "description", ("x",)), Change("add", "manager", ("CN=nobody",))])
    assert user["description"] is None, "all or nothing"


def test_a_password_travels_as_a_secure_string(context: Make, domain: Domain, remoting: Remoting) -> None:
    user, made = domain.user("Secret"), context()
    count = len(remoting.module.ran)
    made.call("ad.reset_password", account=user.mail)
    sent = [given["NewPassword"] for name, given in remoting.module.ran[count:] if name == "Set-ADAccountPassword"]
    assert len(sent) == 1 and isinstance(sent[0], PSSecureString) and sent[0]._encrypted


def test_no_shell_is_left_behind(context: Make, domain: Domain, remoting: Remoting) -> None:
    context().call("ad.disable_account", account=domain.user("Shells").mail)
    assert not remoting.peer.shells


def test_a_wrong_password_is_tried_at_one_host_only(
    context: Make, domain: Domain, remoting: Remoting, closed_port: int
) -> None:
    both = [f"127.0.0.1:{remoting.peer.port}", f"127.0.0.1:{closed_port}"]
    for order in (both, [both[1], both[0]]):
        made = context(controllers=order)
        assert made.given is not None
        made.given = (made.given[0], {"password": "Wrong.Secret.Pw1"})
        with pytest.raises(AccessDenied) as refused:
            made.call("ad.disable_account", account="x")
        typed = refused.value.typed
        assert typed is not None and (typed.type, typed.code, typed.critical) == ("PERMISSION_DENIED", "sign_in", True)
        assert "Wrong.Secret" not in f"{refused.value}{typed}"


def test_an_unknown_authority_is_refused(context: Make, tmp_path: Path) -> None:
    samba.authority(tmp_path)
    for ca_file in (str(tmp_path / "ca.pem"), None):
        with pytest.raises(AccessDenied) as refused:
            context(ca_file=ca_file).call("ad.disable_account", account="x")
        assert refused.value.typed is not None and refused.value.typed.code == "certificate"


def test_the_next_host_is_asked_when_one_is_down(
    context: Make, domain: Domain, remoting: Remoting, closed_port: int
) -> None:
    user, down = domain.user("Next"), f"127.0.0.1:{closed_port}"
    up = f"127.0.0.1:{remoting.peer.port}"
    outcome = context(controllers=f"{down}, {up}").call("ad.disable_account", account=user.mail)
    assert outcome.result["controller"] == up
    with pytest.raises(CannotConnect) as unreachable:
        context(controllers=[down]).call("ad.disable_account", account=user.mail)
    typed = unreachable.value.typed
    assert typed is not None and (typed.type, typed.code, typed.critical) == ("INTEGRATION_ERROR", "unreachable", True)


def test_a_host_without_the_module_says_what_to_install(context: Make, domain: Domain, remoting: Remoting) -> None:
    user, cmdlets = domain.user("Module"), remoting.peer.service.handlers.cmdlets
    shown = cmdlets.pop("Set-ADObject")
    try:
        with pytest.raises(StepError) as missing:
            context().call("ad.disable_account", account=user.mail)
    finally:
        cmdlets["Set-ADObject"] = shown
    assert missing.value.code == "no_cmdlet" and "RSAT-AD-PowerShell" in (missing.value.remediation or "")
    assert missing.value.critical and not user.disabled


@pytest.fixture
def other_host(domain: Domain, tmp_path: Path) -> Iterator[Callable[[bool, bool], dict[str, Any]]]:
    """Settings for a host of its own: (is it a controller, does it speak TLS)."""
    peers: list[Peer] = []
    modules: list[ActiveDirectory] = []

    def make(is_controller: bool, tls: bool) -> dict[str, Any]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = domain.controller.folder / "private/tls"
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        passwords = {f"{samba.DOMAIN}\\svc-contoso": samba.PASSWORD}
        peer = Peer(passwords, tmp_path / f"accounts{len(peers)}", tls=context if tls else None).__enter__()
        module = ActiveDirectory(domain.controller, passwords, is_controller=is_controller)
        module.serve(peer)
        peer.accounts = DomainAccounts(module, passwords, tmp_path / f"accounts{len(peers)}")
        peers.append(peer)
        modules.append(module)
        return {"controllers": [f"127.0.0.1:{peer.port}"], "psrp_tls": tls}

    yield make
    for peer, module in zip(peers, modules, strict=True):
        peer.__exit__(None, None, None)
        module.close()


def test_over_http_the_messages_are_encrypted(context: Make, domain: Domain, other_host: Any) -> None:
    user = domain.user("Sealed")
    settings = other_host(True, False)
    assert context(**settings).call("ad.disable_account", account=user.mail).result["account_disabled"]
    assert context(**settings).call("ad.reset_password", account=user.mail).result["password_reset"]


def test_a_host_that_is_no_controller_needs_the_credential_for_the_second_hop(
    context: Make, domain: Domain, other_host: Any
) -> None:
    user, settings = domain.user("Second hop"), other_host(False, True)
    with pytest.raises(CannotConnect):
        context(**settings).call("ad.disable_account", account=user.mail)
    settings["psrp_server"] = domain.controller.address
    with pytest.raises(AccessDenied) as refused:
        context(**settings).call("ad.disable_account", account=user.mail)
    assert refused.value.typed is not None and "psrp_forward_credential" in (refused.value.typed.remediation or "")
    assert not user.disabled
    context(**settings, psrp_forward_credential=True).call("ad.disable_account", account=user.mail)
    assert user.disabled


@pytest.mark.parametrize("exception", ["ADServerDownException", "TimeoutException"])
def test_a_change_whose_answer_the_host_did_not_get_is_looked_for(
    exception: str, context: Make, domain: Domain, remoting: Remoting
) -> None:
    """The host lost the directory before or after the change: what is so is said."""
    for moment in (remoting.module.before, remoting.module.after):
        user = domain.user("Unanswered")
        moment["Set-ADObject"] = failure("Set-ADObject", exception, "Unable to contact the server.")
        outcome = context().call("ad.disable_account", account=user.mail)
        assert outcome.result["account_disabled"] and user.disabled
        assert outcome.result.get("verified_after") == "answer_lost" or moment is remoting.module.before
    directory = connect(directory_settings(domain.credential()[0]), samba.PASSWORD)
    remoting.module.after["Set-ADObject"] = failure("Set-ADObject", exception, "Unable to contact the server.")
    with pytest.raises(AnswerLost) as lost:
        directory.modify(user.dn, [Change("replace", "description", ("x",))])
    assert lost.value.typed is not None and lost.value.typed.code == "answer_lost"
    directory.close()


def test_a_credential_is_tried_before_somebody_leaves(installation: Installation, domain: Domain, on_way: None) -> None:
    create_key(installation.settings)
    settings, secret = domain.credential(base_dn="")
    stored = credentials.add(
        installation,
        kind="active_directory",
        name="ad",
        client_id=None,
        settings=settings,
        secret=secret,
        actor="tester",
    )
    said = f"signed in as {samba.DOMAIN}\\svc-contoso at {samba.ROOT_DN}"
    found = works(installation, int(getattr(stored, "id", stored)))
    assert found[0] and found[1].startswith(said)


def test_kerberos_signs_in(context: Make, domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name and ticket, over HTTP, where the ticket's key encrypts the messages; the account is the credential's."""
    require_extra("kerberos", "gssapi", "krb5")
    import kerberos_peer

    host, account = kerberos_peer.HOSTS["aes"], f"svc-contoso@{samba.REALM}"
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda name, *rest, **more: real("127.0.0.1" if name == host else name, *rest, **more)
    )
    user, passwords = domain.user("Ticket"), {account: samba.PASSWORD}
    module = ActiveDirectory(domain.controller, passwords)
    with kerberos_peer.realm(domain, tmp_path), Peer({}, tmp_path / "accounts", ways=("kerberos",)) as peer:
        module.serve(peer)
        settings = {"controllers": [f"{host}:{peer.port}"], "psrp_auth": "kerberos", "psrp_tls": False}
        with pytest.raises(StepError, match="user@REALM"):
            context(**settings).call("ad.disable_account", account=user.mail)
        made = context(**settings, username=account)
        assert made.call("ad.disable_account", account=user.mail).result["account_disabled"]
        assert made.call("ad.reset_password", account=user.mail).result["password_reset"]
        assert not peer.shells
        assert made.given is not None
        made.given = (made.given[0], {"password": "Wrong.Secret.Pw1"})
        with pytest.raises(AccessDenied) as refused:
            made.call("ad.disable_account", account=user.mail)
        assert refused.value.typed is not None and refused.value.typed.code == "sign_in"
    module.close()
