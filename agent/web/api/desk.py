"""What people work through: tickets, tasks, equipment, mail."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field, field_validator
from sqlmodel import Session

from agent import audit
from agent.access.principal import Permission, Principal
from agent.errors import NotFound
from agent.inventory import contacts
from agent.inventory.columns import checked
from agent.model.base import utcnow
from agent.model.contacts import ManualTask
from agent.model.places import Client, Contact, Equipment
from agent.model.tickets import Notification, Ticket
from agent.secrets import is_token
from agent.services import mail, manual_tasks, tickets
from agent.web.api.common import (
    MOST_ID,
    USUAL,
    After,
    Answer,
    Body,
    ClientId,
    Id,
    Limit,
    api_router,
    place_for,
    record_for,
    seen_client,
)  # fmt: skip
from agent.web.asking import Here, Who
from agent.web.reads import desk
from agent.web.reads.paging import Page

router = api_router("desk")
OneId = Annotated[int | None, Query(ge=1, le=MOST_ID)]
RunId = Annotated[str | None, Query(pattern="^[0-9a-f]{16}$", description="Only of this run")]
EquipmentState = Literal["assigned", "returned", "missing", "damaged"]
Matter = Literal[manual_tasks.MATTERS]  # type: ignore[valid-type]
_DATE = r"^\d{4}-\d{2}-\d{2}$"


class TicketOut(Answer):
    """A ticket."""

    id: int
    client_id: int
    location_id: int | None
    computer_id: int | None
    contact_id: int | None
    run_id: str | None
    subject: str
    body: str
    category: str | None
    priority: str | None
    status: str
    external_id: str | None
    created_at: datetime
    created_by: str
    closed_at: datetime | None


class CommentOut(Answer):
    """A later result or remark on a ticket."""

    id: int
    run_id: str | None
    author: str
    text: str
    created_at: datetime


class TicketDetail(TicketOut):
    """A ticket with its comments, the oldest first."""

    comments: list[CommentOut]


class Comment(Body):
    """A remark."""

    text: str = Field(min_length=1, max_length=20_000)


class Closing(Body):
    """A last remark, if there is one."""

    comment: str | None = Field(None, min_length=1, max_length=20_000)


class TaskOut(Answer):
    """Something that a person must do because no system can."""

    id: int
    client_id: int
    contact_id: int | None
    run_id: str | None
    matter: str
    title: str
    description: str
    owner: str
    due: str | None
    state: str
    note: str
    blocks_deletion: bool
    created_at: datetime
    created_by: str
    closed_at: datetime | None
    closed_by: str | None


class TaskIn(Body):
    """A new task."""

    client_id: int = Field(ge=1, le=MOST_ID)
    contact_id: int | None = Field(None, ge=1, le=MOST_ID)
    title: str = Field(min_length=1, max_length=500, examples=["Collect the keys"])
    description: str = ""
    matter: Matter = "other"
    owner: str = Field("", max_length=200)
    due: str | None = Field(None, pattern=_DATE)
    blocks_deletion: bool = Field(False, description="No account of the person is deleted before it is done")


class TaskEnd(Body):
    """What was done, or why it is not needed."""

    note: str = Field("", max_length=20_000)


class EquipmentOut(Answer):
    """Something that a person has and must give back."""

    equipment_id: int
    contact_id: int
    external_id: str
    name: str
    kind: str
    serial: str
    asset_tag: str
    quantity: int
    state: str
    due: str | None
    returned_at: datetime | None
    value: str
    note: str


class EquipmentIn(Body):
    """What a person has."""

    contact_id: int = Field(ge=1, le=MOST_ID)
    name: str = Field(min_length=1, max_length=200, examples=["Dell Latitude 7450"])
    kind: str = Field("", max_length=200, examples=["laptop"])
    serial: str = Field("", max_length=200)
    asset_tag: str = Field("", max_length=200)
    quantity: int = Field(1, ge=1, le=100_000)
    due: str = Field("", max_length=10, description="To be given back until YYYY-MM-DD")
    value: str = Field("", max_length=20, description="What it is worth, such as 1200.50")


class EquipmentChange(Body):
    """What became of it."""

    state: EquipmentState
    note: str = Field("", max_length=2000)


class MailOut(Answer):
    """A mail, from before it is sent until it is delivered or kept as failed."""

    id: int
    client_id: int | None
    run_id: str | None
    sender: str | None
    recipient: str
    cc: str
    subject: str
    body: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    error: str | None
    created_at: datetime
    sent_at: datetime | None
    failed_at: datetime | None

    @field_validator("body")
    @classmethod
    def _without_secret(cls, value: str) -> str:
        # A link to set a password, which only its receiver may use.
        return "(it holds a secret)" if is_token(value) else value


class Resend(Body):
    """To whom."""

    recipient: str | None = Field(None, min_length=3, max_length=1000, description="Another recipient")


@router.get("/tickets")
def list_tickets(
    here: Here, who: Who, client_id: ClientId = None, computer_id: OneId = None, contact_id: OneId = None,
    run_id: RunId = None, status: Literal["open", "closed"] | None = None, after: After = None, limit: Limit = USUAL,
) -> Page[TicketOut]:  # fmt: skip
    """Tickets, the newest first."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        found = desk.tickets(
            session, who.clients(), after=after, limit=limit, client_id=client_id, computer_id=computer_id,
            contact_id=contact_id, run_id=run_id, status=status,
        )  # fmt: skip
        return Page(items=[TicketOut.model_validate(t) for t in found.items], next=found.next)


