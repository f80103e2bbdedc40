"""A real SCIM 2.0 server (scim2-server) behind the tests' TLS and faults. It checks schema, filters, patches and versions itself.

Left out by it: groups in the user's own resource (RFC 7643, 4.1.2), which a test adds, and OAuth.
"""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from vendor_peer import Answer, Asked, VendorPeer

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"


@cache
def _provider(can: tuple[tuple[str, bool], ...]) -> Any:
    """What a server can do; reading the schemas takes longer than a test."""
    from scim2_models import ScimProvider
    from scim2_server.utils import (
        load_default_resource_types,
        load_default_schemas,
        load_default_service_provider_config,
    )

    config = load_default_service_provider_config()
    for part, supported in can:
        getattr(config, part).supported = supported
    kinds = load_default_resource_types().values()
    return ScimProvider.from_discovery(load_default_schemas().values(), kinds, config=config)


class ScimPeer(VendorPeer):
    """The leaver `alex`, the manager `mia`, and groups. `can` says which parts of the protocol it has."""

    can: dict[str, bool] = {"patch": True, "etag": True, "filter": True}

    def __init__(self, name: str) -> None:
        super().__init__(name)
        pytest.importorskip("scim2_server", reason="the package scim2-server is not installed")
        from scim2_server.memory import InMemoryStorage
        from scim2_server.testserver.application import BearerTokenApplication

        self.token = f"token-of-{name}"
        provider = _provider(tuple(self.can.items()))
        self.storage = InMemoryStorage()
        self.application = BearerTokenApplication(self.storage, provider, bearer_tokens=[self.token])
        #: Called before each change; a test lets somebody else be quicker.
        self.meanwhile: Any = lambda asked: None
        self.alex = self._made("Users", self._user("alex", "E'1"))
        self.mia = self._made("Users", self._user("mia", "E2"))
        for group in ('Sales "west"', "VPN"):
            self._made("Groups", {"schemas": [GROUP], "displayName": group,
                                  "members": [{"value": self.alex}, {"value": self.mia}]})  # fmt: skip

    def _user(self, short: str, number: str) -> dict[str, Any]:
        return {
            "schemas": [USER], "userName": f"{short}@{self.name}.test", "externalId": number, "active": True,
            "name": {"familyName": "O'Neil"}, "emails": [{"value": f"{short}.mail@{self.name}.test", "type": "work"}],
            "roles": [{"value": "admin"}], "entitlements": [{"value": "seat"}],
        }  # fmt: skip

    def settings(self, **more: Any) -> dict[str, Any]:
        """The settings of a credential for it."""
        return {"url": self.url + "/v2", "ca_file": self.ca_file, "answer_seconds": 60, "call_seconds": 60, **more}

    def _made(self, kind: str, body: dict[str, Any]) -> str:
        answer = self.ask("POST", f"/v2/{kind}", body)
        assert answer.status == 201, answer
        return str(json.loads(answer.data)["id"])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Ask the server, past TLS and faults."""
        data = b"" if body is None else json.dumps(body).encode()
        signed = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/scim+json", **headers}
        return self._given(method, path, "", signed, data)

    def user(self, key: str) -> dict[str, Any]:
        """An account as it is, {} when there is none."""
        answer = self.ask("GET", f"/v2/Users/{key}")
        return json.loads(answer.data) if answer.status == 200 else {}

    def snapshot(self) -> dict[str, Any]:
        """Every resource without what changes by being written."""
        with self.lock:
            found = [r.model_dump() for r in self.storage.resources]
        return {"resources": [{k: v for k, v in r.items() if k != "meta"} for r in found]}

    def memberships(self, key: str) -> list[str]:
        """The groups that have an account."""
        found = self.snapshot()["resources"]
        return [r["displayName"] for r in found if key in [m["value"] for m in r.get("members") or ()]]

    def _acted(self, asked: Asked) -> Answer:
        if asked.method != "GET":
            self.meanwhile(asked)
        query = "&".join(f"{_quoted(k)}={_quoted(v)}" for k, v in asked.query.items())
        return self._given(asked.method, asked.path, query, asked.headers, asked.body)

    def _check(self, asked: Asked, answer: Answer, *, injected: bool) -> None:
        """The server itself is the judge: what it does not understand it refuses."""

    def error(self, status: int, code: str, message: str) -> Any:
        return {"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": str(status), "detail": message}

    def _given(self, method: str, path: str, query: str, headers: Any, data: bytes) -> Answer:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ |= {
            "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_LENGTH": str(len(data) or ""),
            "CONTENT_TYPE": headers.get("Content-Type") or "", "wsgi.input": io.BytesIO(data), "wsgi.url_scheme": "https",
        }  # fmt: skip
        for name in ("Authorization", "If-Match", "Accept"):
            if headers.get(name):
                environ["HTTP_" + name.upper().replace("-", "_")] = headers[name]
        told: dict[str, Any] = {}
        body = b"".join(
            self.application(environ, lambda status, given, error=None: told.update(status=status, headers=dict(given)))  # type: ignore[arg-type,misc]
        )
        found = dict(told["headers"])
        kind = found.pop("Content-Type", "application/scim+json")
        # Where it came from is no redirect.
        found.pop("Location", None)
        return Answer(int(str(told["status"]).split()[0]), body or None, found, kind)


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


class OldScimPeer(ScimPeer):
    """One without PATCH, filters on groups and versions."""

    can = {"patch": False, "etag": False, "filter": True}
