"""The place a run is about, with the places around it, as they are now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import bindparam, false, inspect, select
from sqlalchemy.orm import aliased
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
    row = session.execute(_query(kind), {"of_id": place_id}).first()
    if row is None:
        raise NotFound(f"there is no {kind} with the id {place_id}")
    place, client, location = row
    assert client.client_id is not None
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


@cache
def _query(kind: str) -> Any:
    """A place with its client and its location (None where it has none), in one query: it is asked at every step."""
    place = KINDS[kind]
    key = inspect(place).primary_key[0]
    client, location = aliased(Client), aliased(Location)
    query: Any = select(place, client, location).join(client, client.client_id == place.client_id)  # type: ignore[attr-defined]
    same = location.location_id == place.location_id if hasattr(place, "location_id") else false()
    return query.outerjoin(location, same).where(key == bindparam("of_id"))


def _columns(place: SQLModel) -> dict[str, Any]:
    """Columns as JSON can hold them: times as ISO text."""
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in place.model_dump().items()}


def skip(target: Target, reason: str) -> dict[str, Any]:
    """The entry of a target that is left out."""
    client = target.places["client"]
    return {"computer": target.name, "id": target.id, "client": client["name"] if client else None, "reason": reason}
