"""Signed-in browsers: a random token in the cookie, its digest in the database, an end that is absolute and one for idleness."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import Session, col, delete, select

from agent import audit
from agent.access.digests import digest, new_token
from agent.access.grants import principal_of
from agent.access.principal import Principal
from agent.errors import NotSignedIn
from agent.installation import Installation
from agent.model.access import User, WebSession
from agent.model.base import utcnow
from agent.settings import Settings

#: `last_used_at` is not written more often: a page would otherwise cost a transaction.
_WRITTEN_EVERY = timedelta(minutes=1)
_OVER = "you are not signed in, or your session is over: sign in again"


def open_session(session: Session, settings: Settings, user: User) -> str:
    """A new session of a person who has just signed in; its token. Sessions that are over go."""
    now, token = utcnow(), new_token()
    session.execute(delete(WebSession).where(col(WebSession.expires_at) <= now))
    session.add(
        WebSession(
            token_digest=digest(token), user_id=user.id, created_at=now, last_used_at=now,
            expires_at=now + timedelta(hours=settings.session_hours),
        )
    )  # fmt: skip
    user.last_sign_in_at = now
    session.add(user)
    return token


def principal_of_session(installation: Installation, token: str, *, used: bool = True) -> Principal:
    """Who holds the cookie, with the grants of this moment. Raises NotSignedIn when there is no such session, or it is over.

    `used`: somebody did something; what a page asks by itself does not keep a session alive.
    """
    now = utcnow()
    with installation.database.reading() as session:
        found = session.get(WebSession, digest(token))
        user = session.get(User, found.user_id) if found else None
        if found is None or user is None or user.disabled_at is not None or _is_over(installation.settings, found, now):
            raise NotSignedIn(_OVER)
        principal, last = principal_of(session, user), found.last_used_at
    if used and now - last >= _WRITTEN_EVERY:
        with installation.database.session() as session:
            session.execute(
                update(WebSession)
                .where(col(WebSession.token_digest) == digest(token), col(WebSession.last_used_at) < now)
                .values(last_used_at=now)
            )
    return principal


def sign_out(installation: Installation, token: str) -> None:
    """End the session of this token; doing it again changes nothing."""
    with installation.database.session() as session:
        found = session.get(WebSession, digest(token))
        if found is None:
            return
        user = session.get_one(User, found.user_id)
        session.delete(found)
        audit.record(session, actor=user.name, action="user.sign_out", object_kind="user", object_id=user.id)


def sessions_of(installation: Installation, session: Session, user_id: str) -> list[WebSession]:
    """The sessions of a person that still count, the last used first."""
    query = select(WebSession).where(WebSession.user_id == user_id).order_by(col(WebSession.last_used_at).desc())
    now = utcnow()
    return [s for s in session.exec(query) if not _is_over(installation.settings, s, now)]


def end_all(session: Session, user_id: str, *, keep: str | None = None) -> int:
    """Within the caller's transaction: end all sessions of a person but that of the token `keep`; how many there were."""
    gone = delete(WebSession).where(col(WebSession.user_id) == user_id)
    if keep is not None:
        gone = gone.where(col(WebSession.token_digest) != digest(keep))
    return int(getattr(session.execute(gone), "rowcount", 0))


def end_sessions(installation: Installation, user_id: str, *, actor: str, keep: str | None = None) -> int:
    """End all sessions of a person but that of the token `keep`; how many ended."""
    with installation.database.session() as session:
        user = session.get_one(User, user_id)
        ended = end_all(session, user_id, keep=keep)
        audit.record(
            session, actor=actor, action="user.end_sessions", object_kind="user", object_id=user_id,
            details={"name": user.name, "ended": ended},
        )  # fmt: skip
    return ended


def _is_over(settings: Settings, found: WebSession, now: datetime) -> bool:
    idle = timedelta(minutes=settings.session_idle_minutes)
    return now >= found.expires_at or now - found.last_used_at >= idle
