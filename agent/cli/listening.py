"""The web server's process: it says when it listens, and where."""

from __future__ import annotations

from collections.abc import Callable
from socket import gethostname, socket

import uvicorn


class Listener(uvicorn.Server):
    """A uvicorn server that tells its address once it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        if self.started and self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            if host in ("0.0.0.0", "::"):
                # Every address of this machine: its name is one that others can open.
                host = gethostname()
            scheme = "https" if self.config.is_ssl else "http"
            self._ready(f"{scheme}://{'[' + host + ']' if ':' in host else host}:{port}")
