"""The test tenants behind TLS on loopback: sign-in, Graph, Exchange and SharePoint, each on a port of its own.

A token names one tenant and one service, so that a request with the wrong one is refused as the real services would. Faults
are injected here, by what a request is, also for one item of a batch.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import drive_peer
import exchange_peer
import sharepoint_peer
from graph_contract import violations
from graph_peer import GraphPeer, error
from tenant_state import TestTenant

SERVICES = ("sign_in", "graph", "exchange", "sharepoint", "download")


@dataclass
class Fault:
    """What goes wrong with requests of which `match` (a pattern) finds `METHOD /path` or the cmdlet's name."""

    match: str
    #: A status to answer with; `drop`: no answer, nothing done; `lose`: done, no answer; `hang`: silence for a while; of a
    #: download: `cut`: half of it, `spoil`: other bytes.
    action: int | Literal["drop", "lose", "hang", "cut", "spoil"]
    times: int = 1_000_000
    retry_after: int | None = None
    used: int = 0


class Dropped(Exception):
    """The connection is to be closed without an answer."""


@dataclass
class Server:
    """The tenants and what was asked of them."""

    tenants: list[TestTenant] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    #: (service, tenant's domain, `METHOD path`) of every HTTP request but sign-ins.
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    #: (domain, call) of every call, items of batches singly.
    calls: list[tuple[str, str]] = field(default_factory=list)
    #: (domain, item, Range) of every request to the download host.
    downloads: list[tuple[str, str, str | None]] = field(default_factory=list)
    ignores_range: bool = False
    #: Where `/content` leads; empty: to the download host.
    content_location: str = ""
    agents: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    sign_ins: list[str] = field(default_factory=list)
    tokens: dict[str, tuple[str, str]] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    ca_file: str = ""
    token_seconds: int = 3600
    sign_in_error: dict[str, Any] | None = None
    release: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def settings(self, tenant: TestTenant, **more: Any) -> dict[str, Any]:
        """The settings of a credential for a tenant."""
        return {
            "tenant_id": tenant.id, "client_id": "11111111-2222-3333-4444-555555555555", "ca_file": self.ca_file,
            "authority": self.urls["sign_in"], "graph_url": self.urls["graph"], "exchange_url": self.urls["exchange"],
            "sharepoint_admin_url": self.urls["sharepoint"], "answer_seconds": 60, "call_seconds": 60, **more,
        }  # fmt: skip

    def fault(self, match: str, action: Any, times: int = 1_000_000, retry_after: int | None = None) -> Fault:
        """Let something go wrong."""
        self.faults.append(Fault(match, action, times, retry_after))
        return self.faults[-1]

    def strike(self, call: str) -> Fault | None:
        """The fault that hits a call, if any."""
        for fault in self.faults:
            if fault.used < fault.times and re.search(fault.match, call):
                fault.used += 1
                return fault
        return None

    def reset(self) -> None:
        """Forget what was asked."""
        for kept in (self.requests, self.calls, self.faults, self.downloads):
            kept.clear()
        self.ignores_range, self.content_location = False, ""


