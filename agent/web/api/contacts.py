"""Contacts: people at clients."""

from __future__ import annotations

from typing import Literal

from fastapi import Query
from pydantic import Field

from agent.access.principal import Permission
from agent.inventory import places, removal
from agent.model.places import Client, Contact, Location
from agent.web.api.common import (
    MOST_ID,
    USUAL,
    After,
    Answer,
    Body,
    ClientId,
    Done,
    Id,
    Limit,
    Search,
    api_router,
    place_for,
    seen_client,
)  # fmt: skip
from agent.web.asking import Here, Who
from agent.web.reads import places as reads
from agent.web.reads.paging import Page

router = api_router("inventory")
Status = Literal["Active", "On Leave", "Offboarding", "Terminated", "Inactive", "Former Employee"]
TerminationType = Literal["", "voluntary", "involuntary", "retirement", "contract_end"]
_DATE = r"^(\d{4}-\d{2}-\d{2})?$"


class ContactOut(Answer):
    """A person at a client."""

    contact_id: int
    client_id: int
    location_id: int | None
    external_id: str
    name: str
    first_name: str
    last_name: str
    email: str
    upn: str
    employee_id: str
    department: str
    job_title: str
    manager_id: int | None
    manager_email: str
    status: str
    start_date: str | None
    termination_date: str | None
    termination_type: str
    last_working_day: str | None
    reason_for_leaving: str
    legal_hold: bool
    is_privileged: bool
    timezone: str


class ContactAttributes(Body):
    """What may be said of a person."""

    external_id: str | None = Field(None, min_length=1, max_length=200)
    first_name: str | None = Field(None, max_length=200)
    last_name: str | None = Field(None, max_length=200)
    email: str | None = Field(None, max_length=320)
    upn: str | None = Field(None, max_length=320)
    employee_id: str | None = Field(None, max_length=200)
    department: str | None = Field(None, max_length=200)
    job_title: str | None = Field(None, max_length=200)
    manager_email: str | None = Field(None, max_length=320)
    status: Status | None = None
    start_date: str | None = Field(None, pattern=_DATE, description="YYYY-MM-DD, or empty")
    termination_date: str | None = Field(None, pattern=_DATE, description="YYYY-MM-DD, or empty")
    termination_type: TerminationType | None = None
    last_working_day: str | None = Field(None, pattern=_DATE, description="YYYY-MM-DD, or empty")
    reason_for_leaving: str | None = Field(None, max_length=2000)
    legal_hold: bool | None = Field(None, description="Nothing of this person may be deleted")
    is_privileged: bool | None = Field(None, description="An offboarding waits for an approval")
    timezone: str | None = Field(None, max_length=64, description="IANA name; empty: UTC")


class ContactIn(ContactAttributes):
    """A new contact."""

    client_id: int = Field(ge=1, le=MOST_ID)
    location_id: int | None = Field(None, ge=1, le=MOST_ID)
    name: str = Field(min_length=1, max_length=200, examples=["Ada Byron"])


class ContactChange(ContactAttributes):
    """What is given is changed, the rest stays."""

    name: str | None = Field(None, min_length=1, max_length=200)


@router.get("/contacts")
def list_contacts(
    here: Here, who: Who, client_id: ClientId = None, search: Search = None, status: Status | None = None,
    email: str | None = Query(None, max_length=320), after: After = None, limit: Limit = USUAL,
) -> Page[ContactOut]:  # fmt: skip
    """Contacts by id."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        found = reads.contacts(
            session, who.clients(), client_id=client_id, search=search, status=status, email=email, after=after,
            limit=limit,
        )  # fmt: skip
        return Page(items=[ContactOut.model_validate(c) for c in found.items], next=found.next)


@router.post("/contacts", status_code=201)
def add_contact(here: Here, who: Who, body: ContactIn) -> ContactOut:
    """Add a person at a client."""
    values = body.model_dump(exclude_unset=True, exclude_none=True)
    with here.database.session() as session:
        place_for(session, who, Client, body.client_id, Permission.OPERATE)
        if body.location_id is not None:
            place_for(session, who, Location, body.location_id, Permission.OPERATE)
        return ContactOut.model_validate(places.add_contact(session, actor=who.name, **values))


@router.get("/contacts/{contact_id}")
def show_contact(here: Here, who: Who, contact_id: Id) -> ContactOut:
    """One person."""
    with here.database.reading() as session:
        return ContactOut.model_validate(place_for(session, who, Contact, contact_id))


@router.patch("/contacts/{contact_id}")
def change_contact(here: Here, who: Who, contact_id: Id, body: ContactChange) -> ContactOut:
    """Change columns of a person's record; old and new values go into the audit trail."""
    with here.database.session() as session:
        found = place_for(session, who, Contact, contact_id, Permission.OPERATE)
        places.change(session, found, actor=who.name, **body.model_dump(exclude_unset=True, exclude_none=True))
        return ContactOut.model_validate(found)


@router.delete("/contacts/{contact_id}")
def remove_contact(here: Here, who: Who, contact_id: Id) -> Done:
    """Remove a person that was added by mistake: nothing hangs on it, it has no history."""
    with here.database.session() as session:
        found = place_for(session, who, Contact, contact_id, Permission.OPERATE)
        gone = removal.remove(here, session, found, actor=who.name)
    return Done(done=f"contact {gone.id} is removed: {gone.path}")
