"""OpenID Connect with any issuer: discovery, the code flow with PKCE, state and nonce, and the check of the ID token.

Authlib builds the requests and checks the claims, joserfc the signature; what is here says which of it is used.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.access.digests import new_token
from agent.errors import CannotConnect, NotSignedIn, SettingsError, TransportError
from agent.settings import Settings

if TYPE_CHECKING:
    from authlib.integrations.requests_client import OAuth2Session
    from requests import Response

#: Seconds to connect, and between two bytes.
_LIMITS = (5, 10)
_LARGEST = 1_000_000
#: Seconds that clocks may differ by.
_LEEWAY = 60
_METADATA_SECONDS = 3600
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
#: By a public key only: with a shared secret, or none, anybody could have made the token.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@dataclass(frozen=True)
class Request:
    """A sign-in under way: what must come back with it. Secret until then."""

    redirect_uri: str
    state: str
    nonce: str
    verifier: str


def is_configured(settings: Settings) -> bool:
    """Whether people can sign in by OpenID Connect. Raises SettingsError when only a part of the settings is there."""
    given = (settings.oidc_issuer, settings.oidc_client_id)
    if any(given) and not all(given):
        raise SettingsError("EXEUNT_OIDC_ISSUER and EXEUNT_OIDC_CLIENT_ID belong together: set both or none")
    return all(given)


def start(settings: Settings, redirect_uri: str) -> tuple[str, Request]:
    """The issuer's address to send the browser to, and what to remember.

    Raises SettingsError when nothing or nonsense is configured, CannotConnect when the issuer does not answer.
    """
    made = Request(redirect_uri, state=new_token(), nonce=new_token(), verifier=new_token())
    metadata = _metadata_of(settings)
    client = _client(settings, metadata, made)
    url, _ = client.create_authorization_url(
        metadata["authorization_endpoint"], state=made.state, nonce=made.nonce, code_verifier=made.verifier
    )
    return str(url), made


def claims_of(settings: Settings, asked: Request, code: str) -> dict[str, Any]:
    """The checked claims of the person for whom the issuer gave this code.

    Raises NotSignedIn when the issuer takes the code back or the token is not what was asked for, CannotConnect.
    """
    from authlib.common.errors import AuthlibBaseError
    from requests import RequestException

    metadata = _metadata_of(settings)
    client = _client(settings, metadata, asked)
    try:
        given = client.fetch_token(
            metadata["token_endpoint"], grant_type="authorization_code", code=code, code_verifier=asked.verifier,
            timeout=_LIMITS, allow_redirects=False,
        )  # fmt: skip
    except RequestException as error:
        raise _unreachable(settings.oidc_issuer, error) from error
    except (AuthlibBaseError, ValueError) as error:
        # Its own text may quote the request.
        raise NotSignedIn(f"the identity provider refused this sign-in ({type(error).__name__}): try again") from error
    token = given.get("id_token")
    if not isinstance(token, str):
        raise NotSignedIn(
            "the identity provider gave no ID token: it does not speak OpenID Connect, or lacks the scope openid"
        )
    return checked_claims(
        token,
        _fetched(settings.oidc_issuer or "", metadata["jwks_uri"]),
        settings,
        asked.nonce,
        given.get("access_token"),
    )


def checked_claims(
    token: str, keys: Mapping[str, Any], settings: Settings, nonce: str, access_token: str | None = None
) -> dict[str, Any]:
    """The claims of an ID token with a good signature, for us, of this issuer, in time, for this sign-in. Raises NotSignedIn."""
    from authlib.oidc.core import CodeIDToken
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    try:
        decoded = jwt.decode(token, KeySet.import_key_set(dict(keys)), algorithms=_ALGORITHMS)  # type: ignore[arg-type]
        claims = CodeIDToken(
            decoded.claims, decoded.header,
            options={
                "iss": {"essential": True, "value": settings.oidc_issuer},
                "aud": {"essential": True, "value": settings.oidc_client_id},
                "sub": {"essential": True}, "exp": {"essential": True}, "nonce": {"essential": True, "value": nonce},
            },
            params={"nonce": nonce, "client_id": settings.oidc_client_id, "access_token": access_token},
        )  # fmt: skip
        claims.validate(leeway=_LEEWAY)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise NotSignedIn(
            f"the identity provider's token is refused ({error}): try again, or ask an administrator"
        ) from error
    return dict(claims)


def _client(settings: Settings, metadata: Mapping[str, str], asked: Request) -> OAuth2Session:
    try:
        from authlib.integrations.requests_client import OAuth2Session
    except ModuleNotFoundError as error:
        raise SettingsError("sign-in by OpenID Connect needs the library authlib: install exeunt[web]") from error
    return OAuth2Session(
        settings.oidc_client_id, settings.oidc_client_secret, scope="openid profile email", redirect_uri=asked.redirect_uri,
        state=asked.state, code_challenge_method="S256", token_endpoint_auth_method=metadata["way"] if settings.oidc_client_secret else "none",
    )  # fmt: skip


def _metadata_of(settings: Settings) -> dict[str, str]:
    if not is_configured(settings):
        raise SettingsError("sign-in by OpenID Connect is not set up: set EXEUNT_OIDC_ISSUER and EXEUNT_OIDC_CLIENT_ID")
    return _metadata(settings.oidc_issuer or "", int(time.monotonic() // _METADATA_SECONDS))


@lru_cache(maxsize=4)
def _metadata(issuer: str, hour: int) -> dict[str, str]:
    """What the issuer says of itself (OpenID Connect Discovery 1.0, 4), once an hour. Raises SettingsError, CannotConnect."""
    found = _fetched(issuer, issuer.rstrip("/") + "/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        raise SettingsError(
            f"EXEUNT_OIDC_ISSUER is {issuer}, but the server there says that it is {found.get('issuer')!r}: set that one; "
            "for Entra ID the address with the tenant's own id, not `common` or `organizations`"
        )
    for name in _ENDPOINTS:
        if not isinstance(found.get(name), str):
            raise SettingsError(f"the identity provider {issuer} does not tell its {name}")
        _check_address(found[name])
    # Where nothing is said, it is `basic` (Discovery 1.0, 3).
    ways = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    way = "client_secret_basic" if "client_secret_basic" in ways else "client_secret_post"
    return {**{name: str(found[name]) for name in _ENDPOINTS}, "way": way}


def _fetched(issuer: str, url: str) -> dict[str, Any]:
    import requests

    _check_address(url)
    try:
        with requests.get(url, timeout=_LIMITS, allow_redirects=False, stream=True) as answer:
            found = json.loads(_body(answer))
    except requests.RequestException as error:
        raise _unreachable(issuer, error) from error
    except ValueError as error:
        raise TransportError(f"the identity provider {issuer} answered with something else than JSON") from error
    if not isinstance(found, dict):
        raise TransportError(f"the identity provider {issuer} answered with something else than an object")
    return found


def _body(answer: Response) -> bytes:
    answer.raise_for_status()
    body = b""
    for part in answer.iter_content(65_536):
        body += part
        if len(body) > _LARGEST:
            raise ValueError("too long")
    return body


def _check_address(url: str) -> None:
    """Raises SettingsError for an address where others can listen: only this machine itself may do without TLS."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return
    raise SettingsError(f"{url} is no address for sign-in: it must begin with https://")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unreachable(issuer: str | None, error: Exception) -> CannotConnect:
    return CannotConnect(f"the identity provider {issuer} cannot be reached ({type(error).__name__}): try again later")
