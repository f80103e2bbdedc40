"""Sending what waits to its targets: signed, by any number of workers, tried again with growing pauses, each try logged."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from sqlalchemy import CursorResult, update
from sqlmodel import col, select

from agent.errors import CannotConnect, UsageError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.webhooks import WebhookDelivery, WebhookTarget
from agent.services import webhooks
from agent.services.webhook_addresses import resolve
from agent.services.webhook_messages import message

#: A message is tried so often; the pauses begin with a minute, double, and end with six hours: about a day in all.
MOST_ATTEMPTS = 12
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=6)
#: Until then another worker leaves a message alone whose sender may have died.
LEASE = timedelta(minutes=2)
SECONDS = 10.0


@dataclass(frozen=True)
class Delivered:
    """What one round did, as ids of deliveries."""

    delivered: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def deliver(installation: Installation, *, limit: int = 50) -> Delivered:
    """Send what is due, the oldest first. Raises StoreError only; what the target says is in the log."""
    done: dict[str, list[str]] = {"delivered": [], "waiting": [], "failed": []}
    with httpx.Client(timeout=SECONDS, follow_redirects=False, trust_env=False) as client:
        for _ in range(limit):
            claimed = _claim(installation)
            if claimed is None:
                break
            done[_attempt(installation, client, *claimed)].append(claimed[0].id)
    return Delivered(*(tuple(done[state]) for state in ("delivered", "waiting", "failed")))


def _claim(installation: Installation) -> tuple[WebhookDelivery, WebhookTarget] | None:
    with installation.database.session() as session:
        found = session.exec(
            select(WebhookDelivery)
            .where(WebhookDelivery.state == "waiting", col(WebhookDelivery.next_attempt_at) <= utcnow())
            .order_by(col(WebhookDelivery.next_attempt_at)).limit(1).with_for_update(skip_locked=True)
        ).first()  # fmt: skip
        if found is None:
            return None
        found.attempts, found.next_attempt_at = found.attempts + 1, utcnow() + LEASE
        session.add(found)
        return found, session.get_one(WebhookTarget, found.target_id)


def _attempt(installation: Installation, client: httpx.Client, found: WebhookDelivery, target: WebhookTarget) -> str:
    status, error, permanent = None, None, False
    if target.disabled_at is not None:
        error, permanent = "the target is disabled", True
    else:
        try:
            status = _send(installation, client, found, target)
        except UsageError as refused:
            error, permanent = str(refused), True
        except CannotConnect as unreachable:
            error = str(unreachable)
        except httpx.HTTPError as broken:
            error = f"{type(broken).__name__}: {broken}"
        except httpx.InvalidURL as wrong:
            error, permanent = f"the address is none: {wrong}", True
    if status is not None and not 200 <= status < 300:
        error = f"the target answered with status {status}" + (
            "; redirects are not followed" if status // 100 == 3 else ""
        )
    state = "delivered" if error is None else "failed" if permanent or found.attempts >= MOST_ATTEMPTS else "waiting"
    now = utcnow()
    wait = min(FIRST_WAIT * 2 ** (found.attempts - 1), LONGEST_WAIT)
    _store(
        installation, found, state=state, status_code=status, error=error and error[:1000],
        next_attempt_at=now + wait if state == "waiting" else now, finished_at=None if state == "waiting" else now,
    )  # fmt: skip
    return state


def _send(installation: Installation, client: httpx.Client, found: WebhookDelivery, target: WebhookTarget) -> int:
    """The status of the answer, whose body nobody needs."""
    secret = webhooks.secret_of(installation, target)
    whole = target.url if target.form == webhooks.SIGNED else secret
    try:
        address, url = resolve(installation.settings, whole), httpx.URL(whole)
    except UsageError as error:
        raise UsageError(str(error).replace(whole, target.url)) from None
    written = found.body if target.form == webhooks.SIGNED else message(target.form, found.body)
    body = json.dumps(written, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        # The name, although we connect to the address that was looked at.
        "host": url.netloc.decode(), "content-type": "application/json", "user-agent": "exeunt-webhooks",
        "exeunt-event": found.event, "exeunt-delivery": found.id,
    }  # fmt: skip
    if target.form == webhooks.SIGNED:
        headers[webhooks.SIGNATURE] = webhooks.sign(secret, int(time.time()), body)
    request = client.build_request(
        "POST", url.copy_with(host=address), content=body, headers=headers, extensions={"sni_hostname": url.host}
    )
    answer = client.send(request, stream=True)
    answer.close()
    return answer.status_code


def _store(installation: Installation, found: WebhookDelivery, **values: Any) -> None:
    """Under the attempt that we made: another worker may have taken it over when its lease was over."""
    with installation.database.session() as session:
        done = session.execute(
            update(WebhookDelivery)
            .where(col(WebhookDelivery.id) == found.id, col(WebhookDelivery.attempts) == found.attempts)
            .where(col(WebhookDelivery.state) == "waiting").values(**values)
        )  # fmt: skip
        assert isinstance(done, CursorResult)
