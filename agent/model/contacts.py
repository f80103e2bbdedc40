"""Records about people who leave: planned and past offboardings, named templates of options, tasks for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, text
from sqlmodel import Field, SQLModel

from agent.model.base import moment, new_id

_PENDING = "run_id is null and removed_at is null"


class ContactOffboarding(SQLModel, table=True):
    """One offboarding of one person. Without a run it is planned; a monitor starts it when its time has come."""

    __tablename__ = "contact_offboarding"
    __table_args__ = (
        Index(
            "one_planned_offboarding", "contact_id", unique=True,
            sqlite_where=text(_PENDING), postgresql_where=text(_PENDING),
        ),
    )  # fmt: skip
    id: str = Field(default_factory=new_id, primary_key=True)
    contact_id: int = Field(index=True)
    client_id: int = Field(index=True)
    #: What somebody gave, as text: {input: value}. Everything else follows when it is started.
    inputs: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    #: Name of the template of options that was asked for.
    template: str | None = None
    #: Null: it follows the contact's termination date, and moves with it.
    scheduled_for: datetime | None = moment("scheduled_for")
    #: The contact's termination date when it was planned or started.
    termination_date: str | None = None
    requested_by: str
    requested_at: datetime = moment("requested_at", now=True)
    reference: str | None = None
    #: Somebody took it off the list; what was done stays on record.
    removed_at: datetime | None = moment("removed_at")
    removed_by: str | None = None
    plan_id: str | None = None
    run_id: str | None = Field(default=None, index=True)
    started_at: datetime | None = moment("started_at")
    #: The plan of the security phase that was started at once (high risk).
    security_plan_id: str | None = None
    #: {input: {"value": ..., "source": ...}} as the run got them.
    resolved: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    #: The offboarding's work is over: from here the retention counts.
    closed_at: datetime | None = moment("closed_at")
    retention_until: datetime | None = moment("retention_until")
    delete_after_retention: bool = False
    deleted_at: datetime | None = moment("deleted_at")
    #: When the backups are to be deleted, by the client's policy; null: they are kept.
    data_until: datetime | None = moment("data_until")
    data_deleted_at: datetime | None = moment("data_deleted_at")
    forwarding_until: datetime | None = moment("forwarding_until")
    forwarding_ended_at: datetime | None = moment("forwarding_ended_at")


class OffboardingTemplate(SQLModel, table=True):
    """A named set of options for user offboardings."""

    __tablename__ = "offboarding_template"
    name: str = Field(primary_key=True)
    description: str = ""
    #: {input: value as text}
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    changed_at: datetime = moment("changed_at", now=True)
    changed_by: str


class OffboardingTemplateUse(SQLModel, table=True):
    """Who uses a template without naming it: a client, a user for what the user plans, or everybody."""

    __tablename__ = "offboarding_template_use"
    #: client, user, everyone
    kind: str = Field(primary_key=True)
    #: The client's id, the user's name, or empty.
    key: str = Field(primary_key=True)
    template: str = Field(foreign_key="offboarding_template.name", index=True)
    assigned_at: datetime = moment("assigned_at", now=True)
    assigned_by: str


class ManualTask(SQLModel, table=True):
    """Something that a person must do because no system can: collect keys, hold an exit interview."""

    __tablename__ = "manual_task"
    id: int | None = Field(default=None, primary_key=True)
    client_id: int = Field(index=True)
    contact_id: int | None = Field(default=None, index=True)
    run_id: str | None = Field(default=None, index=True)
    #: What made it, such as a step: the same origin makes it once.
    origin: str | None = Field(default=None, unique=True)
    #: badge, keys, parking, phone_line, credit_card, exit_interview, knowledge_transfer, backup, other ...
    matter: str = "other"
    title: str
    description: str = ""
    owner: str = ""
    #: YYYY-MM-DD
    due: str | None = None
    #: open, done, cancelled
    state: str = Field(default="open", index=True)
    note: str = ""
    #: No account of this person is deleted before it is done.
    blocks_deletion: bool = False
    created_at: datetime = moment("created_at", now=True)
    created_by: str
    closed_at: datetime | None = moment("closed_at")
    closed_by: str | None = None
