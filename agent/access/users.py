"""People who may sign in. Nobody is removed, only disabled: the audit trail keeps their names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from agent import audit
from agent.access import grants, names, passwords
from agent.access.principal import Grant, Role
from agent.access.sessions import end_all
from agent.access.sign_in import check_password
from agent.errors import Conflict, UsageError
from agent.installation import Installation
from agent.model.access import ApiToken, OneTimeLink, User
from agent.model.base import utcnow


@dataclass(frozen=True)
class UserView:
    """What lists show of a person: no hash, no secret."""

    id: str
    name: str
    email: str | None
    grants: tuple[Grant, ...]
    has_password: bool
    has_totp: bool
    issuer: str | None
    disabled_at: datetime | None
    locked_until: datetime | None
    last_sign_in_at: datetime | None
    created_at: datetime
    created_by: str


def create(
    installation: Installation, name: str, *, email: str | None = None, wanted: Collection[Grant] = (), actor: str,
) -> User:  # fmt: skip
    """Add a person, who sets a password by a link. Raises UsageError for the name, Conflict when it is or was taken."""
    with installation.database.session() as session:
        grants.lock_administrators(session)
        user = add(session, name, email=email, actor=actor)
        grants.put(session, user, wanted, source=grants.LOCAL, actor=actor)
    return user


def add(session: Session, name: str, *, email: str | None, actor: str) -> User:
    """The same within the caller's transaction, without any grant. Whoever gives one locks the administrators first."""
    user = User(name=name, email=checked_email(email), created_by=actor)
    names.take(session, name, user)
    _record(session, user, "user.create", actor, email=user.email)
    return user


def rename(installation: Installation, user_id: str, name: str, *, actor: str) -> None:
    """Give a person another name; the old one is never given to anybody else. Raises UsageError, Conflict."""
    with installation.database.session() as session:
        user = session.get_one(User, user_id, with_for_update=True)
        old = user.name
        names.take(session, name, user)
        _record(session, user, "user.rename", actor, old=old, new=name)


def disable(installation: Installation, user_id: str, *, actor: str) -> None:
    """Let a person in no more; sessions end, tokens and links are revoked.

    Raises Conflict when it is so already, and for the last administrator of the whole server.
    """
    with installation.database.session() as session:
        grants.lock_administrators(session)
        user = session.get_one(User, user_id, with_for_update=True)
        if user.disabled_at is not None:
            raise Conflict(f"{user.name} is disabled already")
        user.disabled_at = utcnow()
        session.add(user)
        session.flush()
        if Grant(Role.ADMINISTRATOR) in grants.grants_of(session, user_id):
            grants.require_administrator(session)
        ended = end_all(session, user_id)
        revoke_links(session, user_id)
        revoked = session.execute(
            update(ApiToken)
            .where(col(ApiToken.user_id) == user_id, col(ApiToken.revoked_at).is_(None))
            .values(revoked_at=utcnow())
        )
        _record(session, user, "user.disable", actor, sessions=ended, revoked=int(getattr(revoked, "rowcount", 0)))


def enable(installation: Installation, user_id: str, *, actor: str) -> None:
    """Let a disabled person in again, with the grants of before; tokens stay revoked. Raises Conflict."""
    with installation.database.session() as session:
        user = session.get_one(User, user_id, with_for_update=True)
        if user.disabled_at is None:
            raise Conflict(f"{user.name} is not disabled")
        user.disabled_at, user.failed_count, user.locked_until = None, 0, None
        _record(session, user, "user.enable", actor, grants=grants.told(grants.grants_of(session, user_id)))


def set_grants(installation: Installation, user_id: str, wanted: Collection[Grant], *, actor: str) -> None:
    """Replace a person's own grants; those of the identity provider stay as they are.

    Raises NotFound for a client that does not exist, Conflict for the last administrator of the whole server.
    """
    with installation.database.session() as session:
        grants.lock_administrators(session)
        user = session.get_one(User, user_id, with_for_update=True)
        grants.put(session, user, wanted, source=grants.LOCAL, actor=actor)


