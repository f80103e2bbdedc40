"""Signing in with a password: one answer for all refusals, a delay that grows, a limit per address.

A refusal never says whether the name, the password or the code was wrong, whether the account is disabled or locked; it
takes as long for a name that nobody has.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func
from sqlmodel import Session, col, delete, select

from agent import audit
from agent.access import names, passwords, totp
from agent.access.sessions import open_session
from agent.errors import NotSignedIn, UsageError
from agent.installation import Installation
from agent.model.access import SignInAttempt, User
from agent.model.base import utcnow

#: Wrong passwords or codes of one person until the first delay; it doubles with each further one.
FREE_FAILURES = 5
FIRST_DELAY = timedelta(seconds=30)
LONGEST_DELAY = timedelta(hours=1)
#: Refusals from one address within the time.
ADDRESS_FAILURES = 20
ADDRESS_TIME = timedelta(minutes=15)
REFUSED = (
    "you cannot be signed in: the name, the password or the code of the authenticator app is wrong, or there were too many "
    "attempts; try again in a few minutes, or ask an administrator"
)


@dataclass(frozen=True)
class _Seen:
    """What was known of the person when the password was looked at, outside of any transaction: hashing takes long."""

    user_id: str | None
    stored: str | None
    right: bool


def sign_in(installation: Installation, name: str, password: str, code: str | None, address: str) -> str:
    """The token of a new session. `code` counts for those who have an authenticator app.

    `address` is the browser's. Raises NotSignedIn, always with the same message.
    """
    place = address_block(address)
    with installation.database.reading() as session:
        too_many = _failures_from(session, place) >= ADDRESS_FAILURES
        user = None if too_many else names.by_name(session, name)
    if too_many:
        raise NotSignedIn(REFUSED)
    seen = _look(user, password)
    renewed = passwords.hashed(password) if seen.right and passwords.is_outdated(seen.stored or "") else None
    with installation.database.session() as session:
        known = _judge(installation, session, seen, code or "")
        if known is not None:
            known.password_hash = renewed or known.password_hash
            token = open_session(session, installation.settings, known)
            _record(session, known, "user.sign_in", known.name, address=address)
        else:
            _remember(session, place)
    if known is None:
        raise NotSignedIn(REFUSED)
    return token


def check_password(installation: Installation, user_id: str, password: str) -> None:
    """That a signed-in person knows the password. Failures count as those of a sign-in. Raises UsageError."""
    with installation.database.reading() as session:
        user = session.get_one(User, user_id)
    seen = _look(user, password)
    with installation.database.session() as session:
        known = _judge(installation, session, seen, None)
    if known is None:
        raise UsageError("the present password is wrong, or there were too many attempts: nothing was changed")


def delay_after(failures: int) -> timedelta:
    """How long a person is locked out after so many failures in a row."""
    if failures < FREE_FAILURES:
        return timedelta(0)
    doublings = min(failures - FREE_FAILURES, 20)
    return min(FIRST_DELAY * (1 << doublings), LONGEST_DELAY)


def address_block(address: str) -> str:
    """Who an address belongs to: an IPv6 subscriber has 2^64 of them, and counts as one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _look(user: User | None, password: str) -> _Seen:
    stored = user.password_hash if user else None
    return _Seen(user.id if user else None, stored, passwords.fits(stored, password))


def _judge(installation: Installation, session: Session, seen: _Seen, code: str | None) -> User | None:
    """The person when all is right, else None with the failure counted. `code` None: it is not asked for."""
    user = session.get(User, seen.user_id, with_for_update=True) if seen.user_id else None
    # While locked nothing is counted: a stranger could otherwise lock a person out for ever.
    if user is None or user.disabled_at is not None or (user.locked_until and user.locked_until > utcnow()):
        return None
    right = seen.right and user.password_hash == seen.stored
    if right and code is not None and user.totp_confirmed_at is not None:
        right = totp.accepts(installation, session, user, code)
    if right:
        user.failed_count, user.locked_until = 0, None
    else:
        _count_failure(session, user)
    session.add(user)
    return user if right else None


def _count_failure(session: Session, user: User) -> None:
    user.failed_count += 1
    delay = delay_after(user.failed_count)
    if delay:
        user.locked_until = utcnow() + delay
        _record(session, user, "user.locked", "system", failures=user.failed_count, seconds=int(delay.total_seconds()))


def _failures_from(session: Session, place: str) -> int:
    recent = select(func.count()).where(
        SignInAttempt.address == place, col(SignInAttempt.at) > utcnow() - ADDRESS_TIME
    )  # fmt: skip
    return int(session.scalar(recent) or 0)


def _remember(session: Session, place: str) -> None:
    session.execute(delete(SignInAttempt).where(col(SignInAttempt.at) <= utcnow() - ADDRESS_TIME))
    session.add(SignInAttempt(address=place))


def _record(session: Session, user: User, action: str, actor: str, **details: str | int) -> None:
    audit.record(
        session, actor=actor, action=action, object_kind="user", object_id=user.id,
        details={"name": user.name, **details},
    )  # fmt: skip
