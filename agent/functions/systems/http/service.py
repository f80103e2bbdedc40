"""Any REST service: address and sign-in stand in a credential of the kind `http_<service>`, such as `http_vpn`, or `http`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal

from pydantic import Field, field_validator, model_validator

from agent.services.rest.client import Call, RestClient, path_of
from agent.services.rest.errors import Service, wrong_credential
from agent.services.rest.settings import RestSettings, https_address
from agent.services.rest.signing import Grant, Signing, api_key, basic, bearer, tokens, unsigned
from agent.services.rest.system import System

#: The secret of such a credential; one that signs nothing has none.
SECRET = "secret"
#: What a service is called in a step: the ending of its credential's kind.
SERVICE_NAME = r"^([a-z][a-z0-9_]{0,40})?$"
_LINE = r"^[\x20-\x7e]*$"


class HttpSettings(RestSettings):
    """How to reach a service, and how requests to it are signed."""

    auth: Literal["bearer", "basic", "api_key", "oauth2", "none"] = "bearer"
    #: `basic`: who signs in.
    username: str = Field("", max_length=320)
    #: `api_key`: the header of the key, and what stands before it.
    key_header: str = Field("X-Api-Key", pattern=r"^[A-Za-z0-9-]{1,60}$")
    key_prefix: str = Field("", max_length=40, pattern=_LINE)
    #: `oauth2` (client credentials): where tokens are given, and for whom and what.
    oauth_url: str = ""
    client_id: str = Field("", max_length=200)
    scope: str = Field("", max_length=500, pattern=_LINE)
    #: What `exeunt credential test` asks for, below the address: parts divided by `/`.
    probe_path: str = Field("", max_length=300)

    @field_validator("oauth_url")
    @classmethod
    def _https_or_none(cls, value: str) -> str:
        return https_address(value) if value else value

    @model_validator(mode="after")
    def _whole(self) -> HttpSettings:
        needed = {"basic": ("username",), "oauth2": ("oauth_url", "client_id")}.get(self.auth, ())
        missing = [name for name in needed if not getattr(self, name)]
        if missing:
            raise ValueError(f"auth {self.auth} needs {' and '.join(missing)}")
        return self


def _signing(service: Service) -> Callable[[HttpSettings, Mapping[str, str]], Signing]:
    def sign(settings: HttpSettings, secrets: Mapping[str, str]) -> Signing:
        if settings.auth == "none":
            return unsigned()
        secret = secrets.get(SECRET)
        if not secret:
            raise wrong_credential(service, f"it has no secret {SECRET}")
        if settings.auth == "basic":
            return basic(service, settings.username, secret)
        if settings.auth == "api_key":
            return api_key(service, secret, header=settings.key_header, prefix=settings.key_prefix)
        if settings.auth == "bearer":
            return bearer(service, secret)
        form = {"grant_type": "client_credentials", **({"scope": settings.scope} if settings.scope else {})}
        grant = Grant(settings.oauth_url, lambda: form, (settings.client_id, secret))
        return tokens(service, settings, grant, secret, settings.scope)

    return sign


def _probe(client: RestClient) -> str:
    assert isinstance(client.settings, HttpSettings)
    parts = [part for part in client.settings.probe_path.split("/") if part]
    call = Call("GET", path_of(*parts) if parts else "")
    return f"{call.doing} was answered {client.send(call).status}"


@cache
def system_of(name: str) -> System[HttpSettings]:
    """The system of a service's name; empty: the one that the client has."""
    service = Service(name=f"the service {name}" if name else "the service", kind=f"http_{name}" if name else "http")
    return System(service=service, Settings=HttpSettings, secrets=(), signing=_signing(service), probe=_probe)
