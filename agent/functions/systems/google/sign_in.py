"""Google Workspace: settings and sign-in of its service account, lists and accounts.

A service account signs in with domain-wide delegation: a signed assertion (RFC 7523) says which administrator it acts as, and
which scopes it needs. Scopes that were not granted make the whole sign-in fail, so the credential may name fewer.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import Field, field_validator

from agent.services.rest.client import Call, RestClient, path_of
from agent.services.rest.errors import RestRefused, Service, wrong_credential
from agent.services.rest.paging import PageToken, at
from agent.services.rest.settings import RestSettings, https_address
from agent.services.rest.signing import Grant, Signing, tokens
from agent.services.rest.system import System

_SCOPE = "https://www.googleapis.com/auth/"
SCOPES = (
    "admin.directory.user", "admin.directory.user.security", "admin.directory.group", "admin.directory.rolemanagement",
    "admin.directory.device.mobile", "admin.datatransfer",
)  # fmt: skip
_DIRECTORY = ("admin", "directory", "v1")
#: Parts of the paths of the Directory API, and the path of transfers.
USERS, GROUPS, CUSTOMER = (*_DIRECTORY, "users"), (*_DIRECTORY, "groups"), (*_DIRECTORY, "customer", "my_customer")
TRANSFERS = "/admin/datatransfer/v1/transfers"


class GoogleSettings(RestSettings):
    """One Workspace."""

    url: str = "https://admin.googleapis.com"
    #: Where tokens are given; the address in the key file does not count.
    sign_in_url: str = "https://oauth2.googleapis.com/token"
    #: Address of the administrator that the service account acts as.
    admin: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)
    #: What the service account asks for, with spaces; as granted in the admin console.
    scopes: str = Field(" ".join(_SCOPE + s for s in SCOPES), pattern=r"^https://\S+( https://\S+)*$")

    @field_validator("sign_in_url")
    @classmethod
    def _sign_in(cls, value: str) -> str:
        return https_address(value)


SERVICE = Service(
    name="Google Workspace", kind="google", missing=frozenset({"notFound"}),
    busy=frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "backendError"}),
    remedies={
        "forbidden": "Let the administrator of the credential have the rights that the manual names, and check that the "
        "account is of this Workspace.",
        "insufficientPermissions": "Grant the scope to the service account in the admin console (domain-wide delegation).",
        "unauthorized_client": "Grant the service account its scopes in the admin console (domain-wide delegation), or "
        "name fewer in the credential's setting scopes.",
    },
)  # fmt: skip


def _signing(settings: GoogleSettings, given: Mapping[str, str]) -> Signing:
    def form() -> Mapping[str, str]:
        # Only when a token is needed: checking the key takes longer than a request.
        email, key_id, key = _key_of(given["service_account"])
        now = int(time.time())
        claims = {
            "iss": email, "sub": settings.admin, "scope": settings.scopes, "aud": settings.sign_in_url, "iat": now,
            "exp": now + 3600,
        }  # fmt: skip
        body = ".".join(
            _encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT", "kid": key_id}, claims)
        )
        signature = key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())
        return {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": f"{body}.{_encoded(signature)}",
        }

    return tokens(
        SERVICE, settings, Grant(settings.sign_in_url, form), settings.admin, settings.scopes, given["service_account"]
    )


def _key_of(text: str) -> tuple[str, str, rsa.RSAPrivateKey]:
    """Address, id and key of a key file as the console gives it out. Raises StepError, which holds nothing of it."""
    try:
        file = json.loads(text)
        key = serialization.load_pem_private_key(file["private_key"].encode(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError
        return str(file["client_email"]), str(file.get("private_key_id") or ""), key
    except (ValueError, KeyError, TypeError, AttributeError, UnsupportedAlgorithm):
        raise wrong_credential(SERVICE, "the secret service_account is no JSON key file of a service account") from None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _probe(client: RestClient) -> str:
    admin = getattr(client.settings, "admin", "")
    found = client.object(Call("GET", path_of(*USERS, admin)))
    return f"it acts as {found.get('primaryEmail')}" + (
        "" if found.get("isAdmin") else ", who is no super administrator"
    )


SYSTEM = System(
    service=SERVICE, Settings=GoogleSettings, secrets=("service_account",), signing=_signing, probe=_probe
)  # fmt: skip


def user_of(client: RestClient, asked: str) -> Mapping[str, Any] | None:
    """The account of an id, address or alias, None when there is none."""
    try:
        return client.object(Call("GET", path_of(*USERS, asked)))
    except RestRefused as error:
        if error.missing:
            return None
        raise


class Pages(PageToken):
    """Google leaves an empty list out."""

    next: str = "nextPageToken"
    parameter: str = "pageToken"

    def entries_of(self, body: Any) -> list[Any] | None:
        """The entries, [] when there are none."""
        missing = isinstance(body, Mapping) and at(body, self.entries) is None
        return [] if missing else super().entries_of(body)
