"""Verbs on clients, locations, computers and contacts: add, change, move, retire, note a contact."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, update
from sqlmodel import Session, col, select

from agent import audit
from agent.content.reading import PARTNER
from agent.errors import ClientMismatch, Conflict, NotFound, UsageError
from agent.inventory.columns import FUTURE_TOLERANCE, checked
from agent.inventory.lookup import P, Place, get, key, path, place_id, word
from agent.model.administration import Credential
from agent.model.base import new_id, utcnow
from agent.model.places import Client, Computer, Contact, Location

#: Without it the partner's scripts, not the client's own, would run from then on.
SLUG_STAYS = "the slug of a client stays: its scripts, packages and roles are found by it; change the name instead"


def add_client(
    session: Session, *, name: str, actor: str, external_id: str | None = None, slug: str | None = None
) -> Client:
    """Store a client. The slug names its folder of scripts; it is made from the name unless given."""
    slug = slug if slug is not None else free_slug(session, name)
    return _add(session, Client, actor, {"name": name, "external_id": external_id or new_id(), "slug": slug}, {})


def add_location(
    session: Session, *, client_id: int, name: str, actor: str, external_id: str | None = None
) -> Location:
    """Store a location of a client."""
    get(session, Client, client_id)
    values = {"name": name, "external_id": external_id or new_id()}
    return _add(session, Location, actor, values, {"client_id": client_id})


def add_computer(
    session: Session, *, location_id: int, name: str, actor: str, external_id: str | None = None, **attributes: Any
) -> Computer:
    """Store a computer at a location, and so of the location's client. `attributes` as in `columns.COLUMNS`, text or typed."""
    client_id = get(session, Location, location_id).client_id
    values = {"date_added": utcnow(), **attributes, "name": name, "external_id": external_id or new_id()}
    _check_credential(session, values.get("credential_id"), client_id, location_id)
    return _add(session, Computer, actor, values, {"client_id": client_id, "location_id": location_id})


def add_contact(
    session: Session, *, client_id: int, name: str, actor: str, email: str = "", location_id: int | None = None,
    external_id: str | None = None, **attributes: Any,
) -> Contact:  # fmt: skip
    """Store a person at a client, and at one of its locations if given. `attributes` as in `columns.COLUMNS`."""
    get(session, Client, client_id)
    if location_id is not None and get(session, Location, location_id).client_id != client_id:
        raise ClientMismatch(f"the location {location_id} belongs to another client than {client_id}")
    values = {**attributes, "name": name, "email": email, "external_id": external_id or new_id()}
    return _add(session, Contact, actor, values, {"client_id": client_id, "location_id": location_id})


def change(session: Session, place: P, *, actor: str, **attributes: Any) -> P:
    """Change columns of a place; old and new values go into the audit trail. Nothing differs: nothing is recorded.

    Raises Conflict for another client's slug or external id, and for another slug of a client.
    """
    values = checked(type(place), attributes)
    if isinstance(place, Client) and values.get("slug", place.slug) != place.slug:
        raise Conflict(SLUG_STAYS)
    if isinstance(place, Computer) and "credential_id" in values:
        _check_credential(session, values["credential_id"], place.client_id, place.location_id)
    _refuse_taken(session, type(place), values, place_id(place))
    old = {name: getattr(place, name) for name, value in values.items() if getattr(place, name) != value}
    if old:
        for name in old:
            setattr(place, name, values[name])
        session.add(place)
        session.flush()
        new = {name: values[name] for name in old}
        _record(session, place, "change", actor, {"old": old, "new": new})
    return place


def move(session: Session, computer: Computer, location_id: int, *, actor: str, allow_move: bool = False) -> None:
    """Put a computer at another location. Another client's location needs `allow_move`, else Conflict.

    Raises ClientMismatch when the computer is reached by a credential that the other client must not use.
    """
    target = get(session, Location, location_id)
    if target.client_id != computer.client_id and not allow_move:
        raise Conflict(
            f"computer {place_id(computer)} ({path(session, computer)}) would move to another client "
            f"({path(session, target)}): allow the move explicitly if that is meant"
        )
    _check_credential(session, computer.credential_id, target.client_id, location_id)
    if computer.location_id == location_id:
        return
    old = {"client_id": computer.client_id, "location_id": computer.location_id}
    computer.client_id, computer.location_id = target.client_id, location_id
    session.add(computer)
    session.flush()
    new = {"client_id": target.client_id, "location_id": location_id}
    _record(session, computer, "move", actor, {"old": old, "new": new})


