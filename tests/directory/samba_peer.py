"""A real Active Directory domain controller: Samba on a loopback address of its own, made once and copied per module."""

from __future__ import annotations

import os
import random
import socket
import ssl
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REALM, DOMAIN, ROOT_DN = "CORP.EXAMPLE.TEST", "CORP", "DC=corp,DC=example,DC=test"
PASSWORD = "Adm1n.Secret.Pw"
TOOL_SECONDS = 600
_CONFIGURATION = """[global]
 netbios name = DC1
 realm = {realm}
 workgroup = {domain}
 server role = active directory domain controller
 interfaces = {address}/8
 bind interfaces only = yes
 private dir = {folder}/private
 state directory = {folder}/state
 cache directory = {folder}/cache
 lock directory = {folder}/lock
 pid directory = {folder}/run
 ncalrpc dir = {folder}/run/ncalrpc
 winbindd socket directory = {folder}/run/winbindd
 binddns dir = {folder}/bind-dns
 log file = {folder}/log/log.%m
 server services = ldap, cldap, kdc
 dcerpc endpoint servers =
 ldap server require strong auth = allow_sasl_over_tls
 tls enabled = yes
 tls certfile = {folder}/private/tls/cert.pem
 tls keyfile = {folder}/private/tls/key.pem
 tls cafile = {folder}/private/tls/ca.pem
 dsdb:schema update allowed = yes
 load printers = no
 disable spoolss = yes
[sysvol]
 path = {folder}/state/sysvol
 read only = no
"""


@dataclass
class Controller:
    """A domain controller that runs, and what a client needs to reach it."""

    folder: Path
    address: str
    process: subprocess.Popen[bytes]

    @property
    def ca_file(self) -> str:
        return str(self.folder / "private/tls/ca.pem")


def free_address() -> str:
    """A loopback address on which nobody has the ports of LDAP and Kerberos."""
    for _ in range(100):
        address = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
        try:
            for port in (88, 389, 464, 636, 3268, 3269):
                with socket.socket() as probe:
                    probe.bind((address, port))
        except OSError:
            continue
        return address
    raise RuntimeError("no loopback address has the ports of LDAP and Kerberos free")


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a tool to its end."""
    done = subprocess.run(command, capture_output=True, timeout=TOOL_SECONDS, cwd=cwd)
    assert done.returncode == 0, f"{command[0]}: {done.stdout.decode()}{done.stderr.decode()}"


def provision(folder: Path, address: str) -> None:
    """Make a domain in a folder, with a certificate for its name, its address and 127.0.0.1 (for a proxy)."""
    for name in ("private/tls", "state", "cache", "lock", "log", "run", "ntp"):
        (folder / name).mkdir(parents=True)
    run(
        "samba-tool", "domain", "provision", "-q", f"--targetdir={folder}", f"--realm={REALM}", f"--domain={DOMAIN}",
        "--server-role=dc", "--dns-backend=NONE", f"--adminpass={PASSWORD}", "--host-name=dc1", f"--host-ip={address}",
        f"--option=interfaces={address}/8", "--option=bind interfaces only=yes",
    )  # fmt: skip
    tls = folder / "private/tls"
    authority(tls)
    run(
        "openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", "/CN=dc1.corp.example.test", "-keyout", "key.pem", "-out", "req.pem", cwd=tls,
    )  # fmt: skip
    names = f"subjectAltName=DNS:dc1.corp.example.test,IP:{address},IP:127.0.0.1"
    (tls / "ext.cnf").write_text(f"{names}\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n")
    run("openssl", "x509", "-req", "-in", "req.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "ext.cnf", "-out", "cert.pem", cwd=tls)  # fmt: skip
    (tls / "key.pem").chmod(0o600)


def authority(folder: Path) -> None:
    """A certificate authority of the test's own: ca.pem and ca.key."""
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign", cwd=folder,
    )  # fmt: skip


def configure(folder: Path, address: str) -> Path:
    """Write the configuration that runs from this folder."""
    text = _CONFIGURATION.format(realm=REALM, domain=DOMAIN, address=address, folder=folder)
    file = folder / "etc/run.conf"
    file.write_text(text)
    return file


def change_offline(folder: Path, ldif: str) -> None:
    """Change the database as the system itself, while no controller runs on it."""
    file = folder / "change.ldif"
    file.write_text(ldif)
    run("ldbmodify", "-H", str(folder / "private/sam.ldb"), f"--configfile={folder / 'etc/run.conf'}", str(file))


def pack(folder: Path, archive: Path) -> None:
    """Keep a folder in a file; sockets are left out."""
    with tarfile.open(archive, "w") as tar:
        for file in sorted(folder.rglob("*")):
            if not file.is_socket():
                tar.add(file, str(file.relative_to(folder)), recursive=False)


@contextmanager
def running(archive: Path, folder: Path, address: str) -> Iterator[Controller]:
    """A controller on a copy of the domain; ended with the block."""
    folder.mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="fully_trusted")
    configuration = configure(folder, address)
    with (folder / "log/stdout").open("wb") as log:
        process = subprocess.Popen(
            ["samba", "-F", "--no-process-group", "-M", "single", "-s", str(configuration)], stdout=log, stderr=log
        )
    try:
        _wait_until_ready(process, address, folder)
        yield Controller(folder, address, process)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, folder: Path) -> None:
    """Ready when a TLS handshake is answered."""
    context = ssl.create_default_context(cafile=str(folder / "private/tls/ca.pem"))
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, (folder / "log/stdout").read_text()
        try:
            with (
                socket.create_connection((address, 636), 30) as plain,
                context.wrap_socket(plain, server_hostname=address),
            ):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError((folder / "log/stdout").read_text())


def is_root() -> bool:
    """A domain controller needs the ports of LDAP and files that belong to others."""
    return os.geteuid() == 0
