"""Connections: certificates, time limits, and the name that requests go by."""

from __future__ import annotations

import ssl
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

import httpx

#: Seconds for a connection to be made.
CONNECT_SECONDS = 15.0


class Reach(Protocol):
    """What the settings of a credential say of connections."""

    @property
    def ca_file(self) -> str | None:
        """Further certificate authority, for a network that inspects TLS."""

    @property
    def answer_seconds(self) -> float:
        """Seconds for one answer."""


def http_client(settings: Reach, user_agent: str = "exeunt", *, keep: bool = True) -> httpx.Client:
    """A pool of connections that follows no redirect. `user_agent` stands in every request and in the services' logs.

    `keep`: connections stay open between requests; the client must then be closed.
    """
    connect = min(CONNECT_SECONDS, settings.answer_seconds)
    return httpx.Client(
        verify=_tls(settings.ca_file), timeout=httpx.Timeout(settings.answer_seconds, connect=connect), headers={"User-Agent": user_agent},
        limits=httpx.Limits(max_keepalive_connections=None if keep else 0),
    )  # fmt: skip


def user_agent(run_id: str) -> str:
    """The name that the requests of a run go by."""
    try:
        own = version("exeunt")
    except PackageNotFoundError:
        own = "0"
    return f"exeunt/{own} (run:{run_id})"


@cache
def _tls(ca_file: str | None) -> ssl.SSLContext:
    """Reading the system's authorities takes longer than a request; once per process is enough."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