def grant(installation: Installation, user_id: str, given: Grant, *, actor: str) -> None:
    """Give one more role. Raises Conflict when the person has it already, NotFound for a client that does not exist."""
    with installation.database.session() as session:
        grants.lock_administrators(session)
        user = session.get_one(User, user_id, with_for_update=True)
        present = grants.grants_of(session, user_id, source=grants.LOCAL)
        if given in present:
            raise Conflict(f"{user.name} has that role there already")
        grants.put(session, user, [*present, given], source=grants.LOCAL, actor=actor)


def revoke(installation: Installation, user_id: str, taken: Grant, *, actor: str) -> None:
    """Take one role away. Raises Conflict when the person does not have it, or is the last administrator of the server."""
    with installation.database.session() as session:
        grants.lock_administrators(session)
        user = session.get_one(User, user_id, with_for_update=True)
        present = grants.grants_of(session, user_id, source=grants.LOCAL)
        if taken not in present:
            raise Conflict(f"{user.name} does not have that role there, or has it from the identity provider's groups")
        grants.put(session, user, [g for g in present if g != taken], source=grants.LOCAL, actor=actor)


def change_password(installation: Installation, user_id: str, old: str, new: str, *, keep: str | None = None) -> None:
    """A person changes the own password; all sessions but that of the token `keep` end.

    Raises UsageError when the old one is wrong or the new one may not be one.
    """
    check_password(installation, user_id, old)
    with installation.database.reading() as session:
        user = session.get_one(User, user_id)
    if old == new:
        raise UsageError("the new password is the old one: choose another")
    made = checked_hash(user, new)
    with installation.database.session() as session:
        store_password(session, user_id, made, keep=keep, actor=user.name)


def checked_hash(user: User, password: str) -> str:
    """The hash of a password that the person may have. Raises UsageError."""
    passwords.check(password, names=tuple(n for n in (user.name, user.email) if n))
    return passwords.hashed(password)


def store_password(session: Session, user_id: str, made: str, *, keep: str | None = None, actor: str) -> User:
    """Within the caller's transaction: set a hash; sessions and links that were made before end, and so does a lock-out."""
    user = session.get_one(User, user_id, with_for_update=True)
    user.password_hash, user.failed_count, user.locked_until = made, 0, None
    ended = end_all(session, user_id, keep=keep)
    revoke_links(session, user_id)
    _record(session, user, "user.change_password", actor, sessions=ended)
    return user


def revoke_links(session: Session, user_id: str) -> None:
    """Links with which this person could set a password are over."""
    mine = (col(OneTimeLink.subject_id) == user_id, col(OneTimeLink.purpose) == "password")
    session.execute(update(OneTimeLink).where(*mine, col(OneTimeLink.used_at).is_(None)).values(used_at=utcnow()))


def list_users(session: Session) -> list[UserView]:
    """All people by name, the disabled ones too."""
    found = sorted(session.exec(select(User)), key=lambda u: names.key(u.name))
    return [view(session, user) for user in found]


def view(session: Session, user: User) -> UserView:
    """A person as lists show it."""
    return UserView(
        user.id, user.name, user.email, tuple(grants.grants_of(session, user.id)), user.password_hash is not None,
        user.totp_confirmed_at is not None, user.issuer, user.disabled_at, user.locked_until, user.last_sign_in_at,
        user.created_at, user.created_by,
    )  # fmt: skip


def are_there_any(session: Session) -> bool:
    """Whether any person was ever added."""
    return bool(session.scalar(select(func.count()).select_from(User)))


def checked_email(email: str | None) -> str | None:
    """An address, or None for nothing. Raises UsageError."""
    if not email:
        return None
    local, _, domain = email.partition("@")
    if not local or not domain or "@" in domain or " " in email or not email.isprintable() or len(email) > 254:
        raise UsageError(f"{email[:254]!r} is no e-mail address")
    return email


def _record(session: Session, user: User, action: str, actor: str, **details: object) -> None:
    session.add(user)
    audit.record(
        session, actor=actor, action=action, object_kind="user", object_id=user.id,
        details={"name": user.name, **details},
    )  # fmt: skip
