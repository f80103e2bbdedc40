"""Where WinRM and PSRP go, and as whom: the options of a computer and its credential, checked once.

Both speak WS-Management over HTTP(S), so they share these options. TLS is on and verified unless it is switched off by
name, and plain HTTP needs a way to authenticate that also encrypts the messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import certifi
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.errors import SettingsError
from agent.kerberos import PRINCIPAL, Identity, problem
from agent.transports.base import Target

Authentication = Literal["negotiate", "ntlm", "kerberos", "credssp", "certificate", "basic"]

#: Ways that encrypt the messages themselves [MS-WSMV 2.2.9.1], so that plain HTTP is bearable.
ENCRYPTING = frozenset({"negotiate", "ntlm", "kerberos", "credssp"})

DEFAULT_PORTS = {True: 5986, False: 5985}


class WsmanOptions(BaseModel):
    """Options of the transports that speak WS-Management."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str = Field(
        "", description="User, DOMAIN\\user or user@REALM; its password is a secret of the credential"
    )
    auth: Authentication = Field("ntlm", description="How to authenticate; `certificate` needs TLS")
    certificate_file: Path | None = Field(None, description="PEM file of the client's certificate, for `certificate`")
    certificate_key_file: Path | None = Field(None, description="PEM file of its key")
    tls: bool = Field(True, description="HTTPS; without it the messages themselves must be encrypted")
    verify: bool = Field(True, description="Check the host's certificate; false takes any and is written to the audit")
    ca_file: Path | None = Field(None, description="PEM file of the authorities to trust instead of the public ones")
    allow_unencrypted: bool = Field(False, description="Send in clear over plain HTTP where nothing encrypts")
    kerberos_hostname: str | None = Field(None, description="Host name for the Kerberos ticket if not the address")
    keytab_file: Path | None = Field(None, description="Keytab with the user's keys, for `kerberos` without a password")
    ticket_file: Path | None = Field(None, description="File (ccache) that holds the user's ticket, for `kerberos`")
    path: str = Field("wsman", description="Path of the service", pattern=r"^[A-Za-z0-9._/-]+$")
    connect_seconds: float = Field(
        30.0, gt=0, le=300, description="Time limit of one connection, and of one answer of a KDC, in seconds"
    )
    open_seconds: float = Field(
        90.0, ge=1, le=3600, description="Time limit for everything up to the started script, in seconds"
    )
    grace_seconds: float = Field(
        10.0, ge=1, le=300, description="For ending a body at its time limit and for deleting a shell, in seconds"
    )

    @model_validator(mode="after")
    def _nothing_in_clear(self) -> Self:
        if not self.tls and self.auth not in ENCRYPTING and not self.allow_unencrypted:
            raise ValueError(
                f"auth {self.auth} over plain HTTP would send everything in clear; set tls: true, or "
                "allow_unencrypted: true if that is meant"
            )
        if self.auth == "certificate" and not self.tls:
            raise ValueError("auth certificate needs tls: true")
        if self.auth != "kerberos" and (self.keytab_file or self.ticket_file):
            raise ValueError("keytab_file and ticket_file are for auth kerberos")
        return self


@dataclass(frozen=True)
class WsmanTarget:
    """One machine's WS-Management service and the credential for it."""

    host: str
    port: int
    options: WsmanOptions
    password: str = field(default="", repr=False)

    @property
    def endpoint(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.options.tls else 'http'}://{host}:{self.port}/{self.options.path}"

    @property
    def ca_file(self) -> str:
        """The authorities to trust. Named outright, so that no environment variable replaces them."""
        return str(self.options.ca_file or certifi.where())

    @property
    def identity(self) -> Identity | None:
        """Whose Kerberos tickets to get, if the way to authenticate can use them."""
        options = self.options
        if options.auth != "kerberos" and not (options.auth == "negotiate" and PRINCIPAL.fullmatch(options.username)):
            return None
        return Identity(options.username, self.password, options.keytab_file, options.ticket_file)

    @property
    def messages_encrypted(self) -> bool:
        """The messages themselves are encrypted, since the connection is not."""
        return not self.options.tls and self.options.auth in ENCRYPTING

    @property
    def in_clear(self) -> bool:
        """Nothing encrypts what is sent."""
        return not self.options.tls and self.options.auth not in ENCRYPTING


def read_target(target: Target) -> WsmanTarget:
    """Address and credential of one machine. Raises SettingsError that says what is missing."""
    options: WsmanOptions = target.options
    if not target.address:
        raise SettingsError("it has no address: set it, WinRM and PSRP connect to it")
    for key in ("ca_file", "certificate_file", "certificate_key_file", "keytab_file", "ticket_file"):
        file = getattr(options, key)
        if file is not None and not file.is_file():
            raise SettingsError(f"{key}: there is no file {file}")
    password = target.secrets.get("password") or ""
    if options.auth == "certificate":
        if options.certificate_file is None or options.certificate_key_file is None:
            raise SettingsError("auth certificate needs certificate_file and certificate_key_file")
    elif options.auth != "kerberos" and not (options.username and password):
        raise SettingsError(f"auth {options.auth} needs a username and a credential with the secret password")
    made = WsmanTarget(target.address, target.port or DEFAULT_PORTS[options.tls], options, password)
    wrong = problem(made.identity) if made.identity else None
    if wrong:
        raise SettingsError(f"auth {options.auth}: {wrong}")
    return made
