"""Server-wide settings, credentials, the audit trail."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, text
from sqlmodel import Field, SQLModel

from agent.model.base import moment


class SystemProperty(SQLModel, table=True):
    """A server-wide setting such as `_sysOffboardingAlertType`."""

    __tablename__ = "system_property"
    name: str = Field(primary_key=True)
    value: str
    is_secret: bool = False
    changed_at: datetime = moment("changed_at", now=True)
    changed_by: str = "system"


class Credential(SQLModel, table=True):
    """How to reach a machine or a service. Settings in clear, the secret encrypted. Scope: server, client or location."""

    __tablename__ = "credential"
    # A name is unique within its scope, so that a partner's script can say `{secret: sentinelone}` for every client.
    __table_args__ = tuple(
        Index(name, *columns, unique=True, sqlite_where=text(where), postgresql_where=text(where))
        for name, columns, where in (
            ("one_credential_name_on_server", ("name",), "client_id is null"),
            ("one_credential_name_per_client", ("name", "client_id"), "client_id is not null and location_id is null"),
            ("one_credential_name_per_location", ("name", "location_id"), "location_id is not null"),
        )
    )
    id: int | None = Field(default=None, primary_key=True)
    #: ssh, winrm, psrp, screenconnect, secret, ...
    kind: str = Field(index=True)
    name: str = Field(index=True)
    client_id: int | None = Field(default=None, index=True)
    location_id: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    #: Fernet token of a JSON object {name: secret}; null for a shell that still waits for its secret.
    secret: str | None = None
    created_at: datetime = moment("created_at", now=True)
    changed_at: datetime = moment("changed_at", now=True)


class AuditEntry(SQLModel, table=True):
    """Who did what, when, old and new value. Each entry holds the digest of the one before it."""

    __tablename__ = "audit_entry"
    __table_args__ = (Index("audit_of_an_object", "object_kind", "object_id", "sequence"),)
    #: Position in the chain, from 1, without gaps.
    sequence: int = Field(primary_key=True)
    at: datetime = moment("at", required=True)
    actor: str
    #: such as edf.change, plan.approve, run.start
    action: str = Field(index=True)
    object_kind: str
    object_id: str
    client_id: int | None = Field(default=None, index=True)
    details: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    #: Row of `extrafieldchange` that this entry seals.
    change_id: int | None = Field(default=None, unique=True)
    previous_digest: str
    digest: str


class AuditHead(SQLModel, table=True):
    """The end of the audit trail, in one row: what is removed from the end is missed here."""

    __tablename__ = "audit_head"
    #: Always 1.
    id: int = Field(primary_key=True)
    count: int
    digest: str
