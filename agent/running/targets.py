"""The place a run is about, with the places around it, as they are now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, bindparam, inspect, select
from sqlmodel import Session, SQLModel

from agent.errors import Conflict, NotFound
from agent.model.places import Client, Computer, Contact, Location

KINDS: dict[str, type[SQLModel]] = {"computer": Computer, "contact": Contact, "location": Location, "client": Client}
#: Places that are read by one statement.
_AT_ONCE = 500


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
    found = load_targets(session, [(kind, place_id)])
    if not found:
        raise NotFound(f"there is no {kind} with the id {place_id}")
    return found[kind, place_id]


def load_targets(session: Session, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Target]:
    """The targets by (kind, id); one that is not there is left out."""
    by_kind: dict[str, list[int]] = {}
    for kind, place_id in wanted:
        by_kind.setdefault(kind, []).append(place_id)
    found: dict[tuple[str, int], Target] = {}
    for kind, ids in by_kind.items():
        for start in range(0, len(ids), _AT_ONCE):
            for row in session.connection().execute(_query(kind), {"of_ids": ids[start : start + _AT_ONCE]}):
                target = _target(kind, row)
                found[kind, target.id] = target
    return found


def hold_targets(session: Session, targets: Collection[Target]) -> None:
    """Until the transaction ends nobody removes these places. Raises Conflict for one that somebody has removed."""
    by_kind: dict[str, set[int]] = {}
    for target in targets:
        by_kind.setdefault(target.kind, set()).add(target.id)
    for kind, wanted in sorted(by_kind.items()):
        key, ids = inspect(KINDS[kind]).primary_key[0], sorted(wanted)
        for start in range(0, len(ids), _AT_ONCE):
            chunk = ids[start : start + _AT_ONCE]
            query = select(key).where(key.in_(chunk)).order_by(key).with_for_update(read=True, key_share=True)
            if gone := set(chunk) - set(session.execute(query).scalars()):
                raise Conflict(f"{kind} {min(gone)} was removed since this was planned: plan it again without it")


def _target(kind: str, row: Row[Any]) -> Target:
    places: dict[str, dict[str, Any] | None] = {}
    for (part, column), value in zip(_columns(kind), row, strict=True):
        found = places.setdefault(part, {})
        assert found is not None
        # As JSON can hold them: times as ISO text.
        found[column] = value.isoformat() if isinstance(value, datetime) else value
    client, place, location = places["client"], places[kind], places.get("location")
    assert client is not None and place is not None
    if location is not None and location["location_id"] is None:
        places["location"] = None
    return Target(
        kind=kind,
        id=place[f"{kind}_id"],
        name=str(place["name"]),
        client_id=client["client_id"],
        client_slug=client["slug"],
        retired=place.get("retired_at") is not None,
        places={"location": None, **places},
    )


@cache
def _parts(kind: str) -> dict[str, Any]:
    """The classes that a target's places are read from; the last one is the target itself."""
    around = {"client": Client, "location": Location} if kind in ("computer", "contact") else {"client": Client}
    return {**around, kind: KINDS[kind]}


@cache
def _columns(kind: str) -> tuple[tuple[str, str], ...]:
    """(place, attribute) of every column of `_query`, in its order."""
    return tuple((part, a.key) for part, table in _parts(kind).items() for a in inspect(table).column_attrs)


@cache
def _query(kind: str) -> Any:
    """A place with its client and its location in one query, since it is asked at every step."""
    target, parts = KINDS[kind], _parts(kind)
    query: Any = select(*(getattr(parts[part], name) for part, name in _columns(kind))).select_from(target)
    for part, table in parts.items():
        if table is not target:
            key = f"{part}_id"
            query = query.outerjoin(table, getattr(table, key) == getattr(target, key))
    return query.where(inspect(target).primary_key[0].in_(bindparam("of_ids", expanding=True)))


def skip(target: Target, reason: str) -> dict[str, Any]:
    """The entry of a target that is left out."""
    client = target.places["client"]
    return {"computer": target.name, "id": target.id, "client": client["name"] if client else None, "reason": reason}
