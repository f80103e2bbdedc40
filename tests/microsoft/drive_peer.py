"""The files of a OneDrive in the test tenant: listing by Graph, and the host that gives the contents without a sign-in.

It leaves out delta, thumbnails, versions, and how long an address of the download host is good for (a fault stands for it).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

CONTENT = re.compile(r"/drives/([^/]+)/items/([^/]+)/content")


@dataclass
class DriveItem:
    """A file (with content), a folder (None), or something else (`facets` replaces both)."""

    name: str
    content: bytes | None = None
    parent: str = "root-item"
    version: int = 1
    #: Of quickXorHash, sha1Hash and sha256Hash those that Graph gives.
    hashes: tuple[str, ...] = ("quickXorHash",)
    facets: dict[str, Any] = field(default_factory=dict)
    #: What Graph says where that is not so.
    said: dict[str, Any] = field(default_factory=dict)


def quick_xor(data: bytes) -> str:
    """QuickXorHash bit by bit, as its description has it."""
    bits = [0] * 160
    for place, byte in enumerate(data):
        for bit in range(8):
            bits[(place * 11 + bit) % 160] ^= byte >> bit & 1
    for bit in range(64):
        bits[96 + bit] ^= len(data) >> bit & 1
    return base64.b64encode(bytes(sum(bits[i + b] << b for b in range(8)) for i in range(0, 160, 8))).decode()


_HASHES = {
    "quickXorHash": quick_xor, "sha1Hash": lambda data: hashlib.sha1(data).hexdigest().upper(),
    "sha256Hash": lambda data: hashlib.sha256(data).hexdigest().upper(),
}  # fmt: skip


def shown(item_id: str, item: DriveItem) -> dict[str, Any]:
    """An item as Graph shows it."""
    body: dict[str, Any] = {
        "id": item_id, "name": item.name, "size": len(item.content or b""), "eTag": f'"{item_id},{item.version}"',
        "cTag": f'"c:{item_id},{item.version}"',
    }  # fmt: skip
    if item.facets:
        body |= item.facets
    elif item.content is None:
        body["folder"] = {"childCount": 0}
    else:
        body["file"] = {"mimeType": "text/plain", "hashes": {name: _HASHES[name](item.content) for name in item.hashes}}
    return {**body, **item.said}


def serve(handler: Any) -> None:
    """Answer one request to the download host: `/<tenant's id>/<item's id>?tempauth=...`."""
    state, path = handler.state, handler.path.split("?")[0]
    if handler.headers.get("Authorization"):
        state.violations.append("the token was sent to the download host")
    with state.lock:
        tenant_id, _, item_id = path.lstrip("/").partition("/")
        tenant = next(t for t in state.tenants if t.id == tenant_id)
        wanted = handler.headers.get("Range")
        state.downloads.append((tenant.domain, item_id, wanted))
        struck = state.strike(f"DOWNLOAD {item_id}")
        item = tenant.files.get(item_id)
        data = b"" if item is None else item.content or b""
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and not state.ignores_range else 0
    action = struck.action if struck else None
    if action == "drop":
        handler.close_connection = True
        return
    if isinstance(action, int) or item is None or (wanted and start >= len(data)):
        status = action if isinstance(action, int) else 404 if item is None else 416
        handler.send_response(status)
        if struck and struck.retry_after is not None:
            handler.send_header("Retry-After", str(struck.retry_after))
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if wanted and not state.ignores_range else 200)
    handler.send_header("Content-Length", str(len(data) - start))
    if wanted and not state.ignores_range:
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.end_headers()
    if action == "cut":
        # The half of what is missing, and the end of the connection.
        handler.wfile.write(data[start : start + (len(data) - start) // 2])
        handler.close_connection = True
        return
    if action == "spoil":
        data = data[:start] + bytes(b ^ 1 for b in data[start:])
    handler.wfile.write(data[start:])
