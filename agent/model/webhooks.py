"""Records about webhooks: who is told of what, each delivery, and the sources whose signed messages are taken."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from agent.model.base import moment, new_id


class WebhookTarget(SQLModel, table=True):
    """An address that is told of events, with the key that its messages are signed with."""

    __tablename__ = "webhook_target"
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(unique=True)
    #: exeunt: signed JSON; slack, teams: a message in a channel, whose address is a secret itself.
    form: str = Field(default="exeunt", sa_column_kwargs={"server_default": "exeunt"})
    #: In clear only where the form signs; else its host, the whole address is the secret.
    url: str
    #: Null: events of all clients.
    client_id: int | None = Field(default=None, index=True)
    #: Such as run.finished; empty: all.
    events: list[str] = Field(default_factory=list, sa_type=JSON)
    #: Encrypted.
    secret: str
    disabled_at: datetime | None = moment("disabled_at")
    created_at: datetime = moment("created_at", now=True)
    created_by: str = "system"


class WebhookDelivery(SQLModel, table=True):
    """One message to one target: waiting, delivered or given up. The log of what was sent."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        UniqueConstraint("target_id", "event_id"),
        # The log, the newest first: of all targets, and of one.
        Index("log_of_webhooks", "created_at", "id"),
        Index("log_of_webhook_target", "target_id", "created_at", "id"),
        Index(
            "due_webhook_deliveries", "next_attempt_at",
            sqlite_where=text("state = 'waiting'"), postgresql_where=text("state = 'waiting'"),
        ),
    )  # fmt: skip
    id: str = Field(default_factory=new_id, primary_key=True)
    target_id: str = Field(foreign_key="webhook_target.id", index=True)
    #: Made of what happened, so that nothing is told twice: `run.finished:<run id>`.
    event_id: str
    event: str
    client_id: int | None = Field(default=None, index=True)
    body: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    #: waiting, delivered, failed
    state: str = "waiting"
    attempts: int = 0
    next_attempt_at: datetime = moment("next_attempt_at", now=True)
    status_code: int | None = None
    error: str | None = None
    created_at: datetime = moment("created_at", now=True)
    finished_at: datetime | None = moment("finished_at")


class WebhookSource(SQLModel, table=True):
    """A system outside that may send signed messages about one client: HR (people who leave), PSA (tickets)."""

    __tablename__ = "webhook_source"
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(unique=True)
    #: hr or psa
    kind: str
    client_id: int = Field(index=True)
    #: Encrypted.
    secret: str
    disabled_at: datetime | None = moment("disabled_at")
    created_at: datetime = moment("created_at", now=True)
    created_by: str = "system"


class WebhookReceipt(SQLModel, table=True):
    """A message that was taken; the same one is not taken again."""

    __tablename__ = "webhook_receipt"
    source_id: str = Field(primary_key=True, foreign_key="webhook_source.id")
    message_id: str = Field(primary_key=True)
    received_at: datetime = moment("received_at", now=True)
    outcome: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
