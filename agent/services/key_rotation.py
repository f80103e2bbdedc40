"""A change of the key: a new one in front, every stored secret encrypted anew in one transaction, the old ones dropped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import Conflict
from agent.installation import Installation
from agent.model.access import OneTimeLink, User
from agent.model.administration import Credential, SystemProperty
from agent.model.fields import ExtraFieldData
from agent.model.tickets import Notification
from agent.model.webhooks import WebhookSource, WebhookTarget
from agent.secrets import PREFIX, SecretBox, keep_first_key, load_secret_box
from agent.services import backup_keys
from agent.services.backup_places import open_store


def rotate(installation: Installation, *, actor: str) -> dict[str, int]:
    """Encrypt every stored secret and backup's key with the first key; how many of each.

    All or nothing; doing it again is harmless. Raises SettingsError when one of them cannot be decrypted.
    """
    box = load_secret_box(installation.settings)
    counts = {
        "credentials": 0,
        "fields": 0,
        "properties": 0,
        "authenticator apps": 0,
        "links": 0,
        "mail": 0,
        "webhooks": 0,
    }
    with installation.database.session() as session:
        for kind, row, attribute in _tokens(session):
            if isinstance(row, ExtraFieldData):
                row.changed_by = actor
            setattr(row, attribute, box.rotate(getattr(row, attribute)))
            session.add(row)
            counts[kind] += 1
        counts["backups"] = backup_keys.rewrap(session, box, partial(open_store, installation))
        audit.record(
            session, actor=actor, action="secrets.rotate", object_kind="installation", object_id="secrets",
            details={"rotated": sum(counts.values())},
        )  # fmt: skip
    return counts


def drop_old_keys(installation: Installation, *, actor: str) -> int:
    """Forget all keys but the first; returns how many. Raises Conflict while a secret still needs an old one."""
    box: SecretBox = load_secret_box(installation.settings)
    with installation.database.session() as session:
        left = sum(not box.fits_first_key(getattr(row, attribute)) for _, row, attribute in _tokens(session))
        if left:
            raise Conflict(f"{left} secrets still need an old key: rotate first")
        backups = backup_keys.still_need_old_key(session, box, partial(open_store, installation))
        if backups:
            raise Conflict(
                f"backups may still need an old key, which is kept: {', '.join(backups[:5])}; mount their store and rotate "
                "again, or `exeunt backup forget FOLDER` for a store that is gone for good"
            )
        dropped = keep_first_key(installation.settings)
        audit.record(
            session, actor=actor, action="secrets.drop_old_keys", object_kind="installation", object_id="secrets",
            details={"dropped": dropped},
        )  # fmt: skip
    return dropped


def count_readable(installation: Installation) -> int:
    """Number of stored secrets, each of which was decrypted. Raises SettingsError when one cannot be."""
    box = load_secret_box(installation.settings)
    with installation.database.reading() as session:
        return len([box.rotate(getattr(row, attribute)) for _, row, attribute in _tokens(session)])


def _tokens(session: Session) -> Iterator[tuple[str, Any, str]]:
    """Every stored token: what it belongs to, its row, the attribute that holds it."""
    for credential in session.exec(select(Credential).where(col(Credential.secret).is_not(None))):
        yield "credentials", credential, "secret"
    for value in session.exec(
        select(ExtraFieldData).where(col(ExtraFieldData.value).startswith(PREFIX, autoescape=True))
    ):
        yield "fields", value, "value"
    for row in session.exec(select(SystemProperty).where(col(SystemProperty.is_secret).is_(True))):
        yield "properties", row, "value"
    for user in session.exec(select(User).where(col(User.totp_secret).is_not(None))):
        yield "authenticator apps", user, "totp_secret"
    for link in session.exec(select(OneTimeLink).where(col(OneTimeLink.secret).is_not(None))):
        yield "links", link, "secret"
    for mail in session.exec(select(Notification).where(col(Notification.body).startswith(PREFIX, autoescape=True))):
        yield "mail", mail, "body"
    for model in (WebhookTarget, WebhookSource):
        for webhook in session.exec(select(model)):
            yield "webhooks", webhook, "secret"
