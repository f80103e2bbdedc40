"""Tickets: one open ticket per key; a later result for the same key becomes a comment (facts 6, CWA-27).

A `key` is made from meaning (`offboarding:computer:7`). An `origin` names what produced a ticket or comment (a run, a
step): the same origin adds nothing a second time, so a crash between a ticket and the end of its step leaves one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from agent.errors import ClientMismatch, Conflict, NotFound
from agent.model.base import utcnow
from agent.model.places import Computer, Contact, Location
from agent.model.tickets import Ticket, TicketComment
from agent.services import webhooks


class TicketWithComments(NamedTuple):
    """A ticket and its comments, oldest first."""

    ticket: Ticket
    comments: list[TicketComment]


def one_line(text: str) -> str:
    """Text without line breaks, control characters and runs of blanks: fit for a subject."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def storable(text: str) -> str:
    """Text as every database can keep it: PostgreSQL takes no NUL, and none takes half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "")


def open_or_comment(
    session: Session,
    *,
    key: str,
    client_id: int,
    location_id: int | None = None,
    computer_id: int | None = None,
    contact_id: int | None = None,
    run_id: str | None = None,
    origin: str | None = None,
    subject: str,
    body: str,
    comment: str | None = None,
    author: str,
    category: str | None = None,
    priority: str | None = None,
) -> Ticket:
    """Open a ticket, or comment the one that is open for `key` with `comment` (default: `body`).

    `origin` defaults to `run_id`. Raises ClientMismatch when a place, or the open ticket, belongs to another client.
    """
    origin = origin or run_id
    done = _of_origin(session, key, origin)
    if done is not None:
        return done
    _check_places(session, client_id, {Location: location_id, Computer: computer_id, Contact: contact_id})
    ticket = find_open(session, key)
    if ticket is None:
        new = Ticket(
            key=key, client_id=client_id, location_id=location_id, computer_id=computer_id, contact_id=contact_id,
            run_id=run_id, origin=origin, subject=one_line(subject), body=storable(body), category=category or None,
            priority=priority or None, created_by=author,
        )  # fmt: skip
        try:
            with session.begin_nested():
                session.add(new)
            _tell(session, new)
            return new
        except IntegrityError:
            # Another worker opened it between the question and the insertion.
            ticket = find_open(session, key)
            if ticket is None:
                raise
    if ticket.client_id != client_id:
        raise ClientMismatch(f"ticket {ticket.id} ({key}) belongs to client {ticket.client_id}, not {client_id}")
    assert ticket.id is not None
    add_comment(session, ticket.id, author=author, text=comment or body, run_id=run_id, origin=origin)
    return ticket


def _tell(session: Session, new: Ticket) -> None:
    told = ("id", "subject", "category", "priority", "computer_id", "contact_id", "run_id", "created_by")
    data = {name: getattr(new, name) for name in told}
    webhooks.enqueue(session, webhooks.TICKET_CREATED, f"{webhooks.TICKET_CREATED}:{new.id}", new.client_id, data)


def add_comment(
    session: Session,
    ticket_id: int,
    *,
    author: str,
    text: str,
    run_id: str | None = None,
    origin: str | None = None,
    client_id: int | None = None,
) -> TicketComment:
    """Add a comment; the same origin adds it once. A closed ticket can still be commented.

    Raises NotFound, and ClientMismatch when `client_id` is given and the ticket belongs to another client.
    """
    ticket = get(session, ticket_id, client_id=client_id)
    if origin is not None:
        known = session.exec(
            select(TicketComment).where(TicketComment.ticket_id == ticket.id, TicketComment.origin == origin)
        ).first()
        if known is not None:
            return known
    comment = TicketComment(ticket_id=ticket_id, run_id=run_id, origin=origin, author=author, text=storable(text))
    session.add(comment)
    session.flush()
    return comment


def close(session: Session, ticket_id: int, *, author: str, comment: str | None = None) -> Ticket:
    """Close a ticket, with a last comment if one is given. Raises Conflict when it is closed already."""
    ticket = get(session, ticket_id)
    if ticket.closed_at is not None:
        raise Conflict(f"ticket {ticket_id} was closed at {ticket.closed_at:%Y-%m-%d %H:%M} UTC")
    if comment:
        add_comment(session, ticket_id, author=author, text=comment)
    ticket.status, ticket.closed_at = "closed", utcnow()
    session.add(ticket)
    session.flush()
    return ticket


def find_open(session: Session, key: str) -> Ticket | None:
    """The open ticket for a key."""
    return session.exec(select(Ticket).where(Ticket.key == key, col(Ticket.closed_at).is_(None))).first()


def get(session: Session, ticket_id: int, *, client_id: int | None = None) -> Ticket:
    """A ticket by its id. Raises NotFound; ClientMismatch when it belongs to another client than the one given."""
    ticket = session.get(Ticket, ticket_id)
    if ticket is None:
        raise NotFound(f"there is no ticket {ticket_id}")
    if client_id is not None and ticket.client_id != client_id:
        raise ClientMismatch(f"ticket {ticket_id} belongs to client {ticket.client_id}, not {client_id}")
    return ticket


def show(session: Session, ticket_id: int) -> TicketWithComments:
    """A ticket with its comments. Raises NotFound."""
    ticket = get(session, ticket_id)
    statement = select(TicketComment).where(TicketComment.ticket_id == ticket_id).order_by(col(TicketComment.id))
    return TicketWithComments(ticket, list(session.exec(statement)))


def list_tickets(
    session: Session,
    *,
    client_id: int | None = None,
    computer_id: int | None = None,
    run_id: str | None = None,
    status: str | None = None,
    limit: int = 200,
) -> list[Ticket]:
    """Tickets, newest first, at most `limit`. `status` is open or closed."""
    statement = select(Ticket).order_by(col(Ticket.id).desc()).limit(limit)
    wanted: list[tuple[Any, Any]] = [
        (Ticket.client_id, client_id), (Ticket.computer_id, computer_id), (Ticket.run_id, run_id),
        (Ticket.status, status),
    ]  # fmt: skip
    for column, value in wanted:
        if value is not None:
            statement = statement.where(column == value)
    return list(session.exec(statement))


def _of_origin(session: Session, key: str, origin: str | None) -> Ticket | None:
    """The ticket for `key` that this origin already opened or commented, open or closed."""
    if origin is None:
        return None
    opened = session.exec(select(Ticket).where(Ticket.key == key, Ticket.origin == origin)).first()
    if opened is not None:
        return opened
    return session.exec(
        select(Ticket)
        .join(TicketComment, col(TicketComment.ticket_id) == col(Ticket.id))
        .where(Ticket.key == key, TicketComment.origin == origin)
    ).first()


def _check_places(session: Session, client_id: int, places: dict[Any, int | None]) -> None:
    for kind, place_id in places.items():
        place = None if place_id is None else session.get(kind, place_id)
        if place is not None and place.client_id != client_id:
            raise ClientMismatch(
                f"{kind.__name__.lower()} {place_id} belongs to client {place.client_id}, not {client_id}"
            )
