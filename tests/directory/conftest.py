"""The domain of the tests: two clients in OUs of their own, each with a service account that may act in its OU only.

A test that is parametrized by `way` runs over LDAP and over PSRP.
"""

from __future__ import annotations

import os
import ssl
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import samba_peer as samba
from cmdlet_peer import ActiveDirectory, DomainAccounts
from peers import kept_port, require
from samba_peer import PASSWORD, ROOT_DN, Controller
from wsman_peer import Peer

from agent.functions import registry
from agent.functions.base import BodyResult, FinishedStep, Outcome
from agent.installation import Installation

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3

CLIENTS = ("Contoso", "Fabrikam")
OU = {c: f"OU={c},{ROOT_DN}" for c in CLIENTS}
_OUS = "".join(
    f"dn: {dn}\nchangetype: add\nobjectClass: organizationalUnit\n\n"
    for c in CLIENTS
    for dn in (OU[c], f"OU=Staff,{OU[c]}", f"OU=Leavers,{OU[c]}", f"OU=Groups,{OU[c]}")
)


@pytest.fixture(scope="session")
def domain_archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A domain that was made once, as a file, and the address that its certificate is for."""
    if not samba.is_root():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("a domain controller needs root")
    require("samba", "samba")
    require("samba-tool", "samba-ad-provision")
    require("ldbmodify", "ldb-tools")
    require("openssl", "openssl")
    folder, address = tmp_path_factory.mktemp("domain") / "dc", samba.free_address()
    folder.mkdir()
    samba.provision(folder, address)
    configuration = samba.configure(folder, address)
    samba.change_offline(folder, _OUS)
    where = ("-H", str(folder / "private/sam.ldb"), "-s", str(configuration))
    samba.run("samba-tool", "user", "create", "ordinary", PASSWORD, *where)
    for client in CLIENTS:
        samba.run("samba-tool", "user", "create", f"svc-{client.lower()}", PASSWORD, *where)
    archive = folder.parent / "dc.tar"
    samba.pack(folder, archive)
    with samba.running(archive, folder.parent / "sids", address) as controller:
        sids = {c: _sid(controller, f"svc-{c.lower()}") for c in CLIENTS}
    for client, sid in sids.items():
        samba.run("samba-tool", "dsacl", "set", f"--objectdn={OU[client]}", f"--sddl=(A;CI;GA;;;{sid})", *where)
    samba.pack(folder, archive)
    return archive, address


def _sid(controller: Controller, name: str) -> str:
    connection = administrator(controller)
    try:
        connection.search(ROOT_DN, f"(sAMAccountName={name})", attributes=["objectSid"])
        raw = next(r for r in connection.response if r["type"] == "searchResEntry")["raw_attributes"]["objectSid"][0]
    finally:
        connection.unbind()
    parts = [int.from_bytes(raw[i : i + 4], "little") for i in range(8, len(raw), 4)]
    return "-".join(["S-1", str(int.from_bytes(raw[2:8], "big")), *map(str, parts)])


def administrator(controller: Controller) -> Any:
    """A connection as the domain's administrator, of the tests' own."""
    tls = ldap3.Tls(validate=ssl.CERT_NONE)
    server = ldap3.Server(controller.address, port=636, use_ssl=True, tls=tls, get_info=ldap3.NONE)
    connection = ldap3.Connection(server, f"{samba.DOMAIN}\\Administrator", PASSWORD, check_names=False)
    assert connection.bind(), connection.result
    return connection


@pytest.fixture(scope="module")
def dc(domain_archive: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller on a fresh copy of the domain, for one module."""
    archive, address = domain_archive
    with samba.running(archive, tmp_path_factory.mktemp("copy") / "dc", address) as controller:
        yield controller


def _escaped(name: str) -> str:
    return "".join(f"\\{c}" if c in ',+"\\<>;=' else c for c in name)


