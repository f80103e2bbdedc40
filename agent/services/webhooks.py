"""Webhooks: who is told of what, and from whom signed messages are taken. Sending is in `webhook_sending`.

Messages in both directions are signed in one way: `Exeunt-Signature: t=<seconds since 1970>,v1=<hexadecimal>`, where v1 is
HMAC-SHA256 of `<t>.<body>` with the secret as its text.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import delete, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, select

from agent import audit
from agent.errors import Conflict, NotFound, NotSignedIn, UsageError
from agent.installation import Installation
from agent.model.base import new_id, utcnow
from agent.model.places import Client
from agent.model.webhooks import WebhookDelivery, WebhookReceipt, WebhookSource, WebhookTarget
from agent.services.webhook_addresses import check_address

RUN_FINISHED, RUN_HELD = "run.finished", "run.held"
OFFBOARDING_FINISHED, TICKET_CREATED = "offboarding.finished", "ticket.created"
EVENTS = (RUN_FINISHED, RUN_HELD, OFFBOARDING_FINISHED, TICKET_CREATED)
KINDS = ("hr", "psa")
#: How a message is written: signed JSON for programs, or for people in a channel.
SIGNED, SLACK, TEAMS = "exeunt", "slack", "teams"
FORMS = (SIGNED, SLACK, TEAMS)
SIGNATURE = "exeunt-signature"
#: Seconds that the clock of a sender may be off.
TOLERANCE = 300
_SIGNED = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")
_REFUSED = "the message is not signed as it must be: source, secret, time or text do not fit"
R = TypeVar("R", WebhookTarget, WebhookSource)


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The value of the header `Exeunt-Signature`."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


# --- targets


def add_target(
    installation: Installation, *, name: str, url: str, events: Sequence[str] = (), client_id: int | None = None,
    form: str = SIGNED, actor: str,
) -> tuple[WebhookTarget, str]:  # fmt: skip
    """Tell an address of events (none named: all), of one client or of all. Returns its secret, which is shown only now.

    `form`: signed JSON, or a message in a channel of Slack or Teams. There the address is the secret: it is kept encrypted,
    shown by its host only, and given back.

    Raises UsageError for an address or an event that cannot be, Conflict when the name is taken.
    """
    wrong = sorted(set(events) - set(EVENTS))
    if wrong:
        raise UsageError(f"there is no event {wrong[0]!r}: {', '.join(EVENTS)}")
    if form not in FORMS:
        raise UsageError(f"there is no form {form!r}: {', '.join(FORMS)}")
    shown = url if form == SIGNED else _host_of(url)
    try:
        check_address(installation.settings, url)
    except UsageError as error:
        # What is wrong with it quotes it.
        raise UsageError(str(error).replace(url, shown)) from None
    target = WebhookTarget(
        id=new_id(),
        name=name,
        form=form,
        url=shown,
        client_id=client_id,
        events=list(events),
        secret="",
        created_by=actor,
    )
    details = {"url": shown, "form": form, "events": list(events)}
    return _add(installation, target, "target", actor, details, secret=None if form == SIGNED else url)


def _host_of(url: str) -> str:
    """What of a secret address may be shown."""
    try:
        return f"https://{urlsplit(url).hostname or '?'}/…"
    except ValueError:
        return "https://?/…"


def add_source(
    installation: Installation, *, name: str, kind: str, client_id: int, actor: str
) -> tuple[WebhookSource, str]:
    """Take signed messages about a client from a system of that kind: hr, psa. Returns its secret, shown only now."""
    if kind not in KINDS:
        raise UsageError(f"there is no kind {kind!r} of source: {', '.join(KINDS)}")
    source = WebhookSource(id=new_id(), name=name, kind=kind, client_id=client_id, secret="", created_by=actor)
    return _add(installation, source, "source", actor, {"kind": kind})


def _add(
    installation: Installation, row: R, word: str, actor: str, details: Mapping[str, Any], *, secret: str | None = None
) -> tuple[R, str]:
    if not row.name.strip() or row.name != row.name.strip() or not row.name.isprintable() or len(row.name) > 100:
        raise UsageError(f"{row.name[:100]!r} is no name: one line of at most 100 characters")
    secret = secret or f"whsec_{secrets.token_urlsafe(32)}"
    row.secret = installation.secrets.encrypt(secret, purpose=_purpose(row))
    with installation.database.session() as session:
        if session.exec(select(type(row).id).where(type(row).name == row.name)).first() is not None:
            raise Conflict(f"there is a webhook {word} {row.name!r} already")
        if row.client_id is not None and session.get(Client, row.client_id) is None:
            raise NotFound(f"there is no client with the id {row.client_id}")
        session.add(row)
        _record(session, row, f"webhook.add_{word}", actor, details)
    return row, secret


def secret_of(installation: Installation, row: WebhookTarget | WebhookSource) -> str:
    """The secret that messages are signed with, in clear. Raises SettingsError when the key does not fit."""
    return installation.secrets.decrypt(row.secret, purpose=_purpose(row))


def _purpose(row: WebhookTarget | WebhookSource) -> str:
    return f"{row.__tablename__}:{row.id}"


def targets(session: Session) -> list[WebhookTarget]:
    """All targets by name."""
    return list(session.exec(select(WebhookTarget).order_by(col(WebhookTarget.name))))


def targets_of(session: Session, client_id: int | None) -> list[WebhookTarget]:
    """The targets that are told anything of a client, by name."""
    mine = or_(col(WebhookTarget.client_id).is_(None), col(WebhookTarget.client_id) == client_id)
    query = select(WebhookTarget).where(col(WebhookTarget.disabled_at).is_(None), mine)
    return list(session.exec(query.order_by(col(WebhookTarget.name))))


def sources(session: Session) -> list[WebhookSource]:
    """All sources by name."""
    return list(session.exec(select(WebhookSource).order_by(col(WebhookSource.name))))


def find(session: Session, model: type[R], reference: str) -> R:
    """The target or source with that name or id. Raises NotFound."""
    found = session.exec(select(model).where(or_(col(model.name) == reference, col(model.id) == reference))).first()
    if found is None:
        raise NotFound(f"there is no webhook {'target' if model is WebhookTarget else 'source'} {reference!r}")
    return found


def remove_target(session: Session, target: WebhookTarget, *, actor: str) -> int:
    """Tell an address no more, and forget its log. How many messages had not arrived."""
    waiting = session.exec(
        select(WebhookDelivery.id).where(WebhookDelivery.target_id == target.id, WebhookDelivery.state == "waiting")
    ).all()
    session.execute(delete(WebhookDelivery).where(col(WebhookDelivery.target_id) == target.id))
    _record(session, target, "webhook.remove_target", actor, {"url": target.url, "waiting": len(waiting)})
    session.delete(target)
    return len(waiting)


def remove_source(session: Session, source: WebhookSource, *, actor: str) -> None:
    """Take no more messages from a source."""
    session.execute(delete(WebhookReceipt).where(col(WebhookReceipt.source_id) == source.id))
    _record(session, source, "webhook.remove_source", actor, {"kind": source.kind})
    session.delete(source)


def _record(session: Session, row: R, action: str, actor: str, details: Mapping[str, Any]) -> None:
    audit.record(
        session, actor=actor, action=action, object_kind="webhook", object_id=row.id, client_id=row.client_id,
        details={"name": row.name, **details},
    )  # fmt: skip


# --- messages out


def enqueue(
    session: Session,
    event: str,
    event_id: str,
    client_id: int | None,
    data: Mapping[str, Any],
    *,
    everybody: bool = False,
) -> int:
    """Within the transaction of what is told: a message to each target that wants it, once per `event_id`; how many.

    `everybody`: also to targets of this client that did not ask for such events.
    """
    wanted = [t for t in targets_of(session, client_id) if everybody or not t.events or event in t.events]
    if not wanted:
        return 0
    now = utcnow()
    client = session.get(Client, client_id) if client_id is not None else None
    about = (
        {"id": client_id, "slug": client.slug, "name": client.name, "external_id": client.external_id}
        if client
        else None
    )
    body = {"id": event_id, "event": event, "created_at": now.isoformat(), "client": about, "data": dict(data)}
    rows = [
        {
            "id": new_id(), "target_id": t.id, "event_id": event_id, "event": event, "client_id": client_id, "body": body,
            "state": "waiting", "attempts": 0, "next_attempt_at": now, "created_at": now,
        }
        for t in wanted
    ]  # fmt: skip
    return _insert(session, WebhookDelivery, rows)


def _insert(session: Session, model: type[SQLModel], rows: list[dict[str, Any]]) -> int:
    """Insert what is not there yet; how many rows."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    table = model.__table__  # type: ignore[attr-defined]
    statement: Any = sqlite.insert(table) if is_sqlite else postgresql.insert(table)
    # PostgreSQL's driver does not count these rows.
    statement = statement.values(rows).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return len(session.execute(statement).all())


