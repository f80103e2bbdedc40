"""Connections: certificates, time limits, and the name that requests go by."""

from __future__ import annotations

import ssl
from functools import cache

import httpx

from agent.services.microsoft.settings import TenantSettings

#: Seconds for a connection to be made.
CONNECT_SECONDS = 15.0


def http_client(settings: TenantSettings, user_agent: str = "exeunt", *, keep: bool = True) -> httpx.Client:
    """A pool of connections. `user_agent` stands in every request and in the services' logs.

    `keep`: connections stay open between requests; the client must then be closed.
    """
    connect = min(CONNECT_SECONDS, settings.answer_seconds)
    return httpx.Client(
        verify=_tls(settings.ca_file), timeout=httpx.Timeout(settings.answer_seconds, connect=connect), headers={"User-Agent": user_agent},
        limits=httpx.Limits(max_keepalive_connections=None if keep else 0),
    )  # fmt: skip


@cache
def _tls(ca_file: str | None) -> ssl.SSLContext:
    """Reading the system's authorities takes longer than a request; once per process is enough."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
