"""Mail: stored first, then sent, its fate recorded (facts 11.7 `failedemails`, CWA-28).

States: `sending` waits for its first or next attempt; `sent`; `failed` is kept with error and date; `unknown` when the
text was handed over and the server's answer was lost. Just before the text goes out the row is set to `unknown`, so a
process that dies there leaves the truth behind, and nothing is sent twice.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from agent.errors import Conflict, NotFound
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.tickets import Notification
from agent.secrets import PREFIX, SecretBox
from agent.services.smtp import DeliveryError, Mailer, MailText, addresses
from agent.services.tickets import one_line, storable

#: Attempts before a passing failure is final; the waits between them are 1, 2, 4, 8, 16, 32, 60 ... minutes.
MAX_ATTEMPTS = 8
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
#: What is left of a secret body that was sent.
ERASED = "(It held a secret, and was erased when it was sent.)"
#: After this time an attempt without a result is taken for dead.
LEASE = timedelta(minutes=15)


@dataclass(frozen=True)
class Delivered:
    """What one call of `deliver` did, as ids of notifications."""

    sent: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    #: failed for now; another attempt follows
    waiting: tuple[int, ...] = ()


def queue_mail(
    session: Session,
    *,
    key: str,
    client_id: int | None,
    run_id: str | None = None,
    recipient: str,
    cc: str = "",
    subject: str,
    body: str,
    box: SecretBox | None = None,
) -> Notification:
    """Store a mail for `deliver`; the same key again returns the first one and stores nothing.

    `recipient` and `cc` are addresses divided by commas. One that is no address is not refused: the mail is kept as
    failed with that reason, because its content may be the only word about what happened. `box`: the body is a secret; it
    is stored encrypted, opened for sending only, and erased once it was sent.
    """
    known = session.exec(select(Notification).where(Notification.key == key)).first()
    if known is not None:
        return known
    mail = Notification(
        key=key, client_id=client_id, run_id=run_id, recipient=one_line(recipient), cc=one_line(cc),
        subject=one_line(subject), body=_kept(body, key, box), state="sending", next_attempt_at=utcnow(),
    )  # fmt: skip
    fault = _address_fault(recipient, cc)
    if fault:
        mail.state, mail.error, mail.failed_at, mail.next_attempt_at = "failed", fault, utcnow(), None
    session.add(mail)
    session.flush()
    return mail


def deliver(installation: Installation, *, limit: int = 100, now: datetime | None = None) -> Delivered:
    """Send what is due, oldest first, at most `limit`; meant to be called again and again, by any number of workers.

    Raises StoreError only; what the mail server says is stored with the mail.
    """
    results: dict[str, list[int]] = {"sent": [], "failed": [], "unknown": [], "sending": []}
    with Mailer(installation.settings) as mailer:
        for _ in range(limit):
            mail = _claim(installation, now or utcnow())
            if mail is None:
                break
            assert mail.id is not None
            results[_attempt(installation, mailer, mail, now)].append(mail.id)
    return Delivered(*(tuple(results[state]) for state in ("sent", "failed", "unknown", "sending")))


def resend(session: Session, notification_id: int, *, recipient: str | None = None) -> Notification:
    """Queue a kept mail again, to another recipient if one is given.

    Raises NotFound; Conflict when it was sent or still waits, or when the address is none.
    """
    mail = session.get(Notification, notification_id)
    if mail is None:
        raise NotFound(f"there is no mail {notification_id}")
    if mail.state not in ("failed", "unknown"):
        raise Conflict(f"mail {notification_id} is {mail.state}: only a failed or unknown one is sent again")
    fault = _address_fault(recipient or mail.recipient, mail.cc)
    if fault:
        raise Conflict(f"mail {notification_id}: {fault}")
    mail.recipient = recipient or mail.recipient
    mail.state, mail.attempts, mail.claim = "sending", 0, None
    mail.error, mail.failed_at, mail.next_attempt_at = None, None, utcnow()
    session.add(mail)
    session.flush()
    return mail


def list_mail(
    session: Session, *, client_id: int | None = None, state: str | None = None, limit: int = 200
) -> list[Notification]:
    """Mail, newest first, at most `limit`."""
    statement = select(Notification).order_by(col(Notification.id).desc()).limit(limit)
    if client_id is not None:
        statement = statement.where(Notification.client_id == client_id)
    if state is not None:
        statement = statement.where(Notification.state == state)
    return list(session.exec(statement))


def _address_fault(recipient: str, cc: str) -> str | None:
    try:
        if not addresses(recipient):
            return "there is no recipient: set _sysOffboardingDefaultEmailAddress"
        addresses(cc)
    except ValueError as error:
        return str(error)
    return None


def _claim(installation: Installation, now: datetime) -> Notification | None:
    """Take the oldest mail that is due, so that no other worker takes it before the lease is over."""
    with installation.database.session() as session:
        statement = (
            select(Notification)
            .where(Notification.state == "sending", col(Notification.next_attempt_at) <= now)
            .order_by(col(Notification.id))
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        mail = session.exec(statement).first()
        if mail is None:
            return None
        mail.claim, mail.attempts, mail.next_attempt_at = secrets.token_hex(8), mail.attempts + 1, now + LEASE
        mail.sender = installation.settings.smtp_from
        session.add(mail)
        return mail


def _attempt(installation: Installation, mailer: Mailer, mail: Notification, now: datetime | None) -> str:
    """One attempt; returns the state that it led to."""

    def about_to_send() -> None:
        doubt = "the text was being handed over; whether the mail server took it is not known"
        if not _store(installation, mail, state="unknown", error=doubt):
            raise DeliveryError("another worker took this mail over", permanent=False)

    try:
        mailer.send(_text(installation, mail), about_to_send)
    except DeliveryError as error:
        return _store_failure(installation, mail, error, now or utcnow())
    erased = {"body": ERASED} if mail.body.startswith(PREFIX) else {}
    _store(installation, mail, state="sent", error=None, sent_at=utcnow(), next_attempt_at=None, **erased)
    return "sent"


def _store_failure(installation: Installation, mail: Notification, error: DeliveryError, now: datetime) -> str:
    reason = one_line(str(error))
    if error.answer_lost:
        _store(installation, mail, state="unknown", error=reason, failed_at=now, next_attempt_at=None)
        return "unknown"
    if error.permanent or mail.attempts >= MAX_ATTEMPTS:
        _store(installation, mail, state="failed", error=reason, failed_at=now, next_attempt_at=None)
        return "failed"
    wait = min(FIRST_WAIT * 2 ** (mail.attempts - 1), LONGEST_WAIT)
    _store(installation, mail, state="sending", error=reason, next_attempt_at=now + wait, claim=None)
    return "sending"


def _store(installation: Installation, mail: Notification, **values: Any) -> bool:
    """Store a result under the claim that this attempt holds; False when another worker holds it by now."""
    with installation.database.session() as session:
        statement = (
            update(Notification).where(col(Notification.id) == mail.id, col(Notification.claim) == mail.claim)
        ).values(**values)
        result = session.execute(statement)
        assert isinstance(result, CursorResult)
        return result.rowcount == 1


def _kept(body: str, key: str, box: SecretBox | None) -> str:
    return storable(body) if box is None else box.encrypt(storable(body), purpose=f"mail:{key}")


def _text(installation: Installation, mail: Notification) -> MailText:
    body = mail.body
    if body.startswith(PREFIX):
        body = installation.secrets.decrypt(body, purpose=f"mail:{mail.key}")
    return MailText(
        identity=f"{mail.id}.{mail.key}", sender=mail.sender or "", recipients=tuple(addresses(mail.recipient)),
        cc=tuple(addresses(mail.cc)), subject=mail.subject, body=body, date=mail.created_at,
    )  # fmt: skip