def deliveries(
    session: Session, *, target_id: str | None = None, state: str | None = None, limit: int = 100
) -> list[WebhookDelivery]:
    """The log, the newest first. `state`: waiting, delivered, failed."""
    query = (
        select(WebhookDelivery).order_by(col(WebhookDelivery.created_at).desc(), col(WebhookDelivery.id)).limit(limit)
    )
    if target_id is not None:
        query = query.where(WebhookDelivery.target_id == target_id)
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    return list(session.exec(query))


def retry(session: Session, delivery_id: str, *, actor: str) -> WebhookDelivery:
    """Send a message again, with the same id. Raises NotFound, Conflict when it waits anyway."""
    found = session.get(WebhookDelivery, delivery_id, with_for_update=True)
    if found is None:
        raise NotFound(f"there is no delivery {delivery_id!r}")
    if found.state == "waiting":
        raise Conflict(f"the delivery {delivery_id} waits to be sent anyway")
    found.state, found.attempts, found.next_attempt_at, found.finished_at = "waiting", 0, utcnow(), None
    session.add(found)
    audit.record(
        session, actor=actor, action="webhook.retry", object_kind="webhook", object_id=found.target_id,
        client_id=found.client_id, details={"delivery": found.id, "event": found.event_id},
    )  # fmt: skip
    return found