@dataclass
class Domain:
    """The domain as its administrator sees it: how tests make accounts, and ask what became of them."""

    controller: Controller
    connection: Any
    #: The controller's PowerShell, while a test goes this way.
    remoting: Remoting | None = None
    #: What was added below the clients' OUs, by GUID.
    added: list[str] = field(default_factory=list)

    def add(self, dn: str, classes: list[str], **attributes: Any) -> str:
        """Add an object. Returns its GUID."""
        assert self.connection.add(dn, classes, attributes), self.connection.result
        guid = str(uuid.UUID(bytes_le=self.read(dn)["objectGUID"][0]))
        if dn.endswith(tuple(OU.values())):
            self.added.append(guid)
        return guid

    def clear(self) -> None:
        """Delete what was added, so that the same test can be run again."""
        for guid in reversed(self.added):
            self.connection.delete(f"<GUID={guid}>")
        self.added.clear()

    def user(self, name: str, client: str = "Contoso", **attributes: Any) -> User:
        """An enabled account in the client's Staff OU."""
        sam = attributes.pop("sAMAccountName", f"u{uuid.uuid4().hex[:12]}")
        address = f"{sam}@{client.lower()}.example.test"
        values = {
            "sAMAccountName": sam, "userPrincipalName": address, "mail": address, "displayName": name,
            "unicodePwd": '"Old.Secret.Pw1"'.encode("utf-16-le"), "userAccountControl": "512", **attributes,
        }  # fmt: skip
        dn = f"CN={_escaped(name)} {sam},OU=Staff,{OU[client]}"
        return User(self, self.add(dn, ["user"], **{k: v for k, v in values.items() if v is not None}), sam, address)

    def group(self, name: str, *members: str, client: str = "Contoso", **attributes: Any) -> str:
        """A group in the client's Groups OU with members (DNs). Returns its DN."""
        dn = f"CN={_escaped(name)},OU=Groups,{OU[client]}"
        sam = f"g{uuid.uuid4().hex[:12]}"
        extra = {"member": list(members)} if members else {}
        self.add(dn, ["group"], sAMAccountName=sam, **extra, **attributes)
        return dn

    def modify(self, dn: str, **attributes: Any) -> None:
        """Replace attributes; None takes one away."""
        changes = {k: [(ldap3.MODIFY_REPLACE, [] if v is None else [v])] for k, v in attributes.items()}
        assert self.connection.modify(dn, changes), self.connection.result

    def read(self, dn: str) -> Mapping[str, list[bytes]]:
        """All attributes of an object; {} when there is none."""
        self.connection.search(dn, "(objectClass=*)", ldap3.BASE, attributes=["*"])
        found = [r for r in self.connection.response or () if r["type"] == "searchResEntry"]
        return found[0]["raw_attributes"] if found else {}

    def members(self, dn: str) -> set[str]:
        """DNs of the members of a group."""
        return {m.decode() for m in self.read(dn).get("member", ())}

    def credential(self, client: str = "Contoso", **settings: Any) -> Credential:
        """The credential of a client: its own service account, its own OU."""
        values = {
            "controllers": [self.controller.address], "username": f"{samba.DOMAIN}\\svc-{client.lower()}",
            "ca_file": self.controller.ca_file, "base_dn": OU[client], "answer_seconds": 120, "connect_seconds": 60,
        }  # fmt: skip
        if self.remoting is not None:
            values |= {"controllers": [f"127.0.0.1:{self.remoting.peer.port}"], "way": "psrp"}
            # NTLM takes its accounts from a file; what a test makes meanwhile is asked of the domain.
            known = settings.get("username", values["username"]) in self.remoting.accounts
            values["psrp_auth"] = "negotiate" if known else "basic"
        return {**values, **settings}, {"password": PASSWORD}


@dataclass
class Remoting:
    """PowerShell remoting of the controller."""

    peer: Peer
    module: ActiveDirectory
    #: Those that may sign in by NTLM.
    accounts: frozenset[str]


Credential = tuple[Mapping[str, Any], Mapping[str, str]]


@dataclass(frozen=True)
class User:
    """An account that a test made."""

    domain: Domain
    guid: str
    sam: str
    mail: str

    def __getitem__(self, name: str) -> bytes | None:
        values = self.domain.read(f"<GUID={self.guid}>").get(name)
        return values[0] if values else None

    @property
    def dn(self) -> str:
        found = self["distinguishedName"]
        assert found is not None, f"{self.sam} is gone"
        return found.decode()

    @property
    def disabled(self) -> bool:
        return bool(int(self["userAccountControl"] or 0) & 2)

    def state(self) -> Mapping[str, list[bytes]]:
        """All attributes but the clocks of the directory's own."""
        return {
            k: v for k, v in self.domain.read(f"<GUID={self.guid}>").items() if k not in ("lastLogon", "logonCount")
        }


