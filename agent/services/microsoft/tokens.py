"""Tokens of one app registration in one tenant, by msal: kept in memory, renewed by one caller at a time, never stored.

A provider belongs to one tenant, application and secret; two clients with different tenants never share one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import msal

from agent.errors import StepError
from agent.failure_types import PERMISSION_DENIED
from agent.services.microsoft.errors import sign_in_refused, unreachable
from agent.services.microsoft.settings import KIND, TenantSettings
from agent.services.rest.connections import http_client

#: Seconds before its end from which a token counts as expired.
EARLY = 120.0
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)


@dataclass
class _Held:
    """The token of one scope."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str | None = None
    good_until: float = 0.0


class TokenProvider:
    """Gives access tokens. Safe to use from several threads."""

    def __init__(self, settings: TenantSettings, secrets: Mapping[str, str]) -> None:
        self.settings = settings
        self._credential = client_credential(secrets)
        self._application: msal.ConfidentialClientApplication | None = None
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    @property
    def by_certificate(self) -> bool:
        """Whether it signs in by certificate, which SharePoint demands."""
        return isinstance(self._credential, dict)

    def token(self, scope: str) -> str:
        """A token for a scope such as `https://graph.microsoft.com/.default`. Raises StepError, CannotConnect."""
        with self._lock:
            held = self._held.setdefault(scope, _Held())
        with held.lock:
            if held.token is None or time.monotonic() >= held.good_until:
                answer = self._ask(scope)
                held.token = str(answer["access_token"])
                held.good_until = time.monotonic() + float(answer.get("expires_in", 0)) - EARLY
            return held.token

    def refused(self, scope: str, token: str) -> None:
        """A service did not take this token: the next call asks for a new one."""
        with self._lock:
            held = self._held.setdefault(scope, _Held())
        with held.lock:
            if held.token == token:
                held.token = None
                if self._application is not None:
                    self._application.remove_tokens_for_client()

    def _ask(self, scope: str) -> Mapping[str, Any]:
        try:
            answer = self._signed_in().acquire_token_for_client([scope])
        except (httpx.TransportError, httpx.HTTPStatusError, RuntimeError) as error:
            raise unreachable("the sign-in service", type(error).__name__) from error
        except ValueError as error:
            # msal says so of a tenant that it cannot find, and of a key that is none.
            raise sign_in_refused({"error": "invalid_tenant", "error_description": str(error)},
                                  self.settings.tenant_id) from error  # fmt: skip
        if "access_token" not in answer:
            raise sign_in_refused(answer, self.settings.tenant_id)
        return dict(answer)

    def _signed_in(self) -> msal.ConfidentialClientApplication:
        with self._lock:
            if self._application is None:
                settings = self.settings
                self._application = msal.ConfidentialClientApplication(
                    settings.client_id, client_credential=self._credential,
                    authority=f"{settings.authority_base}/{settings.tenant_id}", http_client=http_client(settings, keep=False),
                    # An address of one's own is not looked up at Microsoft's.
                    instance_discovery=None if not settings.authority else False,
                )  # fmt: skip
            return self._application


def client_credential(secrets: Mapping[str, str]) -> str | dict[str, str]:
    """What msal takes: the client secret, or private key and certificate. Raises StepError when there is neither."""
    if secrets.get("client_secret"):
        return secrets["client_secret"]
    found = {
        "key" if "PRIVATE KEY" in m[1] else "certificate": m[0] for m in _PEM.finditer(secrets.get("certificate", ""))
    }
    if {"key", "certificate"} <= set(found):
        return {"private_key": found["key"], "public_certificate": found["certificate"]}
    raise StepError(
        f"the credential {KIND} has neither a client_secret nor a certificate (PEM with private key and certificate)",
        type=PERMISSION_DENIED, code="wrong_credential", impact="Nothing was changed in Microsoft 365.",
        remediation="Enter it: exeunt credential update ... --secret client_secret",
    )  # fmt: skip


def roles_of_token(token: str) -> frozenset[str] | None:
    """The `roles` of an access token; None for one that is no JWT. Its signature is not checked: good for showing only."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    roles = payload.get("roles", []) if isinstance(payload, dict) else None
    return frozenset(str(r) for r in roles) if isinstance(roles, list) else None


_providers: dict[str, TokenProvider] = {}
_providers_lock = threading.Lock()


def provider(settings: TenantSettings, secrets: Mapping[str, str]) -> TokenProvider:
    """The provider of this process for exactly these settings and secrets."""
    parts = [settings.model_dump_json(), *(f"{k}={v}" for k, v in sorted(secrets.items()))]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    with _providers_lock:
        if key not in _providers:
            _providers[key] = TokenProvider(settings, secrets)
        return _providers[key]