# --- messages in


def verify(installation: Installation, source_id: str, signature: str, body: bytes) -> WebhookSource:
    """The source that signed this body not longer than 5 minutes ago. Raises NotSignedIn, always with the same message."""
    with installation.database.reading() as session:
        source = session.get(WebhookSource, source_id)
    given = _SIGNED.fullmatch(signature.strip())
    if source is None or source.disabled_at is not None or given is None:
        raise NotSignedIn(_REFUSED)
    timestamp = int(given[1])
    expected = sign(secret_of(installation, source), timestamp, body)
    if not hmac.compare_digest(expected, f"t={timestamp},v1={given[2]}") or abs(time.time() - timestamp) > TOLERANCE:
        raise NotSignedIn(_REFUSED)
    return source


def take_in(session: Session, source: WebhookSource, message_id: str) -> WebhookReceipt:
    """Within the transaction of what the message asks for: note that it was taken. Raises Conflict for one that was."""
    row = {"source_id": source.id, "message_id": message_id, "received_at": utcnow(), "outcome": {}}
    if not _insert(session, WebhookReceipt, [row]):
        raise Conflict(f"the message {message_id!r} was taken before: nothing was changed")
    return session.get_one(WebhookReceipt, (source.id, message_id))


def wanted_events(session: Session) -> Collection[str]:
    """Events that some target wants."""
    found: set[str] = set()
    for target in session.exec(select(WebhookTarget).where(col(WebhookTarget.disabled_at).is_(None))):
        found |= set(target.events or EVENTS)
    return found
