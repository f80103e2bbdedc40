"""A vendor's service on loopback: it holds state, answers over TLS, breaks on demand, and notes what broke the contract.

A subclass says how requests are signed (`allowed`), what an error looks like (`error`) and what each path does (`route`).
One instance is one customer's account there with secrets of its own; each client of a test has one.
"""

from __future__ import annotations

import copy
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from vendor_contract import Contract, Message, sorted_headers

Action = int | Literal["drop", "lose", "hang"]


@dataclass
class Fault:
    """What goes wrong with requests of which `match` (a pattern) finds `METHOD /path`."""

    match: str
    #: A status to answer with, nothing done; `drop`: no answer, nothing done; `hang`: the same after a silence;
    #: `lose`: done, and no answer.
    action: Action
    times: int = 1_000_000
    retry_after: int | None = None
    #: Once it struck, every request gets the same status, or no answer, as of a service that has gone.
    for_good: bool = False
    used: int = 0


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON, None when there is none."""
        return json.loads(self.body) if self.body else None

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True)
class Answer:
    """An answer. A body that is neither None nor bytes is sent as JSON."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    @property
    def data(self) -> bytes:
        """The body's bytes."""
        if self.body is None or isinstance(self.body, bytes):
            return self.body or b""
        return json.dumps(self.body).encode()


class Refusal(Exception):
    """Raised by a route: the service says no."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(f"{status} {code} {message}")


class _Dropped(Exception):
    """The connection is to be closed without an answer."""


@dataclass(frozen=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    handler: str
    outside: str
    open: bool


def route(method: str, path: str, *, outside: str = "", open: bool = False) -> Callable[[Any], Any]:
    """A method of a peer answers this path, such as `/users/{id}`; it gets `asked` and the parts in braces.

    `outside`: why the vendor's contract does not have it (then it is not checked). `open`: no sign-in is asked for.
    """
    text = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))

    def keep(handler: Any) -> Any:
        found = [*getattr(handler, "vendor_routes", ()), (method, re.compile(text), outside, open)]
        handler.vendor_routes = found
        return handler

    return keep


class VendorPeer:
    """A customer's account at a vendor."""

    #: None: the vendor publishes no contract; the peer is our reading of its manuals, and the test says what it leaves out.
    contract: ClassVar[Contract | None] = None
    _routes: ClassVar[tuple[_Route, ...]] = ()

    def __init_subclass__(cls) -> None:
        own = [
            _Route(method, pattern, name, outside, open)
            for name, handler in vars(cls).items()
            for method, pattern, outside, open in getattr(handler, "vendor_routes", ())
        ]
        cls._routes = (*own, *cls._routes)

    def __init__(self, name: str) -> None:
        self.name = name
        #: Address, set when it runs.
        self.url = ""
        self.ca_file = ""
        #: Everything that it holds, to be compared; subclasses fill it.
        self.state: dict[str, Any] = {}
        self.faults: list[Fault] = []
        #: `METHOD /path` of every request, in order; and the requests themselves.
        self.calls: list[str] = []
        self.requests: list[Asked] = []
        self.violations: list[str] = []
        self.lock = threading.RLock()
        self.release = threading.Event()

    # --- what a subclass says

    def allowed(self, asked: Asked) -> bool:
        """Whether the request is signed as it must be."""
        raise NotImplementedError

    def error(self, status: int, code: str, message: str) -> Any:
        """The body of an error."""
        return {"error": {"code": code or status, "message": message or "as the test asked for"}}

    # --- what a test does

    def fault(
        self, match: str, action: Action, times: int = 1_000_000, *, retry_after: int | None = None,
        for_good: bool = False,
    ) -> Fault:  # fmt: skip
        """Let something go wrong from now on."""
        self.faults.append(Fault(match, action, times, retry_after, for_good))
        return self.faults[-1]

    def snapshot(self) -> dict[str, Any]:
        """Everything that it holds, to compare."""
        with self.lock:
            return copy.deepcopy(self.state)

    def written(self) -> list[str]:
        """The requests that were no questions."""
        return [call for call in self.calls if not call.startswith(("GET ", "HEAD "))]

    # --- serving

    def serve(self, asked: Asked) -> Answer:
        """Answer a request; raises _Dropped when there is no answer."""
        call = f"{asked.method} {asked.path}"
        with self.lock:
            self.calls.append(call)
            self.requests.append(asked)
        fault = self._strike(call)
        if fault is not None and fault.action != "lose":
            answer = self._broken(fault)
            self._check(asked, answer, injected=True)
            return answer
        with self.lock:
            answer = self._acted(asked)
        self._check(asked, answer, injected=False)
        if fault is not None:
            raise _Dropped
        return answer

    def _acted(self, asked: Asked) -> Answer:
        found = self._route(asked)
        try:
            if found is None:
                raise Refusal(404, "NoSuchPath", f"the test system has no {asked.method} {asked.path}")
            route, parts = found
            if not route.open and not self.allowed(asked):
                raise Refusal(401, "Unauthorized", "not signed in")
            answer = getattr(self, route.handler)(asked, **{k: unquote(v) for k, v in parts.items()})
            return answer if isinstance(answer, Answer) else Answer(200, answer)
        except Refusal as refused:
            return Answer(refused.status, self.error(refused.status, refused.code, refused.message))

    def _route(self, asked: Asked) -> tuple[_Route, dict[str, str]] | None:
        for each in self._routes:
            match = each.pattern.fullmatch(asked.path)
            if each.method == asked.method and match:
                return each, match.groupdict()
        return None

    def _strike(self, call: str) -> Fault | None:
        for fault in self.faults:
            if fault.for_good and fault.used:
                return Fault("", fault.action if isinstance(fault.action, int) else "drop")
            if fault.used < fault.times and re.search(fault.match, call):
                fault.used += 1
                return fault
        return None

    def _broken(self, fault: Fault) -> Answer:
        if fault.action == "hang":
            self.release.wait(120)
        if not isinstance(fault.action, int):
            raise _Dropped
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return Answer(fault.action, self.error(fault.action, "", ""), headers)

    def _check(self, asked: Asked, answer: Answer, *, injected: bool) -> None:
        found = self._route(asked)
        if found is not None and (found[0].outside or self.contract is None):
            return
        if self.contract is None:
            self.violations.append(f"there is no {asked.method} {asked.path}")
            return
        request = Message(
            str(asked.headers.get("Content-Type") or ""), asked.body, sorted_headers(asked.headers), asked.method,
            asked.path, tuple(sorted(asked.query.items())),
        )  # fmt: skip
        said = Message(answer.content_type, answer.data, tuple(sorted(answer.headers.items())), status=answer.status)
        self.violations += self.contract.violations(request, said, injected=injected)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: Head and body go out at once: else each answer waits 40 ms for the acknowledgement of its head.
    disable_nagle_algorithm = True
    peer: VendorPeer

    def log_message(self, *arguments: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            answer = self.peer.serve(Asked(self.command, parts.path, query, self.headers, body))
        except _Dropped:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.data)))
        if answer.data:
            self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.data)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = _serve


@contextmanager
def running(peer: VendorPeer, certificate: Path) -> Iterator[VendorPeer]:
    """Serve until the end of the block. `certificate`: PEM with key, for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"peer": peer}))
    # The handshake belongs to the thread of the connection: one that stalls keeps nobody waiting.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    peer.url, peer.ca_file = f"https://127.0.0.1:{server.server_port}", str(certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield peer
    finally:
        peer.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
