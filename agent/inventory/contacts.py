"""People: who is whose manager, who can be given something, what they must give back, when a date has come for them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import Conflict, NotFound, UsageError
from agent.inventory.columns import read_time
from agent.inventory.lookup import find, get, place_id
from agent.model.base import new_id, utcnow
from agent.model.places import EQUIPMENT_STATES, Client, Contact, Equipment, Location

#: Who has left gets nothing any more.
GONE = ("Terminated", "Inactive", "Former Employee")
#: A bare date has begun everywhere on earth at this time (UTC); before it, it would be yesterday for some.
DAY_HAS_BEGUN = time(12, 0, tzinfo=UTC)


def find_person(session: Session, client_id: int | None, reference: str) -> Contact:
    """The contact that an e-mail address, id, external id or name means; with a client only one of its contacts.

    Raises NotFound or Conflict.
    """
    if client_id is not None and "@" in reference:
        query = select(Contact).where(Contact.client_id == client_id)
        found = session.exec(query.where(col(Contact.email).in_((reference, reference.lower()))).limit(2)).all()
        if not found:
            found = session.exec(query.where(col(Contact.upn).in_((reference, reference.lower()))).limit(2)).all()
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound(f"the client has no contact with the address {reference!r}: import or add the person first")
        ids = ", ".join(f"id:{c.contact_id}" for c in found)
        raise Conflict(f"the client has several contacts with the address {reference!r}: name one of {ids}, ...")
    person = find(session, Contact, reference)
    if client_id is not None and person.client_id != client_id:
        # Whose contact it is stays unsaid: who asks may not be allowed to know.
        raise NotFound(f"{reference!r} is no contact of this client")
    return person


def manager_address(session: Session, contact: Contact) -> str | None:
    """Address of the contact's manager: that of the contact who is, else the one on record."""
    manager = session.get(Contact, contact.manager_id) if contact.manager_id is not None else None
    return (manager.email if manager else "") or contact.manager_email.lower() or None


def same_client(session: Session, contact_id: int, client_id: int) -> None:
    """Raises Conflict when a person belongs to another client than at the time of what is gone back to.

    What was kept of one client's accounts is nothing for the systems of another one.
    """
    contact = session.get(Contact, contact_id)
    if contact is not None and contact.client_id != client_id:
        was = session.get(Client, client_id)
        raise Conflict(
            f"{contact.name} was moved to another client since: move the person back to "
            f"{was.name if was else f'client {client_id}'} first"
        )


def not_there(session: Session, client_id: int, addresses: Collection[str]) -> dict[str, str]:
    """Addresses that nothing can be given to, with the reason: no contact of the client, or gone."""
    query = select(Contact).where(Contact.client_id == client_id, col(Contact.email).in_(set(addresses)))
    known: dict[str, list[Contact]] = {}
    for contact in session.exec(query):
        known.setdefault(contact.email, []).append(contact)
    reasons: dict[str, str] = {}
    for address in addresses:
        contacts = known.get(address, [])
        if not contacts:
            reasons[address] = "is no contact of the client"
        elif all(contact.status in GONE for contact in contacts):
            reasons[address] = f"belongs to somebody who is {contacts[0].status}"
    return reasons


def moment_of(text: str, timezone: str) -> datetime | None:
    """A date with a time -> UTC; a bare date -> None, since it follows the termination date.

    Without an offset the time is meant in `timezone` (IANA; empty: UTC). Raises UsageError.
    """
    if len(text) <= 10:
        return None
    try:
        naive = datetime.fromisoformat(text)
        if naive.tzinfo is None:
            return naive.replace(tzinfo=ZoneInfo(timezone or "UTC")).astimezone(UTC)
        return read_time(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time: write 2026-01-31T17:00, with Z or an offset if you mean one") from error


def day_begins(day: str) -> datetime:
    """When a bare date (YYYY-MM-DD) has begun everywhere, in UTC."""
    return datetime.combine(date.fromisoformat(day), DAY_HAS_BEGUN)


def move(session: Session, contact: Contact, location_id: int, *, actor: str) -> None:
    """Put a person at another location of the same client. Raises NotFound, Conflict for another client's location.

    Whoever works for another client is another contact there: accounts and history stay with the client.
    """
    target = get(session, Location, location_id)
    if target.client_id != contact.client_id:
        raise Conflict(f"{contact.name} stays with the client: add the person anew at the other one")
    old = contact.location_id
    if old == location_id:
        return
    contact.location_id = location_id
    session.add(contact)
    session.flush()
    audit.record(
        session, actor=actor, action="contact.move", object_kind="contact", object_id=place_id(contact),
        client_id=contact.client_id, details={"old": {"location_id": old}, "new": {"location_id": location_id}},
    )  # fmt: skip


# --- equipment


def assign(
    session: Session, contact: Contact, name: str, *, actor: str, kind: str = "", serial: str = "", asset_tag: str = "",
    due: str | None = None, value: str = "", quantity: int = 1, external_id: str | None = None,
) -> Equipment:  # fmt: skip
    """Note that a person has something."""
    item = Equipment(
        contact_id=place_id(contact), external_id=external_id or new_id(), name=name, kind=kind, serial=serial,
        asset_tag=asset_tag, due=due, value=value, quantity=quantity,
    )  # fmt: skip
    session.add(item)
    session.flush()
    _record(session, item, contact, "equipment.assign", actor, {"name": name, "serial": serial})
    return item


def give_back(session: Session, equipment_id: int, state: str, *, actor: str, note: str = "") -> Equipment:
    """Note that something was returned, is missing, or came back damaged. Raises NotFound, UsageError."""
    item = session.get(Equipment, equipment_id)
    if item is None:
        raise NotFound(f"there is no equipment {equipment_id}")
    if state not in EQUIPMENT_STATES:
        raise UsageError(f"{state!r} is no state of equipment: {', '.join(EQUIPMENT_STATES)}")
    contact = session.get(Contact, item.contact_id)
    assert contact is not None
    old, item.state, item.note = item.state, state, note or item.note
    item.returned_at = utcnow() if state in ("returned", "damaged") else None
    session.add(item)
    session.flush()
    _record(session, item, contact, "equipment.state", actor, {"old": old, "new": state, "note": note})
    return item


def equipment_of(session: Session, *, contact_id: int | None = None, client_id: int | None = None) -> list[Equipment]:
    """What a person has or had, or all people of a client, by person and name."""
    query = select(Equipment).order_by(col(Equipment.contact_id), col(Equipment.name), col(Equipment.equipment_id))
    if contact_id is not None:
        query = query.where(Equipment.contact_id == contact_id)
    if client_id is not None:
        persons = select(Contact.contact_id).where(Contact.client_id == client_id)
        query = query.where(col(Equipment.contact_id).in_(persons))
    return list(session.exec(query))


def _record(
    session: Session, item: Equipment, contact: Contact, action: str, actor: str, details: dict[str, str]
) -> None:
    audit.record(
        session, actor=actor, action=action, object_kind="equipment", object_id=item.equipment_id or 0,
        client_id=contact.client_id, details={"contact": contact.name, **details},
    )  # fmt: skip
