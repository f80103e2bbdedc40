"""An OpenID Connect provider on loopback: the package oidc-provider-mock, with a check of PKCE, which it lacks.

A test may also change the tokens that it gives, signed with its own key or another.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import make_server

#: (claims) -> the ID token to give instead.
Change = Callable[[dict[str, Any]], str]


@dataclass
class Provider:
    """The server, which is a WSGI application around that of the package."""

    inner: Any
    issuer: str = ""
    change: Change | None = None
    #: Code challenge by code.
    challenges: dict[str, str] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "of the test"}))
    #: What the configuration says differently.
    metadata: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    #: Where each client's secret stood: `header` or `body`.
    secrets: list[str] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.requests.append(path)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if path == "/oauth2/token":
            self.secrets.append(
                "body" if b"client_secret=" in body else "header" if "HTTP_AUTHORIZATION" in environ else ""
            )
        if path == "/oauth2/token" and not self._is_verified(parse_qs(body.decode())):
            return self._answer(start_response, {"error": "invalid_grant"}, "400 Bad Request")
        status, headers, text = self._ask(environ)
        if path == "/oauth2/authorize" and "Location" in headers:
            self._note(environ, headers["Location"])
        if path == "/oauth2/token" and status.startswith("200") and self.change is not None:
            given = json.loads(text)
            claims = json.loads(_unpadded(given["id_token"].split(".")[1]))
            return self._answer(start_response, {**given, "id_token": self.change(claims)}, status)
        if path == "/jwks" and self.change is not None:
            # The package's tokens name no key, which is allowed as long as there is one only.
            ours = KeySet([self.key]).as_dict(private=False)["keys"]
            return self._answer(start_response, {"keys": [*json.loads(text)["keys"], *ours]}, status)
        if path.endswith("/openid-configuration"):
            return self._answer(start_response, {**json.loads(text), **self.metadata}, status)
        start_response(status, list(headers.items()))
        return [text]

    def signed(self, claims: dict[str, Any], key: RSAKey | None = None) -> str:
        """A token with these claims, by the provider's second key or by another."""
        return jwt.encode({"alg": "RS256", "kid": "of the test"}, claims, key or self.key)

    def sign_in(self, url: str, subject: str, *, deny: bool = False) -> dict[str, str]:
        """What the browser comes back with, after the person has chosen to sign in (or not to)."""
        said = {"sub": subject, **({"action": "deny"} if deny else {})}
        answer = httpx.post(url, data=said, follow_redirects=False, timeout=60)
        assert answer.status_code == 302, answer.text
        return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}

    def put_user(self, subject: str, **claims: Any) -> None:
        httpx.put(f"{self.issuer}/users/{subject}", json=claims, timeout=60).raise_for_status()

    def _ask(self, environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
        told: list[Any] = []
        text = b"".join(self.inner(environ, lambda status, headers, *_: told.append((status, dict(headers)))))
        return told[0][0], told[0][1], text

    def _note(self, environ: dict[str, Any], location: str) -> None:
        asked, given = parse_qs(environ["QUERY_STRING"]), parse_qs(urlsplit(location).query)
        if "code" in given:
            assert asked["code_challenge_method"] == ["S256"]
            self.challenges[given["code"][0]] = asked["code_challenge"][0]

    def _is_verified(self, form: dict[str, list[str]]) -> bool:
        digest = hashlib.sha256(form.get("code_verifier", [""])[0].encode()).digest()
        made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return self.challenges.get(form.get("code", [""])[0]) == made

    @staticmethod
    def _answer(start_response: Any, value: object, status: str) -> Iterable[bytes]:
        text = json.dumps(value).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
        return [text]


@contextmanager
def running_provider() -> Iterator[Provider]:
    """The provider on a free port of loopback, until the end of the block."""
    with warnings.catch_warnings():
        # The package uses a part of authlib that says it will move.
        warnings.simplefilter("ignore")
        from oidc_provider_mock import app

        provider = Provider(app(require_nonce=True))
    server = make_server("127.0.0.1", 0, provider, threaded=True)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


def _unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