def retire(session: Session, computer: Computer, *, actor: str, at: datetime | None = None) -> None:
    """Mark a computer whose agent was removed. It is kept; retiring it again changes nothing."""
    if computer.retired_at is None:
        computer.retired_at = at or utcnow()
        session.add(computer)
        session.flush()
        _record(session, computer, "retire", actor, {"retired_at": computer.retired_at})


def unretire(session: Session, computer: Computer, *, actor: str) -> None:
    """Take a computer back into service."""
    if computer.retired_at is not None:
        old, computer.retired_at = computer.retired_at, None
        session.add(computer)
        session.flush()
        _record(session, computer, "unretire", actor, {"retired_at": old})


def record_contact(session: Session, computer_id: int, at: datetime, *, booted_at: datetime | None = None) -> bool:
    """Note that a computer answered at `at` (aware); False if a later contact is known already. Not audited: it is frequent.

    Raises NotFound, and UsageError for a time in the future, which would keep the computer online for ever.
    """
    if at > utcnow() + FUTURE_TOLERANCE:
        raise UsageError(f"the contact of computer {computer_id} lies in the future: {at.isoformat()}")
    values: dict[Any, Any] = {col(Computer.last_contact): at}
    if booted_at is not None:
        values[col(Computer.booted_at)] = booted_at
    earlier = or_(col(Computer.last_contact).is_(None), col(Computer.last_contact) < at)
    done = session.execute(update(Computer).where(key(Computer) == computer_id, earlier).values(values))
    if getattr(done, "rowcount", 0):
        return True
    if session.exec(select(key(Computer)).where(key(Computer) == computer_id)).first() is None:
        raise NotFound(f"there is no computer with the id {computer_id}")
    return False


def online(computer: Computer, online_seconds: int, *, now: datetime | None = None) -> bool:
    """Whether the last contact is younger than the threshold (facts 11.6: 300 s)."""
    return computer.last_contact is not None and (now or utcnow()) - computer.last_contact < timedelta(
        seconds=online_seconds
    )


def free_slug(session: Session, name: str, *, taken: Container[str] | None = None) -> str:
    """A slug that no client has (or that is not `taken`), made from a name: `Contoso, Ltd.` -> `contoso-ltd`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60] or "client"
    if taken is None:
        taken = set(session.exec(select(Client.slug).where(col(Client.slug).startswith(base, autoescape=True))))
    number = 1
    slug = base
    # Else what is listed for a client of that name would count for every client.
    while slug in taken or slug == PARTNER:
        number += 1
        slug = f"{base}-{number}"
    return slug


def _add(
    session: Session, model: type[P], actor: str, values: Mapping[str, Any], places: Mapping[str, int | None]
) -> P:
    values = checked(model, values)
    _refuse_taken(session, model, values, None)
    columns: dict[str, Any] = {**values, **places}
    place = model(**columns)
    session.add(place)
    session.flush()
    _record(session, place, "add", actor, {**values, **places})
    return place


def _refuse_taken(session: Session, model: type[P], values: Mapping[str, Any], own: int | None) -> None:
    for name in ("external_id", "slug"):
        if name in values:
            other: Any = session.scalars(select(model).where(col(getattr(model, name)) == values[name])).first()
            if other is not None and place_id(other) != own:
                raise Conflict(f"{path(session, other)} has the {name.replace('_', ' ')} {values[name]!r} already")


def _check_credential(session: Session, credential_id: Any, client_id: int, location_id: int) -> None:
    """A computer is reached by a credential of the server, of its client or of its location (DESIGN 5.7)."""
    if not credential_id:
        return
    credential = session.get(Credential, int(credential_id))
    if credential is None:
        raise NotFound(f"there is no credential with the id {credential_id}")
    if credential.client_id not in (None, client_id) or credential.location_id not in (None, location_id):
        raise ClientMismatch(f"the credential {credential.name!r} belongs to another client or location")


def _record(session: Session, place: Place, what: str, actor: str, details: Mapping[str, Any]) -> None:
    kind = word(type(place))
    audit.record(
        session, actor=actor, action=f"{kind}.{what}", object_kind=kind, object_id=place_id(place),
        client_id=place.client_id, details={"name": place.name, **details},
    )  # fmt: skip