class Handler(BaseHTTPRequestHandler):
    """One request to one service."""

    protocol_version = "HTTP/1.1"
    #: Head and body go out at once: else each answer waits 40 ms for the acknowledgement of its head.
    disable_nagle_algorithm = True
    state: Server
    service: str

    def log_message(self, *arguments: Any) -> None:
        pass

    def _serve(self) -> None:
        if self.service == "download":
            drive_peer.serve(self)
            return
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        with self.state.lock:
            self.state.agents.add(str(self.headers.get("User-Agent")))
        try:
            status, body, headers = self._answered(text)
        except Dropped:
            self.close_connection = True
            return
        raw = isinstance(body, bytes)
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        cut = headers.pop("cut", None)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "text/plain" if raw else "application/json")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or bool(cut)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

    def _answered(self, text: str) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        if self.service == "sign_in":
            return *_sign_in(self.state, path, text), {}
        tenant = self._tenant()
        if tenant is None:
            return 401, error("InvalidAuthenticationToken", "Access token is of another service or unknown."), {}
        with self.state.lock:
            self.state.requests.append((self.service, tenant.domain, f"{self.command} {path}"))
        struck = self.state.strike(f"HTTP {self.service} {self.command} {path}")
        if struck and struck.action not in ("lose",):
            return self._broken(struck)
        body = json.loads(text) if text and "json" in str(self.headers.get("Content-Type")) else None
        answer = getattr(self, f"_{self.service}")(tenant, parts.path, query, body, text)
        if struck:
            raise Dropped
        return answer  # type: ignore[no-any-return]

    def _tenant(self) -> TestTenant | None:
        token = str(self.headers.get("Authorization")).removeprefix("Bearer ")
        tenant_id, service = self.state.tokens.get(token, ("", ""))
        return next((t for t in self.state.tenants if t.id == tenant_id and service == self.service), None)

    def _broken(self, fault: Fault) -> tuple[int, Any, dict[str, str]]:
        if fault.action == "hang":
            self.state.release.wait(120)
        if not isinstance(fault.action, int):
            raise Dropped
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return fault.action, _error_of(fault.action), headers

    # --- Graph

    def _graph(
        self, tenant: TestTenant, path: str, query: Any, body: Any, text: str
    ) -> tuple[int, Any, dict[str, str]]:
        path = path.removeprefix("/v1.0")
        content = drive_peer.CONTENT.fullmatch(unquote(path))
        if content:
            return self._content(tenant, unquote(path), content[2])
        if path == "/$batch":
            return 200, {"responses": self._graph_batch(tenant, body)}, {}
        return self._graph_call(tenant, self.command, path, query, body)

    def _content(self, tenant: TestTenant, path: str, item: str) -> tuple[int, Any, dict[str, str]]:
        with self.state.lock:
            self.state.calls.append((tenant.domain, f"GET {path}"))
        struck = self.state.strike(f"GET {path}")
        if struck:
            return self._broken(struck)
        if item not in tenant.files:
            return 404, error("itemNotFound", "The resource could not be found."), {}
        base = self.state.content_location or self.state.urls["download"]
        return 302, None, {"Location": f"{base}/{tenant.id}/{item}?tempauth=as-good-as-a-key"}

    def _graph_batch(self, tenant: TestTenant, body: Any) -> list[dict[str, Any]]:
        self.state.violations += violations("POST", "/$batch", {}, body, 200, {"responses": []})
        done: dict[str, dict[str, Any]] = {}
        lost = False
        for item in body["requests"]:
            if any(not 200 <= done[d]["status"] < 300 for d in item.get("dependsOn", [])):
                done[item["id"]] = {
                    "id": item["id"],
                    "status": 424,
                    "body": error("FailedDependency", "a dependency failed"),
                }
                continue
            parts = urlsplit(item["url"])
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            try:
                status, answer, headers = self._graph_call(tenant, item["method"], parts.path, query, item.get("body"))
            except Dropped:
                lost = True
                continue
            done[item["id"]] = {"id": item["id"], "status": status, "headers": headers, "body": answer}
        if lost:
            raise Dropped
        # Answers come in any order.
        return list(reversed(done.values()))

    def _graph_call(
        self, tenant: TestTenant, method: str, path: str, query: Any, body: Any
    ) -> tuple[int, Any, dict[str, str]]:
        path = unquote(path)
        with self.state.lock:
            self.state.calls.append((tenant.domain, f"{method} {path}"))
        struck = self.state.strike(f"{method} {path}")
        if struck and struck.action not in ("lose", "cut"):
            return self._broken(struck)
        with self.state.lock:
            try:
                status, answer = GraphPeer(self.state.urls["graph"] + "/v1.0").answer(tenant, method, path, query, body)
            except LookupError as missing:
                status, answer = 404, error("Request_ResourceNotFound", f"Resource '{missing}' does not exist.")
        self.state.violations += violations(method, path, query, body, status, answer)
        if struck and struck.action == "cut":
            return status, answer, {"cut": "half"}
        if struck:
            raise Dropped
        return status, answer, {}

    # --- Exchange

    def _exchange(
        self, tenant: TestTenant, path: str, query: Any, body: Any, text: str
    ) -> tuple[int, Any, dict[str, str]]:
        base = f"/adminapi/beta/{tenant.id}/"
        if not path.startswith(base) or not self.headers.get("X-AnchorMailbox"):
            self.state.violations.append(f"Exchange: {path} or no anchor")
            return 404, None, {}
        if path == base + "InvokeCommand":
            return self._cmdlet(tenant, body, query)
        answers, lost = [], False
        requests = body["requests"]
        if not 1 <= len(requests) <= 10:
            self.state.violations.append(f"Exchange: a batch of {len(requests)}")
        for item in requests:
            if item["url"].split("?")[0] != self.state.urls["exchange"] + base + "InvokeCommand":
                self.state.violations.append(f"Exchange: item to {item['url']}")
            try:
                status, answer, headers = self._cmdlet(tenant, item["body"], {})
            except Dropped:
                lost = True
                continue
            answers.append(
                {"id": item["id"], "status": status, "headers": headers, **({"body": answer} if answer else {})}
            )
        if lost:
            raise Dropped
        return 200, {"responses": list(reversed(answers))}, {}

    def _cmdlet(self, tenant: TestTenant, body: Any, query: Any) -> tuple[int, Any, dict[str, str]]:
        name, parameters = body["CmdletInput"]["CmdletName"], body["CmdletInput"]["Parameters"]
        with self.state.lock:
            self.state.calls.append((tenant.domain, name))
        self.state.violations += exchange_peer.violations_of(name, parameters)
        struck = self.state.strike(name)
        if struck and struck.action != "lose":
            status, answer, headers = self._broken(struck)
            return status, _exchange_words(answer), headers
        with self.state.lock:
            try:
                entries = exchange_peer.invoke(tenant, name, parameters)
            except exchange_peer.ExchangeError as refused:
                return refused.status, refused.body, {}
        if struck:
            raise Dropped
        start = int(query.get("$skiptoken", "0"))
        page: dict[str, Any] = {
            "value": entries[start : start + tenant.page_size],
            "@adminapi.warnings": ["be careful"],
        }
        if start + tenant.page_size < len(entries):
            base = f"{self.state.urls['exchange']}/adminapi/beta/{tenant.id}/InvokeCommand"
            page["@odata.nextLink"] = f"{base}?$skiptoken={start + tenant.page_size}"
        return 200, page, {}

    # --- SharePoint

    def _sharepoint(
        self, tenant: TestTenant, path: str, query: Any, body: Any, text: str
    ) -> tuple[int, Any, dict[str, str]]:
        kind = "" if "ProcessQuery" not in path else "Update" if 'Name="Update"' in text else "Query"
        call = f"{self.command} {unquote(path)} {self.headers.get('X-HTTP-Method') or kind}".strip()
        with self.state.lock:
            self.state.calls.append((tenant.domain, call))
        struck = self.state.strike(call)
        if struck and struck.action != "lose":
            return self._broken(struck)
        with self.state.lock:
            status, answer = sharepoint_peer.answer(
                tenant, self.command, unquote(path), query, body, text, self.headers
            )
        if struck:
            raise Dropped
        return status, answer, {}