@pytest.fixture(scope="module")
def domain(dc: Controller) -> Iterator[Domain]:
    connection = administrator(dc)
    yield Domain(dc, connection)
    connection.unbind()


@pytest.fixture(scope="module")
def remoting(dc: Controller, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remoting]:
    """The cmdlets on the controller, by PSRP over HTTPS with the controller's own certificate."""
    names = [f"svc-{c.lower()}" for c in CLIENTS]
    passwords = {f"{samba.DOMAIN}\\{name}": PASSWORD for name in (*names, "ordinary", "Administrator")}
    file = tmp_path_factory.mktemp("remoting") / "accounts"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = dc.folder / "private/tls"
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with Peer(passwords, file, tls=tls) as peer:
        static = frozenset(passwords)
        module = ActiveDirectory(dc, passwords)
        module.serve(peer)
        peer.accounts = DomainAccounts(module, passwords, file)
        yield Remoting(peer, module, static)
        module.close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on loopback at which nobody answers, kept so that nobody else takes it."""
    with kept_port() as port:
        yield port


@pytest.fixture
def way() -> str:
    """How the directory is reached."""
    return "ldap"


@pytest.fixture
def on_way(way: str, domain: Domain, request: pytest.FixtureRequest) -> Iterator[None]:
    """Credentials of the domain go this way."""
    domain.remoting = request.getfixturevalue("remoting") if way == "psrp" else None
    yield
    domain.remoting = None
    domain.clear()


@dataclass
class DirectoryContext:
    """A Context with one credential, for a contact."""

    installation: Installation
    given: Credential | None
    run_id: str = "a1"
    root_id: str = "a0"
    step_id: str = "a2"
    step_name: str = "Step"
    root_script: str = "Contact Offboarding"
    started_by: str = "tester"
    target_kind: str = "contact"
    target_id: int = 1
    client_id: int = 1
    places: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    finished: list[FinishedStep] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)

    def run_body(self, script: str, parameters: Mapping[str, Any], **options: Any) -> BodyResult:
        raise AssertionError("Active Directory needs no machine")

    def finished_steps(self) -> list[FinishedStep]:
        return self.finished

    def system_property(self, name: str) -> str | None:
        return None

    def secret(self, name: str) -> str:
        raise AssertionError("the directory's secret is its credential's")

    def credential(self, kind: str) -> Credential | None:
        return self.given if kind == "active_directory" else None

    def state(self, variable: str) -> str | None:
        return self.states.get(variable)

    def set_state(self, variable: str, value: str) -> None:
        self.states[variable] = value

    def call(self, name: str, **parameters: Any) -> Outcome:
        """Do a function, and keep it as a finished step."""
        function = registry.get(name)
        outcome = function.do(self, function.Parameters.model_validate(parameters))
        self.finished.append(
            FinishedStep(name, "Child", name, outcome.state, name, outcome.result, None, in_child=True)
        )
        return outcome

    def verify(self, name: str, **parameters: Any) -> bool | None:
        """Ask a function whether it is done."""
        function = registry.get(name)
        return function.verify(self, function.Parameters.model_validate(parameters))

    def again(self) -> DirectoryContext:
        """The same step in a new run: nothing of this run is known."""
        return replace(self, finished=[], states={})


@pytest.fixture
def context(installation: Installation, domain: Domain, on_way: None) -> Callable[..., DirectoryContext]:
    """Makes a context: context(), context("Fabrikam"), context(username=...)."""

    def make(client: str = "Contoso", **settings: Any) -> DirectoryContext:
        return DirectoryContext(installation, domain.credential(client, **settings))

    return make


@pytest.fixture
def as_administrator(context: Callable[..., DirectoryContext]) -> DirectoryContext:
    """A context of Contoso whose credential may do everything in the domain."""
    return context(username=f"{samba.DOMAIN}\\Administrator")
