"""Which SSH hosts we talk to: options of the transport, and the check of a host's identity.

A host is only talked to when its key is known: pinned by `host_key`, or found in `known_hosts` (text) or in
`known_hosts_file` (by default the worker's own `~/.ssh/known_hosts`). Certificate authorities are not supported.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeys
from pydantic import BaseModel, ConfigDict, Field

from agent.errors import AccessDenied, SettingsError


class Hop(BaseModel):
    """A host on the way, or the target itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(min_length=1, description="Name or IP address")
    port: int = Field(22, ge=1, le=65535, description="TCP port")
    username: str | None = Field(None, description="Account there; for a jump host by default that of the target")
    host_key: str | None = Field(
        None, description="The host's key, pinned: `ssh-ed25519 AAAA...` or its fingerprint `SHA256:...`"
    )


class SshOptions(BaseModel):
    """Options of the transport `ssh`. Secrets of the credential: `password`, `private_key`, `passphrase`, and
    `jump_password`, `jump_private_key`, `jump_passphrase` where the jump hosts have their own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str = Field("", description="Account on the target")
    key_file: Path | None = Field(None, description="File of the private key on the server")
    use_agent: bool = Field(False, description="Also try the keys of the SSH agent of the worker")
    host_key: str | None = Field(
        None, description="The host's key, pinned: `ssh-ed25519 AAAA...` or its fingerprint `SHA256:...`"
    )
    known_hosts: str | None = Field(None, description="Known hosts, as text in the format of known_hosts")
    known_hosts_file: Path | None = Field(None, description="Known hosts; by default ~/.ssh/known_hosts of the worker")
    accept_new: bool = Field(
        False, description="Accept and remember in the file the key of a host that is not known at all"
    )
    jump: tuple[Hop, ...] = Field((), description="Hosts to go through, in order: address, port, username, host_key")
    connect_seconds: float = Field(15.0, gt=0, le=300, description="Time limit of each stage of connecting, in seconds")
    grace_seconds: float = Field(
        5.0, ge=0, le=300, description="Between asking a body to end at its time limit and killing it, in seconds"
    )
    keepalive_seconds: int = Field(15, ge=0, le=3600, description="Between two signs of life; 0 for none, in seconds")
    upload_above_bytes: int | None = Field(
        131_072, ge=0, description="A body for sh of more bytes is uploaded by SFTP if the server has it; null: none is"
    )
    powershell: str | None = Field(
        None, pattern="^[A-Za-z0-9./_-]+$", description="Program for .ps1: powershell on Windows, elsewhere pwsh"
    )


class KnownKeys:
    """What is known of one host's identity. Raises SettingsError when the known hosts cannot be read."""

    def __init__(self, hop: Hop, options: SshOptions) -> None:
        self._name = hop.address if hop.port == 22 else f"[{hop.address}]:{hop.port}"
        self._pinned, self._accept_new = hop.host_key, options.accept_new
        self._file = options.known_hosts_file or Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".ssh" / "known_hosts"
        self._keys: list[paramiko.PKey] = []
        self._revoked: list[paramiko.PKey] = []
        if self._pinned is None:
            for marker, key in self._entries(self._text(options)):
                (self._revoked if marker else self._keys).append(key)

    def has_type(self, name: str) -> bool:
        """Whether a key of this type is known, so that the host is asked to show that one."""
        kind = "ssh-rsa" if name.startswith("rsa-sha2-") else name
        known = {self._pinned.split()[0]} if self._pinned else {key.get_name() for key in self._keys}
        return kind in known

    def check(self, key: paramiko.PKey) -> None:
        """Raises AccessDenied unless this is the host's key, with the fingerprint and what to do."""
        fingerprint: str = key.fingerprint
        shows = f"{self._name} shows the host key {key.get_name()} {fingerprint}"
        if self._pinned is not None:
            if " ".join(self._pinned.split()[:2]) not in (fingerprint, f"{key.get_name()} {key.get_base64()}"):
                raise AccessDenied(f"{shows}, which is not the pinned one")
        elif key in self._revoked:
            raise AccessDenied(f"{shows}, which is revoked")
        elif key not in self._keys:
            if self._keys:
                raise AccessDenied(f"{shows}, but another is known: find out why, then replace the known one")
            if not self._accept_new:
                raise AccessDenied(
                    f"{shows}, which is not known. If it is right, set the option host_key to {fingerprint}, "
                    f"or add the key to {self._file}"
                )
            self._remember(key)

    def _text(self, options: SshOptions) -> str:
        try:
            return (options.known_hosts or "") + "\n" + self._file.read_text()
        except FileNotFoundError:
            if options.known_hosts_file is not None and not options.accept_new:
                raise SettingsError(f"known_hosts_file {self._file} does not exist") from None
            return options.known_hosts or ""
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the known hosts {self._file} cannot be read: {error}") from error

    def _entries(self, text: str) -> Iterator[tuple[str, paramiko.PKey]]:
        """Marker and key of the lines for this host, in the format of sshd(8)."""
        for line in text.splitlines():
            fields = line.split()
            marker = fields.pop(0) if line.startswith("@") else ""
            if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
                continue
            if not _matches(fields[0].split(","), self._name):
                continue
            try:
                yield marker, paramiko.PKey.from_type_string(fields[1], base64.b64decode(fields[2]))
            except (paramiko.SSHException, ValueError, binascii.Error):
                continue  # a kind of key that cannot be used: as good as not there

    def _remember(self, key: paramiko.PKey) -> None:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(f"{self._name} {key.get_name()} {key.get_base64()}\n")
        except OSError as error:
            raise SettingsError(f"the new host key of {self._name} cannot be kept in {self._file}: {error}") from error


def _matches(patterns: list[str], name: str) -> bool:
    """Whether one of the patterns of a line is for this host and none excludes it."""
    found = False
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        if plain.startswith("|1|"):
            hit = HostKeys.hash_host(name, plain) == plain
        else:
            expression = re.escape(plain).replace(r"\*", ".*").replace(r"\?", ".")
            hit = re.fullmatch(expression, name, re.IGNORECASE) is not None
        if hit and pattern.startswith("!"):
            return False
        found = found or hit
    return found
