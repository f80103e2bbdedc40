"""Which transports there are: a name and where its class stands, imported on first use. Third parties add theirs by
the entry point group `exeunt.transports`; a name that is taken is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from agent.errors import SettingsError
from agent.transports.base import Target, Transport

BUILT_IN: dict[str, str] = {
    "local": "agent.transports.local:LocalTransport",
    "ssh": "agent.transports.ssh:SshTransport",
    "winrm": "agent.transports.winrm:WinrmTransport",
    "psrp": "agent.transports.psrp:PsrpTransport",
}


@cache
def _places() -> dict[str, str]:
    places = dict(BUILT_IN)
    for point in entry_points(group="exeunt.transports"):
        if point.name in places:
            raise SettingsError(
                f"the transport {point.name!r} of {point.value} is already defined by {places[point.name]}"
            )
        places[point.name] = point.value
    return places


def names() -> list[str]:
    """Names of all transports, sorted."""
    return sorted(_places())


@cache
def get(name: str) -> type[Transport]:
    """The class of a transport. Raises SettingsError with the known names when there is none of that name."""
    place = _places().get(name)
    if place is None:
        raise SettingsError(f"there is no transport {name!r}; there are {', '.join(names())}")
    module, _, attribute = place.partition(":")
    transport: type[Transport] = getattr(import_module(module), attribute)
    return transport


def check_options(name: str, options: Mapping[str, Any]) -> BaseModel:
    """The options of a transport, coerced and complete. Raises SettingsError with the option that is wrong."""
    try:
        return get(name).Options.model_validate(dict(options))
    except ValidationError as error:
        # The input is left out: somebody may have put a password there.
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'options'}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"options of {name}: {wrong}") from None


def connect(computer: Mapping[str, Any], credential: tuple[Mapping[str, Any], Mapping[str, str]] | None) -> Transport:
    """A transport to a computer; the connection itself is made by its first `run`.

    computer: columns of the computer by the names of `agent.model.places.Computer` (`name`, `platform`, `transport`,
    `address`, `port`, `transport_options`).
    credential: settings and secrets of the computer's credential. The computer's own `transport_options` override the
    settings.
    Raises SettingsError naming the computer when it has no transport, an unknown one, or wrong options.
    """
    name = str(computer.get("name") or computer.get("computer_id") or "?")
    settings, secrets = credential or ({}, {})
    try:
        kind = str(computer.get("transport") or "")
        if not kind:
            raise SettingsError(f"it has no transport: set one of {', '.join(names())}")
        port = computer.get("port")
        if port is not None and not 1 <= int(port) <= 65535:
            raise SettingsError(f"{port} is no TCP port")
        target = Target(
            name=name,
            platform=str(computer.get("platform") or ""),
            address=str(computer.get("address") or ""),
            port=port,
            options=check_options(kind, {**settings, **(computer.get("transport_options") or {})}),
            secrets=secrets,
        )
        return get(kind).to(target)
    except SettingsError as error:
        raise SettingsError(f"computer {name}: {error}") from error
