"""Lists of locations, computers and contacts, kept to the clients that one may see; and whom a flag reaches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlmodel import Session, col, func, select

from agent.inventory import flags, lookup
from agent.inventory.lookup import place_id
from agent.inventory.places import online
from agent.inventory.search import matching
from agent.model.fields import Form
from agent.model.places import Computer, Contact, Location
from agent.web.reads.paging import LIMIT, Order, Page, among, take

T = TypeVar("T")
#: Computers that are named when a flag is set; the rest is counted.
NAMED = 100


class ComputerRow(BaseModel):
    """One computer as lists show it."""

    computer_id: int
    client_id: int
    location_id: int
    external_id: str
    name: str
    os: str
    platform: str
    domain: str
    user_name: str
    is_server: bool
    is_probe: bool
    online: bool
    last_contact: datetime | None
    booted_at: datetime | None
    retired_at: datetime | None
    transport: str
    address: str
    port: int | None
    credential_id: int | None
    #: Levels whose offboarding flag reaches it: client, location, computer.
    flagged_by: list[str]
    #: Levels on which it is excluded from offboarding.
    excluded_by: list[str]


class Reached(BaseModel):
    """A computer that the flag of a place reaches, and what keeps it from being offboarded now."""

    computer_id: int
    name: str
    location_id: int
    online: bool
    excluded_by: list[str]
    #: It is a server or a probe and is not opted in.
    needs_opt_in: bool


class Reach(BaseModel):
    """Whom the offboarding flag of a place reaches. `count` is all of them; `computers` are the first hundred."""

    count: int
    computers: list[Reached]


def locations(
    session: Session, clients: Collection[int] | None, *, client_id: int | None = None, search: str | None = None,
    after: str | None = None, limit: int = LIMIT,
) -> Page[Location]:  # fmt: skip
    """Locations by id."""
    query, order = _kept(session, Location, clients, client_id, search)
    rows, following = take(session, query, order, after=after, limit=limit)
    return Page(items=[r[0] for r in rows], next=following)


def contacts(
    session: Session, clients: Collection[int] | None, *, client_id: int | None = None, search: str | None = None,
    status: str | None = None, email: str | None = None, after: str | None = None, limit: int = LIMIT,
) -> Page[Contact]:  # fmt: skip
    """Contacts by id."""
    query, order = _kept(session, Contact, clients, client_id, search)
    if status is not None:
        query = query.where(col(Contact.status) == status)
    if email is not None:
        query = query.where(col(Contact.email).in_((email, email.lower())))
    rows, following = take(session, query, order, after=after, limit=limit)
    return Page(items=[r[0] for r in rows], next=following)


def computers(
    session: Session, clients: Collection[int] | None, *, online_seconds: int, client_id: int | None = None,
    location_id: int | None = None, search: str | None = None, retired: bool | None = False, after: str | None = None,
    limit: int = LIMIT,
) -> Page[ComputerRow]:  # fmt: skip
    """Computers by id. `retired`: False leaves the retired out, True lists only them, None lists all."""
    query, order = _kept(session, Computer, clients, client_id, search)
    if location_id is not None:
        query = query.where(col(Computer.location_id) == location_id)
    if retired is not None:
        query = query.where(col(Computer.retired_at).is_not(None) if retired else col(Computer.retired_at).is_(None))
    rows, following = take(session, query, order, after=after, limit=limit)
    return Page(items=computer_rows(session, [r[0] for r in rows], online_seconds), next=following)


def computer_rows(session: Session, found: Sequence[Computer], online_seconds: int) -> list[ComputerRow]:
    """Computers with what reaches them."""
    ids = [place_id(c) for c in found]
    flagged, excluded = flags.flags(session, ids), flags.levels_set(session, flags.EXCLUDE, ids)
    own = [n for n in ComputerRow.model_fields if n not in ("online", "flagged_by", "excluded_by")]
    return [
        ComputerRow(
            **{n: getattr(c, n) for n in own}, online=online(c, online_seconds),
            flagged_by=flagged.get(place_id(c), []), excluded_by=excluded.get(place_id(c), []),
        )
        for c in found
    ]  # fmt: skip


def reach(session: Session, form: Form, place: int, *, online_seconds: int) -> Reach:
    """The computers under a client or location, or the computer itself; retired ones are left out."""
    keys = {Form.CLIENT: Computer.client_id, Form.LOCATION: Computer.location_id, Form.COMPUTER: Computer.computer_id}
    if form not in keys:
        return Reach(count=0, computers=[])
    mine = (col(keys[form]) == place, col(Computer.retired_at).is_(None))
    count = session.scalar(select(func.count()).select_from(Computer).where(*mine)) or 0
    found = session.exec(select(Computer).where(*mine).order_by(col(Computer.computer_id)).limit(NAMED)).all()
    ids = [place_id(c) for c in found]
    excluded = flags.levels_set(session, flags.EXCLUDE, ids)
    servers = flags.levels_set(session, flags.ALLOW_SERVER, ids)
    probes = flags.levels_set(session, flags.ALLOW_PROBE, ids)
    return Reach(
        count=count,
        computers=[
            Reached(
                computer_id=i, name=c.name, location_id=c.location_id, online=online(c, online_seconds),
                excluded_by=excluded.get(i, []),
                needs_opt_in=(c.is_server and not servers.get(i)) or (c.is_probe and not probes.get(i)),
            )
            for i, c in zip(ids, found, strict=True)
        ],
    )  # fmt: skip


def _kept(
    session: Session, model: Any, clients: Collection[int] | None, client_id: int | None, search: str | None
) -> tuple[Any, Order]:
    """The places that one may see and asks for, and what they are ordered by: the id, or the index of words."""
    query: Any = select(model).where(among(col(model.client_id), clients))
    if client_id is not None:
        query = query.where(col(model.client_id) == client_id)
        clients = [client_id]
    if search:
        query, column = matching(session, query, model, search, clients)
        return query, Order(column)
    return query, Order(lookup.key(model))
