"""The place a run is about, with the places around it, as they are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, SQLModel

from agent.errors import NotFound
from agent.model.places import Client, Computer, Contact, Location

KINDS: dict[str, type[SQLModel]] = {"computer": Computer, "contact": Contact, "location": Location, "client": Client}


@dataclass(frozen=True)
class Target:
    """One place and the places it lies in. `places` maps computer, contact, location, client to their columns."""

    kind: str
    id: int
    name: str
    client_id: int
    client_slug: str
    retired: bool
    places: Mapping[str, Mapping[str, Any] | None]

    def fact(self, name: str) -> Any:
        """`computer.name`, `client.slug`, or ConnectWise Automate's `computername`, `clientid`. Raises KeyError."""
        place, _, column = name.partition(".")
        if not column:
            place, column = _automate_name(name.lower())
        columns = self.places.get(place)
        if columns is None or column not in columns:
            raise KeyError(name)
        return columns[column]


def _automate_name(name: str) -> tuple[str, str]:
    """`computername` -> (computer, name); `clientid` -> (client, client_id)."""
    for place in KINDS:
        if name == f"{place}name":
            return place, "name"
        if name == f"{place}id":
            return place, f"{place}_id"
    return name, ""


def load_target(session: Session, kind: str, place_id: int) -> Target:
    """The target with that id. Raises NotFound."""
    place = session.get(KINDS[kind], place_id)
    if place is None:
        raise NotFound(f"there is no {kind} with the id {place_id}")
    client = place if isinstance(place, Client) else session.get(Client, place.client_id)  # type: ignore[attr-defined]
    location_id = getattr(place, "location_id", None)
    location = session.get(Location, location_id) if location_id else None
    assert isinstance(client, Client) and client.client_id is not None
    places: dict[str, Mapping[str, Any] | None] = {
        "client": _columns(client),
        "location": _columns(location) if location else None,
        kind: _columns(place),
    }
    return Target(
        kind=kind,
        id=place_id,
        name=str(getattr(place, "name", "")),
        client_id=client.client_id,
        client_slug=client.slug,
        retired=getattr(place, "retired_at", None) is not None,
        places=places,
    )


def _columns(place: SQLModel) -> dict[str, Any]:
    """Columns as JSON can hold them: times as ISO text."""
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in place.model_dump().items()}


def skip(target: Target, reason: str) -> dict[str, Any]:
    """The entry of a target that is left out."""
    client = target.places["client"]
    return {"computer": target.name, "id": target.id, "client": client["name"] if client else None, "reason": reason}
