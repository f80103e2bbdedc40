"""What signed messages of other systems may ask for: HR changes people and plans offboardings, the PSA answers tickets.

A message and what it asks for are one transaction: it is carried out once, or refused and may be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlmodel import Session, col, select

from agent.errors import NotFound, UsageError
from agent.installation import Installation
from agent.inventory import places
from agent.inventory.contacts import find_person
from agent.inventory.lookup import place_id
from agent.model.base import utcnow
from agent.model.places import Contact
from agent.model.tickets import Ticket
from agent.model.webhooks import WebhookSource
from agent.running import user_offboardings
from agent.services import tickets, webhooks


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", str_max_length=20_000, str_strip_whitespace=True)


class Message(_Model):
    """What every message has. `id` is made by the sender: the same one is taken once."""

    id: str = Field(min_length=1, max_length=200)


class PersonChange(_Model):
    """What HR knows of a person; what is left out stays."""

    status: Literal["Active", "On Leave", "Offboarding", "Terminated", "Inactive", "Former Employee"] | None = None
    termination_date: str | None = Field(None, description="YYYY-MM-DD, or empty to take it back")
    termination_type: Literal["", "voluntary", "involuntary", "retirement", "contract_end"] | None = None
    last_working_day: str | None = None
    reason_for_leaving: str | None = None
    manager_email: str | None = None
    department: str | None = None
    job_title: str | None = None


class ContactChanged(Message):
    """A person's record changed; the monitors see to the rest."""

    type: Literal["contact.changed"]
    person: str = Field(min_length=1, max_length=320, description="E-mail address, or `external:` and the external id")
    changes: PersonChange


class OffboardingRequested(Message):
    """A person shall be offboarded."""

    type: Literal["offboarding.requested"]
    person: str = Field(min_length=1, max_length=320, description="E-mail address, or `external:` and the external id")
    inputs: dict[str, str | int | bool | list[str]] = Field(
        default_factory=dict, description="As for POST /offboardings"
    )
    at: str | None = Field(None, max_length=40, description="2030-01-31 or 2030-01-31T17:00")
    template: str | None = None
    replace: bool = False


class _OfTicket(Message):
    ticket_id: int | None = Field(None, ge=1, le=2**31 - 1)
    external_id: str | None = Field(None, max_length=200, description="The ticket's id in the PSA")


class TicketCommented(_OfTicket):
    """Somebody remarked on a ticket."""

    type: Literal["ticket.commented"]
    author: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1)


class TicketClosed(_OfTicket):
    """A ticket was closed."""

    type: Literal["ticket.closed"]
    author: str = Field(min_length=1, max_length=200)
    comment: str | None = None


Hr = Annotated[ContactChanged | OffboardingRequested, Field(discriminator="type")]
Psa = Annotated[TicketCommented | TicketClosed, Field(discriminator="type")]
AnyMessage = Annotated[
    ContactChanged | OffboardingRequested | TicketCommented | TicketClosed, Field(discriminator="type")
]
_KINDS: dict[str, TypeAdapter[Any]] = {"hr": TypeAdapter(Hr), "psa": TypeAdapter(Psa)}


class MessageFaults(UsageError):
    """A message is not as it must be. Carries what is wrong where."""

    def __init__(self, faults: list[dict[str, Any]]) -> None:
        self.faults = faults
        super().__init__(f"{len(faults)} value(s) of the message are not as they must be")


def take(installation: Installation, source_id: str, signature: str, body: bytes) -> dict[str, Any]:
    """Carry out a signed message, once. Returns what came of it.

    Raises NotSignedIn, MessageFaults, Conflict for one that was taken before, and what the act itself raises.
    """
    source = webhooks.verify(installation, source_id, signature, body)
    message = _read(source, body)
    with installation.database.session() as session:
        receipt = webhooks.take_in(session, source, message.id)
        outcome = _carry_out(session, source, message)
        receipt.outcome = outcome
        session.add(receipt)
    return outcome


def _read(source: WebhookSource, body: bytes) -> Message:
    try:
        found: Message = _KINDS[source.kind].validate_json(body)
    except ValidationError as error:
        faults = [
            {"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors(include_input=False)
        ]
        raise MessageFaults(faults) from None
    return found


def _carry_out(session: Session, source: WebhookSource, message: Message) -> dict[str, Any]:
    actor = f"webhook:{source.name}"
    if isinstance(message, ContactChanged):
        return _change(session, source, message, actor)
    if isinstance(message, OffboardingRequested):
        return _plan(session, source, message, actor)
    assert isinstance(message, _OfTicket)
    ticket = _ticket(session, source, message)
    assert ticket.id is not None
    if isinstance(message, TicketCommented):
        text = f"{message.author}: {message.text}"
        tickets.add_comment(session, ticket.id, author=actor, text=text, origin=f"{source.id}:{message.id}")
        return {"ticket_id": ticket.id, "done": "commented"}
    assert isinstance(message, TicketClosed)
    comment = f"{message.author}: {message.comment}" if message.comment else None
    if ticket.closed_at is None:
        tickets.close(session, ticket.id, author=actor, comment=comment)
    return {"ticket_id": ticket.id, "done": "closed"}


def _change(session: Session, source: WebhookSource, message: ContactChanged, actor: str) -> dict[str, Any]:
    contact = _person(session, source, message.person)
    changes: Mapping[str, Any] = message.changes.model_dump(exclude_unset=True, exclude_none=True)
    if not changes:
        raise UsageError("the message changes nothing: say what is new of the person in `changes`")
    places.change(session, contact, actor=actor, **changes)
    return {"contact_id": place_id(contact), "done": "changed"}


def _plan(session: Session, source: WebhookSource, message: OffboardingRequested, actor: str) -> dict[str, Any]:
    contact = _person(session, source, message.person)
    given = {n: ", ".join(v) if isinstance(v, list) else v for n, v in message.inputs.items()}
    request = user_offboardings.Request(
        f"id:{place_id(contact)}", f"id:{source.client_id}", given, message.template, message.at
    )
    found = user_offboardings.plan(session, request, actor=actor, replace=message.replace)
    if found.begins_now:
        # Due at once: the monitor's next scan finds it.
        found.row.scheduled_for = found.row.scheduled_for or utcnow()
        session.add(found.row)
    return {"offboarding_id": found.row.id, "contact_id": place_id(contact), "done": "planned"}


def _person(session: Session, source: WebhookSource, reference: str) -> Contact:
    if reference.startswith("external:"):
        query = select(Contact).where(Contact.client_id == source.client_id)
        found = session.exec(query.where(Contact.external_id == reference.removeprefix("external:"))).first()
        if found is None:
            raise NotFound(f"the client has no contact with the external id {reference.removeprefix('external:')!r}")
        return found
    if "@" not in reference:
        raise UsageError("`person` is an e-mail address, or `external:` and the external id")
    return find_person(session, source.client_id, reference)


def _ticket(session: Session, source: WebhookSource, message: _OfTicket) -> Ticket:
    if (message.ticket_id is None) == (message.external_id is None):
        raise UsageError("a ticket is named by either ticket_id or external_id")
    query = select(Ticket).where(Ticket.client_id == source.client_id)
    if message.ticket_id is not None:
        query = query.where(Ticket.id == message.ticket_id)
    else:
        query = query.where(Ticket.external_id == message.external_id).order_by(col(Ticket.id).desc())
    found = session.exec(query).first()
    if found is None:
        raise NotFound("the client has no such ticket")
    return found