def _error_of(status: int) -> dict[str, Any]:
    codes = {403: "Authorization_RequestDenied", 404: "Request_ResourceNotFound", 429: "TooManyRequests"}
    return error(
        codes.get(status, "ServiceError"), "Insufficient privileges" if status == 403 else "as the test asked for"
    )


def _exchange_words(body: Any) -> Any:
    return {"error": {"code": body["error"]["code"], "message": body["error"]["message"]}}


def _sign_in(state: Server, path: str, text: str) -> tuple[int, Any]:
    """The token endpoint of every tenant, by client secret or by certificate (whose signature is not checked)."""
    tenant = next((t for t in state.tenants if path.startswith(f"/{t.id}/")), None)
    if tenant is None:
        return 400, {"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant not found."}
    base = f"{state.urls['sign_in']}/{tenant.id}"
    if path.endswith("/.well-known/openid-configuration"):
        return 200, {
            "issuer": f"{base}/v2.0", "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        }  # fmt: skip
    form = dict(parse_qsl(text))
    with state.lock:
        state.sign_ins.append(f"{tenant.domain} {form['scope']}")
        if state.sign_in_error is not None:
            return 400, state.sign_in_error
        by_certificate = form.get("client_assertion_type", "").endswith("jwt-bearer")
        if not by_certificate and form.get("client_secret") != tenant.secret:
            return 401, {
                "error": "invalid_client",
                "error_description": "AADSTS7000215: Invalid client secret provided.",
            }
        service = next((s for s in SERVICES if state.urls[s] == form["scope"].removesuffix("/.default")), "")
        token = _token(tenant, service)
        state.tokens[token] = (tenant.id, service)
    return 200, {"token_type": "Bearer", "expires_in": state.token_seconds, "access_token": token}


def _token(tenant: TestTenant, service: str) -> str:
    """An access token as Entra makes it: a JWT whose `roles` are the permissions of the app; its signature is nonsense."""
    claims = {"aud": service, "tid": tenant.id, "jti": uuid.uuid4().hex, "roles": sorted(tenant.app_roles)}
    parts = (json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in parts), "bm8"])


@contextmanager
def running(state: Server, certificate: Path) -> Iterator[Server]:
    """The services, until the end of the block. `certificate`: PEM with key, for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    state.ca_file = str(certificate)
    servers, threads = [], []
    for service in SERVICES:
        handler = type(f"{service}Handler", (Handler,), {"state": state, "service": service})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        # The handshake belongs to the thread of the connection: one that stalls keeps nobody waiting.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.daemon_threads = True
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]
        state.urls[service] = f"https://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append(server)
        threads.append(thread)
    try:
        yield state
    finally:
        state.release.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
