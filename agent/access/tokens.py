"""API tokens: a program acts for a person, limited by scopes and time. Shown once, stored as a digest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import Session, col, select

from agent import audit
from agent.access.digests import digest, new_token
from agent.access.grants import principal_of
from agent.access.principal import Permission, Principal
from agent.errors import Conflict, NotFound, NotSignedIn, UsageError
from agent.installation import Installation
from agent.model.access import ApiToken, User
from agent.model.base import utcnow

#: What a scanner for leaked secrets can look for.
PREFIX = "exeunt_"
MOST_DAYS = 366
#: The identity provider is asked at a sign-in only: who has not signed in for so long may have left.
OIDC_DAYS = 30
_WRITTEN_EVERY = timedelta(minutes=1)
_OVER = "the token is not one of this server, or is over or revoked"


@dataclass(frozen=True)
class TokenView:
    """What lists show of a token; `hint` is its beginning."""

    id: str
    user: str
    name: str
    hint: str
    scopes: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def create(
    installation: Installation, user_id: str, *, name: str, scopes: Collection[str] | None, days: int, actor: str,
) -> tuple[str, str]:  # fmt: skip
    """Id and text of a new token that ends after 1 to 366 days. `scopes`: names of permissions; None: all of the person's.

    Raises UsageError for a name, a scope or a time that cannot be, Conflict for a disabled person.
    """
    label = name.strip()
    if not label or not label.isprintable() or len(label) > 100:
        raise UsageError(
            f"{name[:100]!r} is no name of a token: one line of at most 100 characters that says what it is for"
        )
    if not 1 <= days <= MOST_DAYS:
        raise UsageError(f"a token lives 1 to {MOST_DAYS} days, not {days}")
    chosen = None if scopes is None else _checked_scopes(scopes)
    text = PREFIX + new_token()
    with installation.database.session() as session:
        user = session.get_one(User, user_id)
        if user.disabled_at is not None:
            raise Conflict(f"{user.name} is disabled: enable the user first")
        token = ApiToken(
            token_digest=digest(text), user_id=user_id, name=label, hint=text[: len(PREFIX) + 4], scopes=chosen,
            expires_at=utcnow() + timedelta(days=days),
        )  # fmt: skip
        session.add(token)
        _record(session, token, user, "token.create", actor, scopes=chosen, expires_at=token.expires_at)
    return token.id, text


def principal_of_token(installation: Installation, token: str) -> Principal:
    """The person that a token acts for, with its scopes. Raises NotSignedIn when it is none, over, revoked, or its person disabled."""
    now = utcnow()
    if not token.startswith(PREFIX):
        raise NotSignedIn(_OVER)
    with installation.database.reading() as session:
        found = session.exec(select(ApiToken).where(ApiToken.token_digest == digest(token))).first()
        user = session.get(User, found.user_id) if found else None
        if found is None or user is None or user.disabled_at or found.revoked_at or found.expires_at <= now:
            raise NotSignedIn(_OVER)
        if user.issuer is not None and now - (user.last_sign_in_at or user.created_at) >= timedelta(days=OIDC_DAYS):
            raise NotSignedIn(_OVER)
        scopes = None if found.scopes is None else frozenset(Permission(s) for s in found.scopes)
        principal = principal_of(session, user, scopes=scopes)
    if found.last_used_at is None or now - found.last_used_at >= _WRITTEN_EVERY:
        with installation.database.session() as session:
            session.execute(update(ApiToken).where(col(ApiToken.id) == found.id).values(last_used_at=now))
    return principal


def revoke(installation: Installation, token_id: str, *, actor: str, user_id: str | None = None) -> None:
    """End a token now. `user_id`: only one of this person. Raises NotFound, Conflict when it was revoked before."""
    with installation.database.session() as session:
        token = session.get(ApiToken, token_id, with_for_update=True)
        if token is None or user_id not in (None, token.user_id):
            raise NotFound(f"there is no token {token_id!r}")
        if token.revoked_at is not None:
            raise Conflict(f"the token {token_id} was revoked before")
        token.revoked_at = utcnow()
        session.add(token)
        _record(session, token, session.get_one(User, token.user_id), "token.revoke", actor)


def list_tokens(session: Session, *, user_id: str | None = None) -> list[TokenView]:
    """All tokens, or those of a person, the newest first; those that are over too."""
    query = select(ApiToken, User.name).join(User, col(User.id) == ApiToken.user_id)
    if user_id is not None:
        query = query.where(ApiToken.user_id == user_id)
    return [
        TokenView(
            t.id, user, t.name, t.hint, None if t.scopes is None else tuple(t.scopes), t.created_at, t.expires_at,
            t.last_used_at, t.revoked_at,
        )
        for t, user in session.exec(query.order_by(col(ApiToken.created_at).desc(), col(ApiToken.id)))
    ]  # fmt: skip


def _checked_scopes(scopes: Collection[str]) -> list[str]:
    wrong = sorted(set(scopes) - set(Permission))
    if wrong or not scopes:
        known = ", ".join(Permission)
        raise UsageError((f"{wrong[0]!r} is no scope" if wrong else "a token needs a scope") + f"; there are {known}")
    return [p.value for p in Permission if p in scopes]


def _record(session: Session, token: ApiToken, user: User, action: str, actor: str, **details: object) -> None:
    # Not called `token`: what is called so is masked.
    audit.record(
        session, actor=actor, action=action, object_kind="token", object_id=token.id,
        details={"name": token.name, "user": user.name, "hint": token.hint, **details},
    )  # fmt: skip
