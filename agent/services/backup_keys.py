"""The keys of backups when the installation's key changes: they stand in the stores, wrapped, and must follow.

Every store that was ever written to stands in the audit trail, so none is forgotten unless somebody says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import NotFound
from agent.model.administration import AuditEntry
from agent.secrets import SecretBox
from agent.services.backup_reading import HEADER, header_of
from agent.services.backup_stores import BackupStore, StoreUnavailable

OpenStore = Callable[[str], BackupStore]
BEGIN, FORGET = "backup.begin", "backup.forget"


def locations(session: Session) -> list[str]:
    """Folders of the stores that backups were written to and that nobody forgot since, sorted."""
    query = select(AuditEntry).where(col(AuditEntry.action).in_((BEGIN, FORGET))).order_by(col(AuditEntry.sequence))
    known: set[str] = set()
    for entry in session.exec(query):
        location = str(entry.details.get("store"))
        (known.add if entry.action == BEGIN else known.discard)(location)
    return sorted(known)


def forget(session: Session, location: str, *, actor: str) -> None:
    """A store is gone for good: its backups no longer keep old keys. Raises NotFound."""
    if location not in locations(session):
        raise NotFound(f"no backup was written to {location!r}")
    audit.record(
        session, actor=actor, action=FORGET, object_kind="backup", object_id=location, details={"store": location}
    )


def rewrap(session: Session, box: SecretBox, open_store: OpenStore) -> int:
    """Wrap the keys of all backups that can be reached with the first key; how many. Doing it again is harmless.

    open_store: the store at a location; raises StoreUnavailable.
    """
    count = 0
    for store, name, header in _headers(session, open_store)[0]:
        if not box.fits_first_key(header["key"]):
            content = {**header, "key": box.rotate(header["key"])}
            store.put(name, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


def still_need_old_key(session: Session, box: SecretBox, open_store: OpenStore) -> list[str]:
    """Backups whose key needs an old key, and stores that cannot be asked."""
    found, away = _headers(session, open_store)
    left = [f"{store.location}/{name}" for store, name, header in found if not box.fits_first_key(header["key"])]
    return left + away


def _headers(
    session: Session, open_store: OpenStore
) -> tuple[list[tuple[BackupStore, str, dict[str, Any]]], list[str]]:  # fmt: skip
    """Every header that can be read, and the locations that cannot be asked."""
    found: list[tuple[BackupStore, str, dict[str, Any]]] = []
    away = []
    for where in locations(session):
        try:
            store = open_store(where)
            for name in store.names(f"*/*/{HEADER}"):
                header = header_of(store, name.rpartition("/")[0])
                if header is not None:
                    found.append((store, name, header))
        except StoreUnavailable:
            away.append(where)
    return found, away
