"""What holds for every request and answer: size, origin, and the headers that tell a browser what it may do."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.settings import Settings
from agent.web.problems import TooLarge, problem

#: Bytes of a request's body; uploads of inventories and packages may be larger.
BODY_BYTES, UPLOAD_BYTES = 1_000_000, 20_000_000
#: No inline script or style, nothing from elsewhere, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; frame-src 'self'"
)
#: A stored report carries its own styles; it may not run anything.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = UPLOAD_BYTES if scope["path"].endswith(("/import", "/upload")) else BODY_BYTES
        refusal = self._refusal(scope, headers, limit)
        guarded = self._sender(scope, send)
        if refusal is not None:
            await problem(scope["path"], *refusal)(scope, receive, guarded)
            return
        await self.app(scope, _bounded(receive, limit), guarded)

    def _refusal(self, scope: Scope, headers: Headers, limit: int) -> tuple[int, str, str] | None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            return 413, "Too large", f"at most {limit} bytes are taken here"
        # A browser says where a form comes from; programs with a token say nothing.
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and headers.get("sec-fetch-site") in (
            "cross-site", "same-site",
        ):  # fmt: skip
            return 403, "Forbidden", "this request comes from another site"
        return None

    def _sender(self, scope: Scope, send: Send) -> Send:
        static = scope["path"].startswith("/static/")

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("content-security-policy", POLICY)
                # Pages show who is where: they are not kept by anybody.
                headers.setdefault("cache-control", "public, max-age=31536000, immutable" if static else "no-store")
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        return guarded


def _bounded(receive: Receive, limit: int) -> Receive:
    """Counts what comes in: a body sent in chunks names no length."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge(f"at most {limit} bytes are taken here")
        return message

    return counted
