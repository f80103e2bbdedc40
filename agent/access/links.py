"""Links that work once: the first administrator, and a new password. The token stands in the link only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import Session, col, delete

from agent import audit
from agent.access import grants, passwords, users
from agent.access.digests import digest, new_token
from agent.access.principal import Grant, Role
from agent.errors import Conflict, NotFound, UsageError
from agent.installation import Installation
from agent.model.access import OneTimeLink, User
from agent.model.base import utcnow

ADMINISTRATOR = "administrator"
PASSWORD = "password"
FIRST_MINUTES = 30
PASSWORD_HOURS = 24
_GONE = "this link was used before, is over, or never was one: ask for a new one"


@dataclass(frozen=True)
class LinkView:
    """A link that still works. `name` is the person's whose password it sets; None: the first administrator chooses one."""

    purpose: str
    name: str | None
    expires_at: datetime


def first_link(installation: Installation) -> str | None:
    """The path with which the first administrator is made, for 30 minutes; None when there is any user. Earlier ones end."""
    with installation.database.session() as session:
        if users.are_there_any(session):
            return None
        session.execute(delete(OneTimeLink).where(col(OneTimeLink.purpose) == ADMINISTRATOR))
        token = _create(session, ADMINISTRATOR, None, timedelta(minutes=FIRST_MINUTES), actor="system")
    return path(token)


def password_link(installation: Installation, user_id: str, *, actor: str) -> str:
    """The path with which a person sets a password, for a day; earlier ones end.

    Raises Conflict for a disabled person, and for one who signs in by OpenID Connect.
    """
    with installation.database.session() as session:
        user = session.get_one(User, user_id)
        if user.disabled_at is not None:
            raise Conflict(f"{user.name} is disabled: enable the user first")
        if user.issuer is not None:
            raise Conflict(f"{user.name} signs in by OpenID Connect and has no password here: {user.issuer} keeps it")
        users.revoke_links(session, user_id)
        token = _create(session, PASSWORD, user, timedelta(hours=PASSWORD_HOURS), actor=actor)
    return path(token)


def path(token: str) -> str:
    """Where in the console a link leads."""
    return f"/welcome/{token}"


def look(installation: Installation, token: str) -> LinkView:
    """What a link is for; it is not used by that. Raises NotFound when it does not work (any more)."""
    with installation.database.reading() as session:
        found = session.get(OneTimeLink, digest(token))
        if (
            found is None
            or found.purpose not in (ADMINISTRATOR, PASSWORD)
            or found.used_at
            or found.expires_at <= utcnow()
        ):
            raise NotFound(_GONE)
        user = session.get(User, found.subject_id) if found.subject_id else None
        if found.purpose == PASSWORD and (user is None or user.disabled_at is not None):
            raise NotFound(_GONE)
        return LinkView(found.purpose, user.name if user else None, found.expires_at)


def use_link(installation: Installation, token: str, *, password: str, name: str | None = None) -> User:
    """Make the first administrator called `name`, or set the password of the link's person; the link is over then.

    Raises NotFound when the link does not work, UsageError for a name or a password that cannot be (the link stays).
    """
    link = look(installation, token)
    if link.purpose == ADMINISTRATOR and not name:
        raise UsageError("the first administrator needs a name")
    passwords.check(password, names=(link.name or name or "",))
    made = passwords.hashed(password)
    with installation.database.session() as session:
        grants.lock_administrators(session)
        subject = _take(session, token)
        if subject is not None:
            return users.store_password(session, subject, made, actor=link.name or "")
        if users.are_there_any(session):
            raise NotFound(_GONE)
        user = users.add(session, name or "", email=None, actor=name or "")
        user.password_hash = made
        grants.put(session, user, [Grant(Role.ADMINISTRATOR)], source=grants.LOCAL, actor=user.name)
        return user


def _take(session: Session, token: str) -> str | None:
    """Use the link up, whose subject is returned. Raises NotFound when somebody else was faster."""
    key = digest(token)
    open_one = (col(OneTimeLink.used_at).is_(None), col(OneTimeLink.expires_at) > utcnow())
    taken = session.execute(
        update(OneTimeLink).where(col(OneTimeLink.token_digest) == key, *open_one).values(used_at=utcnow())
    )
    if getattr(taken, "rowcount", 0) != 1:
        raise NotFound(_GONE)
    return session.get_one(OneTimeLink, key).subject_id


def _create(session: Session, purpose: str, user: User | None, life: timedelta, *, actor: str) -> str:
    token = new_token()
    subject = user.id if user else None
    session.add(
        OneTimeLink(
            token_digest=digest(token),
            purpose=purpose,
            subject_id=subject,
            created_by=actor,
            expires_at=utcnow() + life,
        )
    )
    audit.record(
        session, actor=actor, action="link.create", object_kind="user", object_id=subject or "first",
        details={"name": user.name if user else None, "purpose": purpose},
    )  # fmt: skip
    return token
