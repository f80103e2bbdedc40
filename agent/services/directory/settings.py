"""Settings of a credential of the kind `active_directory`: one domain as one client's account sees it.

Secret: `password`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agent import kerberos
from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR

#: The kind of the credential.
KIND = "active_directory"
PORTS = {"ldaps": 636, "starttls": 389, "psrp": 5986, "psrp over http": 5985}
#: Settings that mean nothing over PSRP.
_LDAP_ONLY = frozenset({"encryption", "ldap_auth"})


class DirectorySettings(BaseModel):
    """How to reach one domain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Domain controllers as `host` or `host:port`, in the order in which they are tried; a text may divide them by commas.
    controllers: tuple[str, ...] = Field(min_length=1)
    #: `user@domain` or `DOMAIN\\user`.
    username: str = Field(min_length=1)
    #: LDAP, or PowerShell's own cmdlets on the controllers (PSRP), where LDAP is closed.
    way: Literal["ldap", "psrp"] = "ldap"
    #: For `ldap`: TLS from the first byte, or begun on the plain port before anything else is said. There is no third way.
    encryption: Literal["ldaps", "starttls"] = "ldaps"
    #: For `ldap`: a simple bind with the password, or SASL GSSAPI with a Kerberos ticket that is got with it, where simple
    #: binds are forbidden. Needs `username` as user@REALM and controllers by their full names.
    ldap_auth: Literal["simple", "kerberos"] = "simple"
    #: PEM file of the authority that signed the controllers' certificates; without it, those of the system count.
    ca_file: str | None = None
    #: False accepts any certificate, and with it anybody who answers at the address.
    verify: bool = True
    #: Everything of the client stands below this name; empty: the whole domain.
    base_dn: str = ""
    #: Seconds for a connection (and, with Kerberos, for one answer of a KDC), and for one answer.
    connect_seconds: int = Field(10, ge=1, le=120)
    answer_seconds: int = Field(60, ge=1, le=600)
    #: Entries in one page of an answer; controllers allow 1000 as they are delivered.
    page_size: int = Field(500, ge=1, le=1000)
    #: For `psrp`: how to sign in; HTTPS, or HTTP whose messages are encrypted; the session configuration to open.
    psrp_auth: Literal["negotiate", "ntlm", "kerberos", "credssp", "basic"] = "negotiate"
    psrp_tls: bool = True
    psrp_configuration: str = Field("Microsoft.PowerShell", pattern=r"^[A-Za-z0-9._-]+$")
    #: For `psrp`: which controller the cmdlets ask. The host itself, unless `controllers` names hosts that only manage.
    psrp_server: str = Field("localhost", pattern=r"^[A-Za-z0-9._:-]+$")
    #: For `psrp`: hand the account and its password to the cmdlets, since a sign-in reaches no further than its host.
    psrp_forward_credential: bool = False

    @field_validator("controllers", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("controllers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for controller in value:
            split_address(controller, 636)
        return value

    @model_validator(mode="after")
    def _of_this_way(self) -> Self:
        fields = type(self).model_fields
        given = [name for name in sorted(self.model_fields_set) if getattr(self, name) != fields[name].default]
        foreign = [n for n in given if (n in _LDAP_ONLY if self.way == "psrp" else n.startswith("psrp_"))]
        if foreign:
            raise ValueError(f"{', '.join(foreign)} cannot be set with way: {self.way}")
        if self.psrp_auth == "basic" and not self.psrp_tls:
            raise ValueError("psrp_auth basic sends the password in clear: it needs psrp_tls")
        if self.by_kerberos and not kerberos.PRINCIPAL.fullmatch(self.username):
            raise ValueError("Kerberos needs the username as user@REALM")
        return self

    @property
    def by_kerberos(self) -> bool:
        """Whether nothing but Kerberos signs in."""
        return "kerberos" in (self.ldap_auth, self.psrp_auth)

    def address(self, controller: str) -> tuple[str, int]:
        """Host and port of a controller."""
        way = self.encryption if self.way == "ldap" else ("psrp" if self.psrp_tls else "psrp over http")
        return split_address(controller, PORTS[way])


def split_address(controller: str, port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[::1]:port` -> host and port. Raises ValueError."""
    host, colon, number = controller.rpartition(":")
    if not colon or controller.endswith("]"):
        host, number = controller, str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or any(c in host for c in "/@ ") or not number.isdecimal() or not 0 < int(number) < 65536:
        raise ValueError(f"write a controller as host or host:port, not {controller!r}")
    return host, int(number)


def directory_settings(settings: Mapping[str, Any]) -> DirectorySettings:
    """Checked settings of a credential. Raises StepError that names what is wrong."""
    try:
        checked = DirectorySettings.model_validate(dict(settings))
    except ValidationError as error:
        raise wrong_settings("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())) from None
    if checked.ca_file is not None and not Path(checked.ca_file).is_file():
        raise wrong_settings(f"ca_file: there is no file {checked.ca_file}")
    lacking = kerberos.missing() if checked.by_kerberos else None
    if lacking:
        raise wrong_settings(f"Kerberos needs further libraries: install exeunt[kerberos] ({lacking})")
    return checked


def wrong_settings(details: str) -> StepError:
    """The error of a credential whose settings do not go together."""
    return StepError(
        f"the settings of the credential {KIND} are wrong: {details}", type=INTEGRATION_ERROR,
        code="wrong_credential", impact="Nothing was changed in Active Directory.",
        remediation="Correct them: exeunt credential update",
    )  # fmt: skip
