"""Hand-over of a secret by a link that works once: the secret is kept encrypted until then, and erased when used or over.

The link's token is 256 random bits, of which only the SHA-256 is stored. Whoever has the link has the secret, so it goes to
one person by mail and stands in no log, report or result.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, CursorResult, or_, update
from sqlmodel import Session, col, select

from agent import audit
from agent.access.digests import digest as digest_of
from agent.access.digests import new_token
from agent.errors import NotFound
from agent.installation import Installation
from agent.model.access import OneTimeLink
from agent.model.base import utcnow
from agent.secrets import SecretBox

PURPOSE = "handover"
_GONE = "this link was used before, is over, or never was one: ask for a new password"


@dataclass(frozen=True)
class Waiting:
    """A link that still works."""

    expires_at: datetime
    client_id: int | None


def create(
    session: Session, box: SecretBox, secret: str, *, client_id: int | None, subject_id: str | None, life: timedelta,
    actor: str,
) -> str:  # fmt: skip
    """Keep a secret, and give the token with which it is taken once. `subject_id`: the step that it comes from."""
    _erase(session)
    token = new_token()
    digest = digest_of(token)
    session.add(
        OneTimeLink(
            token_digest=digest, purpose=PURPOSE, subject_id=subject_id, client_id=client_id,
            secret=box.encrypt(secret, purpose=_bound(digest)), created_by=actor, expires_at=utcnow() + life,
        )
    )  # fmt: skip
    session.flush()
    _record(session, "handover.create", actor, digest, client_id, {"step": subject_id})
    return token


def path(token: str) -> str:
    """Where in the console a link leads."""
    return f"/handover/{token}"


def look(installation: Installation, token: str) -> Waiting:
    """Whether a link works; it is not used by that. Raises NotFound when it does not (any more)."""
    with installation.database.reading() as session:
        found = session.get(OneTimeLink, digest_of(token))
        if found is None or found.purpose != PURPOSE or found.used_at or found.expires_at <= utcnow():
            raise NotFound(_GONE)
        return Waiting(found.expires_at, found.client_id)


def take(installation: Installation, token: str, *, actor: str) -> str:
    """The secret, once; it is erased by that. Raises NotFound, also when somebody else was faster."""
    digest = digest_of(token)
    with installation.database.session() as session:
        wanted = (col(OneTimeLink.token_digest) == digest, col(OneTimeLink.purpose) == PURPOSE)
        still = (col(OneTimeLink.used_at).is_(None), col(OneTimeLink.expires_at) > utcnow())
        taken = session.execute(update(OneTimeLink).where(*wanted, *still).values(used_at=utcnow()))
        assert isinstance(taken, CursorResult)
        if taken.rowcount != 1:
            raise NotFound(_GONE)
        link = session.get_one(OneTimeLink, digest)
        assert link.secret is not None, "an open link has its secret"
        secret = installation.secrets.decrypt(link.secret, purpose=_bound(digest))
        link.secret = None
        session.add(link)
        _record(session, "handover.take", actor, digest, link.client_id, {"step": link.subject_id})
    return secret


def revoke(session: Session, token: str, *, actor: str) -> None:
    """End a link before it was used: what it would hand over is not so."""
    found = session.get(OneTimeLink, digest_of(token))
    if found is not None and found.purpose == PURPOSE and found.used_at is None:
        found.used_at, found.secret = utcnow(), None
        session.add(found)
        _record(session, "handover.revoke", actor, found.token_digest, found.client_id, {"step": found.subject_id})


def erase_over(installation: Installation) -> int:
    """Erase the secrets of links that are over; how many. The worker does so every minute."""
    with installation.database.reading() as session:
        # Looked first: mostly there are none, and nothing need be written.
        if session.exec(select(OneTimeLink.token_digest).where(*_over()).limit(1)).first() is None:
            return 0
    with installation.database.session() as session:
        return _erase(session)


def _erase(session: Session) -> int:
    erased = session.execute(update(OneTimeLink).where(*_over()).values(secret=None))
    assert isinstance(erased, CursorResult)
    return erased.rowcount


def _over() -> tuple[ColumnElement[bool], ...]:
    over = or_(col(OneTimeLink.expires_at) <= utcnow(), col(OneTimeLink.used_at).is_not(None))
    return col(OneTimeLink.purpose) == PURPOSE, col(OneTimeLink.secret).is_not(None), over


def _record(
    session: Session, action: str, actor: str, digest: str, client_id: int | None, details: dict[str, str | None]
) -> None:
    # A part of the digest tells links apart, and opens none.
    audit.record(
        session,
        actor=actor,
        action=action,
        object_kind="link",
        object_id=digest[:16],
        client_id=client_id,
        details=details,
    )


def _bound(digest: str) -> str:
    """What the encrypted secret is bound to, so that it fits no other row."""
    return f"{PURPOSE}:{digest}"
