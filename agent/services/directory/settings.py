"""Settings of a credential of the kind `active_directory`: one domain as one client's account sees it.

Secret: `password`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR

#: The kind of the credential.
KIND = "active_directory"
PORTS = {"ldaps": 636, "starttls": 389}


class DirectorySettings(BaseModel):
    """How to reach one domain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Domain controllers as `host` or `host:port`, in the order in which they are tried; a text may divide them by commas.
    controllers: tuple[str, ...] = Field(min_length=1)
    #: `user@domain` or `DOMAIN\\user`.
    username: str = Field(min_length=1)
    #: TLS from the first byte, or begun on the plain port before anything else is said. There is no third way.
    encryption: Literal["ldaps", "starttls"] = "ldaps"
    #: PEM file of the authority that signed the controllers' certificates; without it, those of the system count.
    ca_file: str | None = None
    #: False accepts any certificate, and with it anybody who answers at the address.
    verify: bool = True
    #: Everything of the client stands below this name; empty: the whole domain.
    base_dn: str = ""
    #: Seconds for a connection, and for one answer.
    connect_seconds: int = Field(10, ge=1, le=120)
    answer_seconds: int = Field(60, ge=1, le=600)
    #: Entries in one page of an answer; controllers allow 1000 as they are delivered.
    page_size: int = Field(500, ge=1, le=1000)

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

    def address(self, controller: str) -> tuple[str, int]:
        """Host and port of a controller."""
        return split_address(controller, PORTS[self.encryption])


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
        return DirectorySettings.model_validate(dict(settings))
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StepError(
            f"the settings of the credential {KIND} are wrong: {details}", type=INTEGRATION_ERROR,
            code="wrong_credential", impact="Nothing was changed in Active Directory.",
            remediation="Correct them: exeunt credential update",
        ) from None  # fmt: skip
