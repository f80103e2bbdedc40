"""Finding places.

A reference names a place by `id:7`, `external:abc`, a bare id or external id, a client's slug, or a path of names such as
`Contoso/HQ/PC1`; a contact also by its e-mail address. What fits more than one place is refused: a name is never guessed.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, or_
from sqlmodel import Session, col, select

from agent.errors import Conflict, NotFound
from agent.inventory.columns import near
from agent.model.fields import Form
from agent.model.places import Client, Computer, Contact, Location

Place = Client | Location | Computer | Contact
P = TypeVar("P", bound=Place)

FORMS: dict[type, Form] = {
    Client: Form.CLIENT,
    Location: Form.LOCATION,
    Computer: Form.COMPUTER,
    Contact: Form.CONTACT,
}
MODELS: dict[Form, type[Place]] = {
    Form.CLIENT: Client,
    Form.LOCATION: Location,
    Form.COMPUTER: Computer,
    Form.CONTACT: Contact,
}


def word(model: type) -> str:
    """What a kind of place is called: client, location, computer, contact."""
    return model.__name__.lower()


def place_id(place: Place) -> int:
    """The id of a stored place."""
    found: int | None = getattr(place, f"{word(type(place))}_id")
    assert found is not None, "the place is not stored yet"
    return found


def key(model: type[P]) -> Any:
    """The key column of a kind of place."""
    return col(getattr(model, f"{word(model)}_id"))


def get(session: Session, model: type[P], identity: int) -> P:
    """The place with that id. Raises NotFound."""
    place = session.get(model, identity)
    if place is None:
        raise NotFound(f"there is no {word(model)} with the id {identity}")
    return place


def find(session: Session, model: type[P], reference: str) -> P:
    """The one place that a reference names. Raises NotFound with near names, Conflict when it fits more than one."""
    found = list(session.exec(select(model).where(_named(model, reference)).limit(6)))
    if len(found) == 1:
        return found[0]
    if not found:
        names = list(session.exec(select(model.name).distinct().limit(2000)))
        raise NotFound(f"there is no {word(model)} {reference!r}" + near(reference.rpartition("/")[2], names))
    listed = ", ".join(f"id:{place_id(p)} = {path(session, p)}" for p in found[:5])
    more = " and more" if len(found) > 5 else ""
    raise Conflict(f"{reference!r} fits more than one {word(model)}: {listed}{more}; name it by its id")


def path(session: Session, place: Place) -> str:
    """The names of the places around and of the place itself: `Contoso/HQ/PC1`."""
    if isinstance(place, Client):
        return place.name
    parts = [get(session, Client, place.client_id).name]
    if not isinstance(place, Location) and place.location_id is not None:
        parts.append(get(session, Location, place.location_id).name)
    return "/".join([*parts, place.name])


def clients(session: Session) -> list[Client]:
    """All clients by name."""
    return list(session.exec(select(Client).order_by(col(Client.name), key(Client))))


def locations(session: Session, *, client_id: int | None = None) -> list[Location]:
    """The locations (of a client) by name."""
    query = select(Location).order_by(col(Location.name), key(Location))
    return list(session.exec(query if client_id is None else query.where(Location.client_id == client_id)))


def computers(
    session: Session, *, client_id: int | None = None, location_id: int | None = None, retired: bool | None = False,
    after_id: int = 0, limit: int = 1000,
) -> list[Computer]:  # fmt: skip
    """A page of computers by id. `retired`: False leaves the retired out, True lists only them, None lists all."""
    query = select(Computer).where(key(Computer) > after_id).order_by(key(Computer)).limit(limit)
    if client_id is not None:
        query = query.where(Computer.client_id == client_id)
    if location_id is not None:
        query = query.where(Computer.location_id == location_id)
    if retired is not None:
        query = query.where(col(Computer.retired_at).is_not(None) if retired else col(Computer.retired_at).is_(None))
    return list(session.exec(query))


def contacts(session: Session, *, client_id: int | None = None, after_id: int = 0, limit: int = 1000) -> list[Contact]:
    """A page of contacts (of a client) by id."""
    query = select(Contact).where(key(Contact) > after_id).order_by(key(Contact)).limit(limit)
    return list(session.exec(query if client_id is None else query.where(Contact.client_id == client_id)))


def _named(model: type[P], reference: str) -> ColumnElement[bool]:
    """The condition that a reference means."""
    kind, _, rest = reference.partition(":")
    if kind == "id" and re.fullmatch(r"\d{1,9}", rest):
        return key(model) == int(rest)  # type: ignore[no-any-return]
    if kind == "external" and rest:
        return col(model.external_id) == rest
    conditions = [col(model.external_id) == reference, _has_path(model, reference)]
    if re.fullmatch(r"\d{1,9}", reference):
        conditions.append(key(model) == int(reference))
    if model is Client:
        conditions.append(col(Client.slug) == reference)
    if model is Contact and "@" in reference:
        conditions.append(col(Contact.email).in_((reference, reference.lower())))
    return or_(*conditions)


def _has_path(model: type[P], reference: str) -> ColumnElement[bool]:
    """Whether the end of the place's path is the reference. Names may hold slashes themselves."""
    parts = reference.split("/")
    # The name is looked up by its index first; the path is compared only for what that leaves.
    name_fits = col(model.name).in_(["/".join(parts[n:]) for n in range(len(parts))])
    client_name = select(Client.name).where(key(Client) == _column(model, "client_id")).scalar_subquery()
    paths: list[Any] = [col(model.name)]
    if model is not Client:
        paths.append(client_name + "/" + col(model.name))
    if model is Computer or model is Contact:
        location_name = select(Location.name).where(key(Location) == _column(model, "location_id")).scalar_subquery()
        paths += [location_name + "/" + col(model.name), client_name + "/" + location_name + "/" + col(model.name)]
    return name_fits & or_(*(p == reference for p in paths))


def _column(model: type[P], name: str) -> Any:
    return col(getattr(model, name))