@router.get("/tickets/{ticket_id}")
def show_ticket(here: Here, who: Who, ticket_id: Id) -> TicketDetail:
    """A ticket with its comments."""
    with here.database.reading() as session:
        record_for(session, who, Ticket, ticket_id)
        return _ticket(session, ticket_id)


def _ticket(session: Session, ticket_id: int) -> TicketDetail:
    found = tickets.show(session, ticket_id)
    comments = [CommentOut.model_validate(c) for c in found.comments]
    return TicketDetail(**TicketOut.model_validate(found.ticket).model_dump(), comments=comments)


@router.post("/tickets/{ticket_id}/comments", status_code=201)
def comment_ticket(here: Here, who: Who, ticket_id: Id, body: Comment) -> CommentOut:
    """Add a comment to a ticket; a closed one can still be commented."""
    with here.database.session() as session:
        record_for(session, who, Ticket, ticket_id, Permission.OPERATE)
        return CommentOut.model_validate(tickets.add_comment(session, ticket_id, author=who.name, text=body.text))


@router.post("/tickets/{ticket_id}/close")
def close_ticket(here: Here, who: Who, ticket_id: Id, body: Closing) -> TicketDetail:
    """Close a ticket."""
    with here.database.session() as session:
        record_for(session, who, Ticket, ticket_id, Permission.OPERATE)
        tickets.close(session, ticket_id, author=who.name, comment=body.comment)
        session.flush()
        return _ticket(session, ticket_id)


@router.get("/tasks")
def list_tasks(
    here: Here, who: Who, client_id: ClientId = None, contact_id: OneId = None, run_id: RunId = None,
    state: Literal["open", "done", "cancelled"] | None = None,
    overdue: Annotated[bool, Query(description="Only open ones whose day is over")] = False, after: After = None,
    limit: Limit = USUAL,
) -> Page[TaskOut]:  # fmt: skip
    """Tasks for people, the newest first."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        found = desk.tasks(
            session, who.clients(), overdue_on=here.settings.day_of(utcnow()) if overdue else None, after=after,
            limit=limit, client_id=client_id, contact_id=contact_id, run_id=run_id, state=state,
        )  # fmt: skip
        return Page(items=[TaskOut.model_validate(t) for t in found.items], next=found.next)


@router.post("/tasks", status_code=201)
def add_task(here: Here, who: Who, body: TaskIn) -> TaskOut:
    """Add a task for people."""
    with here.database.session() as session:
        place_for(session, who, Client, body.client_id, Permission.OPERATE)
        if body.contact_id is not None:
            _contact(session, who, body.contact_id, body.client_id)
        return TaskOut.model_validate(manual_tasks.create(session, author=who.name, **body.model_dump()))


@router.get("/tasks/{task_id}")
def show_task(here: Here, who: Who, task_id: Id) -> TaskOut:
    """One task."""
    with here.database.reading() as session:
        return TaskOut.model_validate(record_for(session, who, ManualTask, task_id))


@router.post("/tasks/{task_id}/done")
def finish_task(here: Here, who: Who, task_id: Id, body: TaskEnd) -> TaskOut:
    """Note that a task is done."""
    return _close_task(here, who, task_id, body.note, "done")


@router.post("/tasks/{task_id}/cancel")
def cancel_task(here: Here, who: Who, task_id: Id, body: TaskEnd) -> TaskOut:
    """Note that a task is not needed; one that a deletion waits for cannot be cancelled."""
    return _close_task(here, who, task_id, body.note, "cancelled")


def _close_task(here: Here, who: Principal, task_id: int, note: str, state: str) -> TaskOut:
    with here.database.session() as session:
        record_for(session, who, ManualTask, task_id, Permission.OPERATE)
        return TaskOut.model_validate(manual_tasks.close(session, task_id, actor=who.name, note=note, state=state))


@router.get("/equipment")
def list_equipment(
    here: Here, who: Who, client_id: ClientId = None, contact_id: OneId = None, state: EquipmentState | None = None,
    after: After = None, limit: Limit = USUAL,
) -> Page[EquipmentOut]:  # fmt: skip
    """What people have or had, by id."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        found = desk.equipment(
            session, who.clients(), client_id=client_id, contact_id=contact_id, state=state, after=after, limit=limit
        )
        return Page(items=[EquipmentOut.model_validate(e) for e in found.items], next=found.next)


