"""The inventory as people look through it: clients by name, computers and people by filter, everything by words.

Each list is paged after its last row and has an index under its order; nothing here counts or loads a fleet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import Select, and_, or_
from sqlmodel import Session, col, select

from agent.inventory.flags import EXCLUDE, OFFBOARD, FieldSets
from agent.inventory.lookup import MODELS, key, place_id
from agent.inventory.search import matching
from agent.model.base import utcnow
from agent.model.fields import ExtraFieldData, Form
from agent.model.places import CONTACT_STATUSES, Client, Computer, Contact, Location
from agent.web.reads.paging import LIMIT, Order, Page, among, take
from agent.web.reads.places import ComputerRow, computer_rows

T = TypeVar("T", bound=BaseModel)
MOST_ID = 2**31 - 1
#: How many places of each kind the first answer of a search shows.
FOUND = 8

State = Literal["", "online", "offline", "never", "retired"]


class PlaceQuery(BaseModel):
    """The query of a list's address; an empty value is none."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    q: str = Field("", max_length=200)
    client: int | None = Field(None, ge=1, le=MOST_ID)
    location: int | None = Field(None, ge=1, le=MOST_ID)
    #: The cursor of the part that is asked for.
    after: str | None = Field(None, max_length=2000)

    @field_validator("client", "location", "after", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return None if value == "" else value

    def query(self) -> dict[str, str]:
        """What is used but for the cursor, for an address."""
        given = self.model_dump(exclude={"after"})
        return {name: str(value) for name, value in given.items() if value not in ("", None)}


class Filters(PlaceQuery):
    """What a list of computers is kept to."""

    platform: Literal["", "windows", "linux", "macos"] = ""
    #: Offline: was in contact once, not lately. Retired computers are left out unless asked for.
    state: State = ""
    #: yes: an offboarding flag of any level reaches it
    flagged: Literal["", "yes"] = ""
    kind: Literal["", "server", "probe"] = ""


class PersonFilters(PlaceQuery):
    """What a list of people is kept to."""

    status: Literal["", "Active", "On Leave", "Offboarding", "Terminated", "Inactive", "Former Employee"] = ""


class ListedComputer(ComputerRow):
    """A computer with the names of the places around it."""

    client: str
    location: str


class ListedPerson(BaseModel):
    """A person as lists show it."""

    contact_id: int
    client_id: int
    client: str
    location: str
    name: str
    email: str
    department: str
    job_title: str
    status: str
    legal_hold: bool
    is_privileged: bool
    termination_date: str | None


class Node(BaseModel):
    """A client or location in the tree."""

    kind: Literal["client", "location"]
    id: int
    client_id: int
    name: str
    external_id: str
    flagged: bool
    excluded: bool


class Found(BaseModel):
    """The first places of each kind that fit some words; a list says whether there are more."""

    clients: Page[Node]
    locations: Page[Node]
    computers: Page[ListedComputer]
    people: Page[ListedPerson]

    @property
    def nothing(self) -> bool:
        """Whether nothing fits."""
        return not (self.clients.items or self.locations.items or self.computers.items or self.people.items)


def client_nodes(
    session: Session, clients: Collection[int] | None, *, q: str = "", only: int | None = None, after: str | None = None,
    limit: int = LIMIT,
) -> Page[Node]:  # fmt: skip
    """Clients by name; of a search in the order of their ids. `only`: this one."""
    query: Select[Any] = select(Client).where(among(col(Client.client_id), clients))
    if only is not None:
        query = query.where(col(Client.client_id) == only)
    return _nodes(session, Client, query, clients, q, after, limit)


def location_nodes(
    session: Session, clients: Collection[int] | None, *, client_id: int | None = None, q: str = "",
    after: str | None = None, limit: int = LIMIT,
) -> Page[Node]:  # fmt: skip
    """Locations (of a client) by name."""
    query: Select[Any] = select(Location).where(_at(Location, client_id, clients))
    return _nodes(session, Location, query, clients, q, after, limit)


def node_of(session: Session, place: Client | Location) -> Node:
    """One place of the tree."""
    return _as_nodes(session, type(place), [place])[0]


def computer_query(
    session: Session, clients: Collection[int] | None, filters: Filters, online_seconds: int
) -> tuple[Select[Any], Order]:
    """The computers that the filters leave, and the order in which the database finds them at once."""
    query: Select[Any] = select(Computer).where(_at(Computer, filters.client, clients))
    order = Order(col(Computer.name), col(Computer.computer_id))
    since = utcnow() - timedelta(seconds=online_seconds)
    if filters.location is not None:
        query = query.where(col(Computer.location_id) == filters.location)
    if filters.platform:
        query = query.where(col(Computer.platform) == filters.platform)
    if filters.kind:
        query = query.where(col(Computer.is_server if filters.kind == "server" else Computer.is_probe).is_(True))
    retired = col(Computer.retired_at)
    query = query.where(retired.is_not(None) if filters.state == "retired" else retired.is_(None))
    if filters.state == "online":
        query = query.where(col(Computer.last_contact) > since)
    elif filters.state == "never":
        query = query.where(col(Computer.last_contact).is_(None))
        order = Order(col(Computer.computer_id))
    elif filters.state == "offline":
        contact = col(Computer.last_contact)
        # Of the flagged ones also those that never were in contact: they wait as well.
        query = query.where(or_(contact.is_(None), contact <= since) if filters.flagged else contact <= since)
        order = Order(col(Computer.last_contact), col(Computer.computer_id))
    if filters.flagged:
        query = query.where(col(Computer.computer_id).in_(FieldSets(session).flagged_ids()))
        order = Order(col(Computer.computer_id))
    if filters.q:
        query, found = matching(session, query, Computer, filters.q, _asked(filters.client, clients))
        order = Order(found)
    return query, order


def computers(
    session: Session, clients: Collection[int] | None, filters: Filters, *, online_seconds: int, after: str | None = None,
    limit: int = LIMIT,
) -> Page[ListedComputer]:  # fmt: skip
    """A part of the computers that the filters leave. Raises UsageError for a wrong cursor."""
    query, order = computer_query(session, clients, filters, online_seconds)
    rows, following = take(session, query, order, after=after, limit=limit)
    found = computer_rows(session, [row[0] for row in rows], online_seconds)
    client = _names(session, Client, (c.client_id for c in found))
    location = _names(session, Location, (c.location_id for c in found))
    listed = [
        ListedComputer(**c.model_dump(), client=client[c.client_id], location=location[c.location_id]) for c in found
    ]
    return Page(items=listed, next=following)


def people(
    session: Session, clients: Collection[int] | None, filters: PersonFilters, *, after: str | None = None,
    limit: int = LIMIT,
) -> Page[ListedPerson]:  # fmt: skip
    """A part of the people that the filters leave, by name; of a search in the order of their ids."""
    query: Select[Any] = select(Contact).where(_at(Contact, filters.client, clients))
    order = Order(col(Contact.name), col(Contact.contact_id))
    if filters.location is not None:
        query = query.where(col(Contact.location_id) == filters.location)
    if filters.status:
        query = query.where(col(Contact.status) == filters.status)
    if filters.q:
        query, found = matching(session, query, Contact, filters.q, _asked(filters.client, clients))
        order = Order(found)
    rows, following = take(session, query, order, after=after, limit=limit)
    contacts: list[Contact] = [row[0] for row in rows]
    client = _names(session, Client, (c.client_id for c in contacts))
    location = _names(session, Location, (c.location_id for c in contacts if c.location_id is not None))
    own = [n for n in ListedPerson.model_fields if n not in ("client", "location")]
    listed = [
        ListedPerson(
            **{n: getattr(c, n) for n in own}, client=client[c.client_id],
            location=location[c.location_id] if c.location_id is not None else "",
        )
        for c in contacts
    ]  # fmt: skip
    return Page(items=listed, next=following)


def search(session: Session, clients: Collection[int] | None, q: str, *, online_seconds: int) -> Found:
    """The first places of each kind that fit the words."""
    return Found(
        clients=client_nodes(session, clients, q=q, limit=FOUND),
        locations=location_nodes(session, clients, q=q, limit=FOUND),
        computers=computers(session, clients, Filters(q=q), online_seconds=online_seconds, limit=FOUND),
        people=people(session, clients, PersonFilters(q=q), limit=FOUND),
    )


def statuses() -> tuple[str, ...]:
    """What a person can be."""
    return CONTACT_STATUSES


def _asked(client_id: int | None, clients: Collection[int] | None) -> Collection[int] | None:
    """The clients that count when one of them is asked for."""
    if client_id is None:
        return clients
    return {client_id} if clients is None or client_id in clients else set()


def _at(model: type[Any], client_id: int | None, clients: Collection[int] | None) -> Any:
    asked = _asked(client_id, clients)
    # One client is told as such, so that the list comes in order from the client's index.
    return (
        col(model.client_id) == next(iter(asked)) if asked and len(asked) == 1 else among(col(model.client_id), asked)
    )


def _nodes(
    session: Session, model: type[Any], query: Select[Any], clients: Collection[int] | None, q: str, after: str | None,
    limit: int,
) -> Page[Node]:  # fmt: skip
    order = Order(col(model.name), key(model))
    if q:
        query, found = matching(session, query, model, q, clients)
        order = Order(found)
    rows, following = take(session, query, order, after=after, limit=limit)
    return Page(items=_as_nodes(session, model, [row[0] for row in rows]), next=following)


def _as_nodes(session: Session, model: type[Any], found: Sequence[Client | Location]) -> list[Node]:
    form = Form.CLIENT if model is Client else Form.LOCATION
    ids = [place_id(place) for place in found]
    fields = FieldSets(session)
    flagged, excluded = (_ticked(session, fields, form, name, ids) for name in (OFFBOARD[form], EXCLUDE))
    return [
        Node(
            kind="client" if form is Form.CLIENT else "location", id=place_id(p), client_id=p.client_id or 0, name=p.name,
            external_id=p.external_id, flagged=place_id(p) in flagged, excluded=place_id(p) in excluded,
        )
        for p in found
    ]  # fmt: skip


def _ticked(session: Session, fields: FieldSets, form: Form, name: str, ids: Sequence[int]) -> set[int]:
    """Those of the places whose checkbox counts as set."""
    own = dict(
        session.exec(
            select(ExtraFieldData.id, ExtraFieldData.value).where(
                and_(col(ExtraFieldData.extra_field_id) == fields.ids[form, name], col(ExtraFieldData.id).in_(ids))
            )
        ).all()
    )
    default = fields.defaults.get((form, name), "0")
    return {i for i in ids if own.get(i, default) != "0"}


def _names(session: Session, model: type[Any], ids: Iterable[int]) -> dict[int, str]:
    wanted = set(ids)
    assert model in MODELS.values()
    return {
        row[0]: row[1] for row in session.execute(select(key(model), col(model.name)).where(key(model).in_(wanted)))
    }
