"""OpenID Connect with any issuer: discovery, the code flow with PKCE, state and nonce, and the check of the ID token.

Authlib builds the requests and checks the claims, joserfc the signature; what is here says which of it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.access.digests import new_token
from agent.access.openid_discovery import LIMITS, discovered, fetched, unreachable
from agent.errors import NotSignedIn, SettingsError
from agent.settings import Settings

if TYPE_CHECKING:
    from authlib.integrations.requests_client import OAuth2Session

#: Seconds that clocks may differ by.
_LEEWAY = 60
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
            timeout=LIMITS, allow_redirects=False,
        )  # fmt: skip
    except RequestException as error:
        raise unreachable(settings.oidc_issuer, error) from error
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
        fetched(settings.oidc_issuer or "", metadata["jwks_uri"]),
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
            # That there are `exp`, `iat`, `sub` and our nonce is the library's own rule.
            options={
                "iss": {"essential": True, "value": settings.oidc_issuer},
                "aud": {"essential": True, "value": settings.oidc_client_id},
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
    return discovered(settings.oidc_issuer or "")
