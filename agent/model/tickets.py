"""What people read: tickets with comments, notifications with their delivery."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from agent.model.base import moment


class Ticket(SQLModel, table=True):
    """A ticket. `key` is what it is about; only one ticket per key is open, later results become comments."""

    __tablename__ = "ticket"
    __table_args__ = (
        Index(
            "one_open_ticket", "key", unique=True,
            sqlite_where=text("closed_at is null"), postgresql_where=text("closed_at is null"),
        ),
        UniqueConstraint("key", "origin"),
    )  # fmt: skip
    id: int | None = Field(default=None, primary_key=True)
    key: str
    client_id: int = Field(index=True)
    location_id: int | None = None
    computer_id: int | None = Field(default=None, index=True)
    contact_id: int | None = Field(default=None, index=True)
    run_id: str | None = Field(default=None, index=True)
    #: What produced it (a run, a step): the same origin does not open a ticket for the same key twice.
    origin: str | None = None
    subject: str
    body: str
    category: str | None = None
    priority: str | None = None
    #: open, closed
    status: str = "open"
    external_id: str | None = None
    created_at: datetime = moment("created_at", now=True)
    created_by: str = "system"
    closed_at: datetime | None = moment("closed_at")


class TicketComment(SQLModel, table=True):
    """A later result or remark on a ticket."""

    __tablename__ = "ticket_comment"
    __table_args__ = (UniqueConstraint("ticket_id", "origin"),)
    id: int | None = Field(default=None, primary_key=True)
    ticket_id: int = Field(foreign_key="ticket.id", index=True)
    run_id: str | None = None
    #: What produced it: the same origin does not comment a ticket twice.
    origin: str | None = None
    author: str
    text: str
    created_at: datetime = moment("created_at", now=True)


class Notification(SQLModel, table=True):
    """A mail, from before it is sent until it is delivered or kept as failed (CWA: failedemails)."""

    __tablename__ = "notification"
    id: int | None = Field(default=None, primary_key=True)
    #: What it is about, made from meaning: the same thing is not told twice.
    key: str = Field(unique=True)
    client_id: int | None = Field(default=None, index=True)
    run_id: str | None = None
    #: The address that it was sent from; null until the first attempt.
    sender: str | None = None
    recipient: str
    cc: str = ""
    subject: str
    body: str
    #: sending (waits for its first or next attempt), sent, failed (kept), unknown (the server's answer was lost)
    state: str = Field(index=True)
    attempts: int = 0
    #: Not before this time; moved ahead while an attempt is under way, so a dead worker's mail becomes due again.
    next_attempt_at: datetime | None = moment("next_attempt_at")
    #: Fencing token of the attempt under way: a result is stored only under the token it started with.
    claim: str | None = None
    error: str | None = None
    created_at: datetime = moment("created_at", now=True)
    sent_at: datetime | None = moment("sent_at")
    failed_at: datetime | None = moment("failed_at")
