"""What a creating call of the API answered, kept for a day: its repetition gets the same answer and does nothing.

The key is claimed in a transaction of its own before anything is done. A claim without an answer means that the call is
under way or was broken off; then nobody can say whether it was carried out, and it is not carried out again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, delete
from sqlmodel import Session, col

from agent.errors import Conflict, UsageError
from agent.installation import Installation
from agent.model.access import IdempotencyKey
from agent.model.base import utcnow

KEPT = timedelta(hours=24)
MOST_LENGTH = 200


@dataclass(frozen=True)
class Kept:
    """What was answered before. `body` is JSON; None for an answer that held a secret, which is kept nowhere."""

    status: int
    body: Any


def claim(installation: Installation, user_id: str, key: str, request_digest: str) -> Kept | None:
    """None: the key is claimed, the caller acts and then calls `keep`. Else what was answered the first time.

    Raises UsageError for a key that cannot be one, Conflict when it was given with another request, and when the first
    call is under way or was broken off.
    """
    if not 1 <= len(key) <= MOST_LENGTH or not key.isascii() or not key.isprintable():
        raise UsageError(f"Idempotency-Key: 1 to {MOST_LENGTH} printable ASCII characters, such as a UUID")
    try:
        with installation.database.session() as session:
            found = session.get(IdempotencyKey, (user_id, key), with_for_update=True)
            if found is not None and found.created_at < utcnow() - KEPT:
                session.delete(found)
                session.flush()
                found = None
            if found is None:
                session.add(IdempotencyKey(user_id=user_id, key=key, request_digest=request_digest))
                return None
    except Conflict:
        # Another call with the same key came first, between our look and our claim.
        with installation.database.reading() as session:
            found = session.get_one(IdempotencyKey, (user_id, key))
    return _answer_of(found, request_digest)


def _answer_of(found: IdempotencyKey, request_digest: str) -> Kept:
    if found.request_digest != request_digest:
        raise Conflict("this Idempotency-Key was given with another request before: take a new one for a new request")
    if found.status is None:
        raise Conflict(
            "the first request with this Idempotency-Key is under way or was broken off: its outcome is unknown; "
            "look whether it was done before you repeat it with a new key"
        )
    return Kept(found.status, found.body)


def keep(installation: Installation, user_id: str, key: str, *, status: int, body: Any) -> None:
    """Store what was answered."""
    with installation.database.session() as session:
        found = session.get_one(IdempotencyKey, (user_id, key))
        found.status, found.body = status, body
        session.add(found)


def give_back(installation: Installation, user_id: str, key: str) -> None:
    """Forget a claim whose request was refused before anything could be done."""
    with installation.database.session() as session:
        session.delete(session.get_one(IdempotencyKey, (user_id, key)))


def forget_old(session: Session) -> int:
    """Delete what is older than a day; how many there were."""
    done = session.execute(delete(IdempotencyKey).where(col(IdempotencyKey.created_at) < utcnow() - KEPT))
    assert isinstance(done, CursorResult)
    return int(done.rowcount)
