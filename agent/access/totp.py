"""Codes of an authenticator app (RFC 6238): enrolment, and that no code is taken twice."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING

from sqlalchemy import or_, update
from sqlmodel import Session, col

from agent import audit
from agent.errors import Conflict, SettingsError, UsageError
from agent.installation import Installation
from agent.model.access import User
from agent.model.base import utcnow

if TYPE_CHECKING:
    from pyotp import TOTP

#: Seconds that a code is shown; one before and one after are taken too, since clocks differ.
STEP = 30
_ISSUER = "Exeunt"


@dataclass(frozen=True)
class Enrolment:
    """What an authenticator app is given: the base32 secret, and the same as an `otpauth:` address for a QR code."""

    secret: str
    uri: str


def begin(installation: Installation, user_id: str, *, actor: str) -> Enrolment:
    """Make a new secret, which counts once `confirm` was called. Raises Conflict when the person has one that counts."""
    from_library = _library()
    with installation.database.session() as session:
        user = session.get_one(User, user_id, with_for_update=True)
        if user.totp_confirmed_at is not None:
            raise Conflict(f"{user.name} has an authenticator app already: reset it first")
        secret = from_library.random_base32()
        user.totp_secret = installation.secrets.encrypt(secret, purpose=purpose(user_id))
        session.add(user)
        _record(session, user, "user.totp_begin", actor)
        return _enrolment(secret, user.name)


def pending(installation: Installation, user_id: str) -> Enrolment | None:
    """The secret that waits for its first code, to be shown once more; None when there is none."""
    with installation.database.reading() as session:
        user = session.get_one(User, user_id)
    if user.totp_secret is None or user.totp_confirmed_at is not None:
        return None
    return _enrolment(installation.secrets.decrypt(user.totp_secret, purpose=purpose(user_id)), user.name)


def confirm(installation: Installation, user_id: str, code: str, *, actor: str) -> None:
    """From now on each sign-in needs a code. Raises UsageError for a wrong code, Conflict when nothing was begun."""
    with installation.database.session() as session:
        user = session.get_one(User, user_id, with_for_update=True)
        if user.totp_secret is None or user.totp_confirmed_at is not None:
            raise Conflict("no authenticator app waits for its first code")
        if not accepts(installation, session, user, code):
            raise UsageError("this code is not the right one: take the one that the app shows now, and check the clock")
        user.totp_confirmed_at = utcnow()
        session.add(user)
        _record(session, user, "user.totp_confirm", actor)


def reset(installation: Installation, user_id: str, *, actor: str) -> None:
    """Forget the person's authenticator app; the next sign-in takes the password alone."""
    with installation.database.session() as session:
        user = session.get_one(User, user_id, with_for_update=True)
        had = user.totp_confirmed_at is not None
        # The last step stays: a code that was seen is not taken again, should the same secret come back.
        user.totp_secret, user.totp_confirmed_at = None, None
        session.add(user)
        _record(session, user, "user.totp_reset", actor, had_one=had)


def accepts(installation: Installation, session: Session, user: User, code: str) -> bool:
    """Whether this is a code of now that was not taken yet; then it is taken, within the caller's transaction."""
    if user.totp_secret is None:
        return False
    secret = installation.secrets.decrypt(user.totp_secret, purpose=purpose(user.id))
    step = _step_of(_library().TOTP(secret), code, utcnow())
    return step is not None and take(session, user.id, step)


def take(session: Session, user_id: str, step: int) -> bool:
    """Take the code of a step; False when it, or a later one, was taken before."""
    newer = or_(col(User.totp_last_step).is_(None), col(User.totp_last_step) < step)
    taken = session.execute(update(User).where(col(User.id) == user_id, newer).values(totp_last_step=step))
    return bool(getattr(taken, "rowcount", 0) == 1)


def purpose(user_id: str) -> str:
    """The place that the encrypted secret is bound to."""
    return f"totp:{user_id}"


def _step_of(totp: TOTP, code: str, now: datetime) -> int | None:
    """The time step whose code this is, the present one and one on either side; None for any other text."""
    digits = code.replace(" ", "")
    if not (len(digits) == 6 and digits.isascii() and digits.isdigit()):
        return None
    present = int(now.timestamp()) // STEP
    # The newest first; all are compared, so that the time taken tells nothing.
    found = [s for s in (present + 1, present, present - 1) if hmac.compare_digest(totp.generate_otp(s), digits)]
    return found[0] if found else None


def _enrolment(secret: str, name: str) -> Enrolment:
    return Enrolment(secret, _library().TOTP(secret).provisioning_uri(name=name, issuer_name=_ISSUER))


def _library() -> ModuleType:
    try:
        import pyotp
    except ModuleNotFoundError as error:
        raise SettingsError("authenticator apps need the library pyotp: install exeunt[web]") from error
    return pyotp


def _record(session: Session, user: User, action: str, actor: str, **details: bool) -> None:
    audit.record(
        session, actor=actor, action=action, object_kind="user", object_id=user.id,
        details={"name": user.name, **details},
    )  # fmt: skip