@router.post("/equipment", status_code=201)
def assign_equipment(here: Here, who: Who, body: EquipmentIn) -> EquipmentOut:
    """Note that a person has something."""
    values: dict[str, Any] = checked(Equipment, {n: str(v) for n, v in body.model_dump(exclude={"contact_id"}).items()})
    with here.database.session() as session:
        person = place_for(session, who, Contact, body.contact_id, Permission.OPERATE)
        made = contacts.assign(session, person, values.pop("name"), actor=who.name, **values)
        return EquipmentOut.model_validate(made)


@router.patch("/equipment/{equipment_id}")
def change_equipment(here: Here, who: Who, equipment_id: Id, body: EquipmentChange) -> EquipmentOut:
    """Note that something was returned, is missing, or came back damaged."""
    with here.database.session() as session:
        found = session.get(Equipment, equipment_id)
        person = session.get(Contact, found.contact_id) if found is not None else None
        if person is None or not who.can(Permission.SEE, person.client_id):
            raise NotFound(f"there is no equipment {equipment_id}")
        who.require(Permission.OPERATE, person.client_id)
        item = contacts.give_back(session, equipment_id, body.state, actor=who.name, note=body.note)
        return EquipmentOut.model_validate(item)


@router.get("/notifications")
def list_mail(
    here: Here, who: Who, client_id: ClientId = None,
    state: Literal["sending", "sent", "failed", "unknown"] | None = None, after: After = None, limit: Limit = USUAL,
) -> Page[MailOut]:  # fmt: skip
    """Mail, the newest first, with the error of what could not be sent."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        found = desk.mail(session, who.clients(), after=after, limit=limit, client_id=client_id, state=state)
        return Page(items=[MailOut.model_validate(m) for m in found.items], next=found.next)


@router.get("/notifications/{mail_id}")
def show_mail(here: Here, who: Who, mail_id: Id) -> MailOut:
    """One mail with its text."""
    with here.database.reading() as session:
        return MailOut.model_validate(record_for(session, who, Notification, mail_id))


@router.post("/notifications/{mail_id}/resend")
def resend_mail(here: Here, who: Who, mail_id: Id, body: Resend) -> MailOut:
    """Queue a failed mail again; a worker sends it. What may have arrived is sent a second time on your word only."""
    with here.database.session() as session:
        found = record_for(session, who, Notification, mail_id, Permission.OPERATE)
        if body.recipient not in (None, found.recipient) and is_token(found.body):
            # Whoever gets it gets an account: no technician sends that to somebody of their choice.
            who.require(Permission.ADMINISTER, found.client_id)
        details = {"recipient": body.recipient, "old": found.recipient}
        audit.record(
            session, actor=who.name, action="mail.resend", object_kind="mail", object_id=str(mail_id),
            client_id=found.client_id, details=details,
        )  # fmt: skip
        return MailOut.model_validate(mail.resend(session, mail_id, recipient=body.recipient))


def _contact(session: Session, who: Principal, contact_id: int, client_id: int) -> None:
    found = place_for(session, who, Contact, contact_id)
    if found.client_id != client_id:
        raise NotFound(f"there is no contact {contact_id} of this client")
