"""What one place's page tells: its facts, its history, and the audit trail's entries about it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Select, or_
from sqlmodel import Session, col, select

from agent.inventory import groups
from agent.inventory.columns import COLUMNS
from agent.inventory.lookup import Place, get, place_id, word
from agent.inventory.places import online
from agent.model.administration import AuditEntry, Credential
from agent.model.contacts import ContactOffboarding
from agent.model.places import AgentComputerData, Client, Computer, Contact, Location
from agent.model.tickets import Ticket
from agent.web.reads.paging import Order, Page, among, take

#: Columns that a page shows by itself or not at all.
_ELSEWHERE = {
    "name",
    "last_contact",
    "transport_options",
    "external_ids",
    "retired_at",
    "credential_id",
    "is_server",
    "is_probe",
}
_WORDS = {"os": "operating system", "upn": "user principal name", "external_id": "external id", "user_name": "user"}


class Fact(BaseModel):
    """One line. `address`: where the thing has its page; `at`: a time instead of a text."""

    label: str
    text: str = ""
    address: str | None = None
    at: datetime | None = None


class AuditRow(BaseModel):
    """An entry of the audit trail."""

    sequence: int
    at: datetime
    actor: str
    action: str
    details: dict[str, Any]


class TicketRow(BaseModel):
    """A ticket about the place."""

    id: int
    subject: str
    status: str
    created_at: datetime


def crumbs(session: Session, place: Place) -> list[tuple[str, str]]:
    """The places around, with their addresses."""
    found = [("Inventory", "/inventory")]
    if not isinstance(place, Client):
        found.append((get(session, Client, place.client_id).name, f"/clients/{place.client_id}"))
        if not isinstance(place, Location) and place.location_id is not None:
            found.append((get(session, Location, place.location_id).name, f"/locations/{place.location_id}"))
    return found


def facts(session: Session, place: Place, *, online_seconds: int, time_zone: str) -> list[Fact]:
    """What is known of a place; what is empty is left out. time_zone: in which a computer's hours are meant."""
    found: list[Fact] = []
    if isinstance(place, Computer):
        state = "retired" if place.retired_at else "online" if online(place, online_seconds) else "offline"
        kinds = [kind for kind in ("server", "probe") if getattr(place, f"is_{kind}")]
        found += [
            Fact(label="state", text=", ".join([state, *kinds])),
            Fact(label="last contact", at=place.last_contact),
        ]
        found += _computer_facts(session, place, time_zone)
    elif isinstance(place, Contact):
        found += _contact_facts(session, place)
    for name, column in COLUMNS[type(place)].items():
        if name in _ELSEWHERE or (isinstance(place, Contact) and name in ("manager_id", "manager_email", "status")):
            continue
        value = getattr(place, name)
        label = _WORDS.get(name, name.replace("_", " "))
        if isinstance(value, datetime):
            found.append(Fact(label=label, at=value))
        elif isinstance(value, bool):
            found += [Fact(label=label, text="yes")] if value else []
        elif text := column.show(value):
            found.append(Fact(label=label, text=text))
    return found


def _computer_facts(session: Session, computer: Computer, time_zone: str) -> list[Fact]:
    found = []
    if computer.retired_at is not None:
        found.append(Fact(label="retired", at=computer.retired_at))
    if computer.credential_id is not None:
        credential = session.get(Credential, computer.credential_id)
        found.append(
            Fact(label="credential", text=credential.name if credential else f"{computer.credential_id} (gone)")
        )
    if groups.in_maintenance(session, [place_id(computer)]):
        found.append(Fact(label="maintenance", text="now: nothing is dispatched to it"))
    hours = session.get(AgentComputerData, place_id(computer))
    if hours is not None and hours.no_alerts:
        found.append(Fact(label="alerts", text="none are allowed"))
    elif hours is not None and hours.up_time_start:
        found.append(Fact(label="alerts", text=f"only {hours.up_time_start} to {hours.up_time_end} {time_zone}"))
    return found


def _contact_facts(session: Session, contact: Contact) -> list[Fact]:
    manager = session.get(Contact, contact.manager_id) if contact.manager_id is not None else None
    found = []
    if manager is not None:
        found.append(Fact(label="manager", text=manager.name, address=f"/contacts/{place_id(manager)}"))
    elif contact.manager_email:
        found.append(Fact(label="manager", text=contact.manager_email))
    return [*found, *(Fact(label=f"id in {system}", text=str(i)) for system, i in sorted(contact.external_ids.items()))]


def audit_of(
    session: Session, place: Place, clients: Collection[int] | None, *, after: str | None = None, limit: int = 25
) -> Page[AuditRow]:  # fmt: skip
    """Entries about a place, newest first; not those from when it was another client's."""
    query: Select[Any] = select(AuditEntry).where(
        col(AuditEntry.object_kind) == word(type(place)), col(AuditEntry.object_id) == str(place_id(place)),
        or_(col(AuditEntry.client_id).is_(None), among(col(AuditEntry.client_id), clients)),
    )  # fmt: skip
    rows, following = take(session, query, Order(col(AuditEntry.sequence), descending=True), after=after, limit=limit)
    own = list(AuditRow.model_fields)
    return Page(items=[AuditRow(**{n: getattr(row[0], n) for n in own}) for row in rows], next=following)


def tickets_of(session: Session, place: Place, clients: Collection[int] | None, *, limit: int = 25) -> list[TicketRow]:
    """The newest tickets about a place."""
    column: Any = {
        Client: Ticket.client_id,
        Location: Ticket.location_id,
        Computer: Ticket.computer_id,
        Contact: Ticket.contact_id,
    }[type(place)]
    query = select(Ticket).where(col(column) == place_id(place), among(col(Ticket.client_id), clients))
    if isinstance(place, Location):
        # The client has an index, the location none.
        query = query.where(col(Ticket.client_id) == place.client_id)
    found = session.exec(query.order_by(col(Ticket.id).desc()).limit(limit))
    return [TicketRow(id=t.id or 0, subject=t.subject, status=t.status, created_at=t.created_at) for t in found]


def offboardings_of(session: Session, contact: Contact, clients: Collection[int] | None) -> list[ContactOffboarding]:
    """Planned and past offboardings of a person, newest first."""
    query = select(ContactOffboarding).where(
        col(ContactOffboarding.contact_id) == place_id(contact), col(ContactOffboarding.removed_at).is_(None),
        among(col(ContactOffboarding.client_id), clients),
    )  # fmt: skip
    return list(session.exec(query.order_by(col(ContactOffboarding.requested_at).desc()).limit(10)))
