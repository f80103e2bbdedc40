"""What an OpenID Connect issuer says of itself, and its keys: fetched with limits, kept for a while, also when it fails."""

from __future__ import annotations

import ipaddress
import json
import time
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.errors import CannotConnect, ExeuntError, SettingsError, TransportError

if TYPE_CHECKING:
    from requests import Response

#: Seconds to connect, and between two bytes.
LIMITS = (5, 10)
_LARGEST = 1_000_000
#: Seconds that an answer is kept, and a failure: anybody may begin a sign-in, and must not make us wait for each.
_KEPT, _FAILURE_KEPT = 3600.0, 10.0
#: Seconds to wait while another thread asks.
_PATIENCE = 2.0
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_asking = Lock()
#: Issuer -> until when this is kept, on the monotonic clock, and what came of asking.
_known: dict[str, tuple[float, dict[str, str] | ExeuntError]] = {}


def discovered(issuer: str) -> dict[str, str]:
    """The issuer's three addresses, and as `way` how a client proves itself (OpenID Connect Discovery 1.0, 4).

    Raises SettingsError for an answer that cannot be trusted, CannotConnect, TransportError.
    """
    if not _asking.acquire(timeout=_PATIENCE):
        raise CannotConnect(f"the identity provider {issuer} does not answer: try again later")
    try:
        until, found = _known.get(issuer, (0.0, None))
        if found is None or time.monotonic() >= until:
            found, life = _asked(issuer)
            _known[issuer] = (time.monotonic() + life, found)
    finally:
        _asking.release()
    if isinstance(found, ExeuntError):
        raise type(found)(str(found))
    return found


def forget() -> None:
    """Ask again next time."""
    _known.clear()


def _asked(issuer: str) -> tuple[dict[str, str] | ExeuntError, float]:
    try:
        return _metadata(issuer), _KEPT
    except (SettingsError, TransportError) as error:
        return error, _FAILURE_KEPT


def _metadata(issuer: str) -> dict[str, str]:
    found = fetched(issuer, issuer.rstrip("/") + "/.well-known/openid-configuration")
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
    ways = found.get("token_endpoint_auth_methods_supported")
    needs_post = isinstance(ways, list) and "client_secret_post" in ways and "client_secret_basic" not in ways
    way = "client_secret_post" if needs_post else "client_secret_basic"
    return {**{name: str(found[name]) for name in _ENDPOINTS}, "way": way}


def fetched(issuer: str, url: str) -> dict[str, Any]:
    """The JSON object at an address of the issuer. Raises SettingsError, CannotConnect, TransportError."""
    import requests

    _check_address(url)
    try:
        with requests.get(url, timeout=LIMITS, allow_redirects=False, stream=True) as answer:
            found = json.loads(_body(answer))
    except requests.RequestException as error:
        raise unreachable(issuer, error) from error
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
    if not _is_private(url):
        raise SettingsError(f"{url} is no address for sign-in: it must begin with https://")


def _is_private(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "http":
            return parts.scheme == "https" and bool(host)
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unreachable(issuer: str | None, error: Exception) -> CannotConnect:
    """The error for a request that failed."""
    return CannotConnect(f"the identity provider {issuer} cannot be reached ({type(error).__name__}): try again later")
