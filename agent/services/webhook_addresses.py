"""Where a webhook may be sent: not to this server's own network, unless a setting allows it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from agent.errors import CannotConnect, UsageError
from agent.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_HOW = "an address such as https://hooks.example.com/exeunt"


def check_address(settings: Settings, url: str) -> None:
    """Raises UsageError for an address that no message may be sent to; a name is looked at when it is sent."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"{url[:200]!r} is no {_HOW}") from None
    if not host or not url.isascii() or not url.isprintable() or " " in url or len(url) > 2000:
        raise UsageError(f"{url[:200]!r} is no {_HOW}")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise UsageError("a webhook's address holds no user, password or fragment: messages are signed instead")
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.webhook_loopback and port):
        raise UsageError(f"{url[:200]!r}: webhooks are sent by https only")
    literal = _literal(host)
    if literal is not None:
        _check(settings, literal, parts.scheme)


def resolve(settings: Settings, url: str) -> str:
    """The IP address to connect to, so that nobody can change what the name means after it was looked at.

    Raises UsageError when any address of the name is refused, CannotConnect when it has none.
    """
    check_address(settings, url)
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CannotConnect(f"the name {host!r} cannot be looked up: {error}") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        _check(settings, address, parts.scheme)
    return str(addresses[0])


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _check(settings: Settings, address: Address, scheme: str) -> None:
    plain: Any = getattr(address, "ipv4_mapped", None) or address
    if plain.is_loopback and settings.webhook_loopback:
        return
    if scheme != "https":
        raise UsageError(
            "webhooks are sent by http to this machine only, and only when EXEUNT_WEBHOOK_LOOPBACK says so"
        )
    allowed = settings.webhook_private and plain.is_private and not (plain.is_loopback or plain.is_link_local)
    if not allowed and (not plain.is_global or plain.is_multicast):
        raise UsageError(
            f"{address} is an address of an inner network: EXEUNT_WEBHOOK_PRIVATE allows private ones, and none allows others"
        )
