"""Records about who may do what: people, their grants, browser sessions, API tokens, one-time links."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from agent.model.base import moment, new_id


class User(SQLModel, table=True):
    """A person who may sign in. `name` is what the audit trail shows; it is never given to another person."""

    __tablename__ = "user_account"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(unique=True)
    email: str | None = None
    #: argon2id; null: signs in by OpenID Connect only, or has not set a password yet.
    password_hash: str | None = None
    #: Encrypted base32 secret of the authenticator app; it counts once it was confirmed with a code.
    totp_secret: str | None = None
    totp_confirmed_at: datetime | None = moment("totp_confirmed_at")
    #: Counter of the last code that was taken: none is taken twice (RFC 6238, 5.2).
    totp_last_step: int | None = None
    #: OpenID Connect: the issuer and its id of the person.
    issuer: str | None = None
    subject: str | None = None
    disabled_at: datetime | None = moment("disabled_at")
    failed_count: int = 0
    locked_until: datetime | None = moment("locked_until")
    last_sign_in_at: datetime | None = moment("last_sign_in_at")
    created_at: datetime = moment("created_at", now=True)
    created_by: str = "system"
    #: The person's own choices: defaults of the wizard, columns.
    preferences: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class UserName(SQLModel, table=True):
    """Each name that a person has or had, case-folded: none is ever given to another person."""

    __tablename__ = "user_name"
    key: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user_account.id", index=True)


class UserGrant(SQLModel, table=True):
    """A role of a person at one client, or at all (null). Those of the identity provider are renewed at each sign-in."""

    __tablename__ = "user_grant"
    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(foreign_key="user_account.id", index=True)
    role: str
    client_id: int | None = Field(default=None, index=True)
    #: local or oidc
    source: str = "local"


class WebSession(SQLModel, table=True):
    """A signed-in browser. The cookie's token is stored as its SHA-256 only."""

    __tablename__ = "web_session"
    token_digest: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="user_account.id", index=True)
    created_at: datetime = moment("created_at", now=True)
    last_used_at: datetime = moment("last_used_at", now=True)
    expires_at: datetime = moment("expires_at", required=True)


class ApiToken(SQLModel, table=True):
    """A token for programs. Shown once, stored as its SHA-256; `hint` is its beginning, to tell tokens apart."""

    __tablename__ = "api_token"
    id: str = Field(default_factory=new_id, primary_key=True)
    token_digest: str = Field(unique=True)
    user_id: str = Field(foreign_key="user_account.id", index=True)
    name: str
    hint: str
    #: Names of permissions; null: all that its person may do.
    scopes: list[str] | None = Field(default=None, sa_type=JSON)
    created_at: datetime = moment("created_at", now=True)
    expires_at: datetime = moment("expires_at", required=True)
    last_used_at: datetime | None = moment("last_used_at")
    revoked_at: datetime | None = moment("revoked_at")


class OneTimeLink(SQLModel, table=True):
    """A link that works once and ends: the first administrator, a new password, the hand-over of a secret."""

    __tablename__ = "one_time_link"
    token_digest: str = Field(primary_key=True)
    #: administrator, password, handover
    purpose: str
    #: The user whose password is set, or the step whose secret is handed over.
    subject_id: str | None = None
    client_id: int | None = None
    #: Encrypted; deleted when the link is used or over.
    secret: str | None = None
    created_at: datetime = moment("created_at", now=True)
    created_by: str = "system"
    expires_at: datetime = moment("expires_at", required=True)
    used_at: datetime | None = moment("used_at")


class IdempotencyKey(SQLModel, table=True):
    """What a creating call of the API answered, so that its repetition gets the same answer and does nothing."""

    __tablename__ = "idempotency_key"
    user_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    #: SHA-256 of method, path and body: the same key for another call is refused.
    request_digest: str
    #: Null while the first call is under way.
    status: int | None = None
    body: Any = Field(default=None, sa_type=JSON, nullable=True)
    created_at: datetime = moment("created_at", now=True)


class SignInAttempt(SQLModel, table=True):
    """A refused sign-in, for the rate limit by address. Old ones are deleted."""

    __tablename__ = "sign_in_attempt"
    __table_args__ = (Index("sign_in_attempts_of_an_address", "address", "at"),)
    id: int | None = Field(default=None, primary_key=True)
    address: str
    at: datetime = moment("at", now=True)
