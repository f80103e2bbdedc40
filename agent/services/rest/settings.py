"""Settings that the credential of every REST service has. A service's own are a subclass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent.services.rest.errors import Service, wrong_credential


class RestSettings(BaseModel):
    """How to reach one service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Address of the service's API: https, without a slash at its end.
    url: str
    #: Further certificate authority, for a network that inspects TLS, or a service of one's own.
    ca_file: str | None = None
    #: Seconds for one answer, and for one call with all its repetitions.
    answer_seconds: float = Field(60.0, gt=0, le=600)
    call_seconds: float = Field(90.0, gt=0, le=900)
    #: Largest answer in bytes that is read.
    answer_bytes: int = Field(16 * 2**20, ge=1024, le=2**30)

    @field_validator("url")
    @classmethod
    def _https(cls, value: str) -> str:
        return https_address(value)


R = TypeVar("R", bound=RestSettings)


def https_address(value: str) -> str:
    """An address without its last slash. Raises ValueError unless it is https, without user, query and fragment."""
    parts = urlsplit(value)
    odd = any(c.isspace() or not c.isprintable() for c in value) or "\\" in value
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username or odd:
        raise ValueError("write the address as https://host[:port][/path]")
    return value.rstrip("/")


def checked_settings(service: Service, kind: type[R], settings: Mapping[str, Any]) -> R:
    """Checked settings of a credential. Raises StepError that names what is wrong, never with a value."""
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise wrong_credential(service, f"its settings are wrong: {details}") from None
