"""The domain of the tests as a Kerberos realm: a host in it that WinRM's peer can be, and where its KDC is."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import samba_peer as samba
from samba_peer import PASSWORD, REALM, ROOT_DN

if TYPE_CHECKING:
    from conftest import Domain

#: Names of hosts in the domain: one with AES keys, one with nothing but RC4.
HOSTS = {"aes": "winhost.corp.example.test", "rc4": "oldhost.corp.example.test"}
CONTROLLER = "dc1.corp.example.test"
#: A realm whose KDC does not answer. The realm OTHER.EXAMPLE.TEST has none that is known.
DEAD = "DEAD.EXAMPLE.TEST"
_ENCRYPTION = {"aes": 24, "rc4": 4}
_KRB5_CONF = """[libdefaults]
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 allow_weak_crypto = true
[realms]
 {realm} = {{
  kdc = {address}
 }}
 {dead} = {{
  kdc = {address}:9
 }}
[domain_realm]
 .corp.example.test = {realm}
"""


@dataclass(frozen=True)
class Realm:
    """A realm whose KDC answers, as this process knows it while it is entered."""

    domain: Domain
    folder: Path

    def keytab(self, name: str) -> Path:
        """A keytab of one account, as an administrator would export it."""
        file = self.folder / f"{name.strip('$')}.keytab"
        configuration = self.domain.controller.folder / "etc/run.conf"
        samba.run("samba-tool", "domain", "exportkeytab", str(file), f"--principal={name}", "-s", str(configuration))
        return file

    def ticket(self, user: str, *, expired: bool = False) -> Path:
        """A file that holds a ticket, as kinit would leave it; or one whose end lies an hour back."""
        import gssapi
        from gssapi.raw import acquire_cred_with_password, store_cred_into

        file = self.folder / f"{user}{'.expired' * expired}.ccache"
        name = gssapi.Name(f"{user}@{REALM}", gssapi.NameType.kerberos_principal)
        got = acquire_cred_with_password(name, PASSWORD.encode(), mechs=[gssapi.MechType.kerberos], usage="initiate")
        store_cred_into({b"ccache": f"FILE:{file}".encode()}, got.creds, usage="initiate", overwrite=True)
        if expired:
            file.write_bytes(_ended(file))
        return file


@contextmanager
def realm(domain: Domain, folder: Path) -> Iterator[Realm]:
    """Make the hosts, and tell this process where the KDC is and which keys the peer of WinRM has.

    What the process itself would take for its tickets is a file that does not exist.
    """
    for kind, host in HOSTS.items():
        name = host.partition(".")[0]
        domain.add(
            f"CN={name},CN=Computers,{ROOT_DN}", ["computer"], sAMAccountName=f"{name}$", userAccountControl="4096",
            unicodePwd=f'"{PASSWORD}"'.encode("utf-16-le"), dNSHostName=host,
            servicePrincipalName=[f"HOST/{host}", f"WSMAN/{host}"],
            **{"msDS-SupportedEncryptionTypes": str(_ENCRYPTION[kind])},
        )  # fmt: skip
    domain.modify(f"CN=DC1,OU=Domain Controllers,{ROOT_DN}", servicePrincipalName=f"ldap/{CONTROLLER}")
    # Failed tries are counted only where there is a limit to them.
    domain.modify(ROOT_DN, lockoutThreshold="20")
    made = Realm(domain, folder)
    (folder / "krb5.conf").write_text(
        _KRB5_CONF.format(realm=REALM, dead=DEAD, address=domain.controller.address), encoding="ascii"
    )
    keys = folder / "hosts.keytab"
    for host in HOSTS.values():
        samba.run(
            "samba-tool", "domain", "exportkeytab", str(keys), f"--principal={host.partition('.')[0]}$",
            "-s", str(domain.controller.folder / "etc/run.conf"),
        )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in _environment(folder, keys).items():
            patch.setenv(variable, value)
        yield made


def _environment(folder: Path, keys: Path) -> Mapping[str, str]:
    return {
        "KRB5_CONFIG": str(folder / "krb5.conf"), "KRB5_KTNAME": str(keys), "KRB5RCACHENAME": "none:",
        "KRB5CCNAME": f"FILE:{folder / 'of_the_process'}",
    }  # fmt: skip


def _ended(file: Path) -> bytes:
    """The same ticket, but its end is past: the library believes the time that the file names beside the ticket."""
    import krb5

    context = krb5.init_context()
    cache = krb5.cc_resolve(context, f"FILE:{file}".encode())
    ends = max(credential.times.endtime for credential in cache)
    content = file.read_bytes()
    assert content.count(struct.pack(">I", ends)) == 1
    return content.replace(struct.pack(">I", ends), struct.pack(">I", int(time.time()) - 3600))
