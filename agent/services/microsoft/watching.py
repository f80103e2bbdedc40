"""Accounts that were deleted in a client's tenant, by a delta query on users; each deletion is noted exactly once.

What a page says and the link to the next one are stored in one transaction, and only if nobody else has gone on from the same
link: so a process that dies repeats a page that left no trace, and two workers do not note the same page twice. When the
link has run out (410 Gone), everything is read anew; accounts that were known and are not met any more are then asked for
one by one before they count as deleted, so a reading that is not whole makes nobody disappear.

Source: Microsoft Graph, "user: delta", "Use delta query to track changes" (resynchronisation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from agent.errors import StepError, TransportError
from agent.failure_types import INTEGRATION_ERROR
from agent.installation import Installation
from agent.model.administration import Credential
from agent.model.base import new_id, utcnow
from agent.model.directory import DirectoryAccount, DirectoryWatch
from agent.services import credentials
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import GraphClient, get
from agent.services.microsoft.settings import KIND
from agent.services.microsoft.tenant import Tenant

_SELECT = "id,userPrincipalName,mail"
#: Accounts that may be missing after a reading from the beginning; more are no deletions but a fault.
MISSING_AT_MOST = 500
_GONE = (400, 404, 410)


@dataclass(frozen=True)
class Looked:
    """What one look at a tenant found. `error`: why it ended early; what was read until then is kept."""

    client_id: int
    tenant: str
    deleted: int = 0
    error: str | None = None


def look_at_all(installation: Installation) -> list[Looked]:
    """Look at the tenant of every client that has a credential of its own for one. A failure of one does not stop the others."""
    with installation.database.reading() as session:
        mine = (Credential.kind == KIND, col(Credential.client_id).is_not(None), col(Credential.secret).is_not(None))
        found = session.exec(select(Credential).where(*mine).order_by(col(Credential.id))).all()
    return [_look(installation, credential) for credential in found if credential.location_id is None]


def _look(installation: Installation, credential: Credential) -> Looked:
    client_id = credential.client_id
    assert client_id is not None
    name, deleted = str(credential.settings.get("tenant_id") or ""), 0
    try:
        secret = credentials.open_secret(installation, credential)
        with Tenant(credential.settings, secret, run_id=f"watch-{new_id()}") as tenant:
            for number in _read(installation, tenant.graph, client_id, name):
                deleted += number
    except (StepError, TransportError) as error:
        with installation.database.session() as session:
            watch = _watch(session, client_id, name)
            watch.error, watch.looked_at = str(error), utcnow()
            session.add(watch)
        return Looked(client_id, name, deleted, str(error))
    return Looked(client_id, name, deleted)


def _read(installation: Installation, graph: GraphClient, client_id: int, tenant: str) -> Iterator[int]:
    """Read from the stored link on; gives the deletions of each page when they are stored."""
    anew = False
    while True:
        with installation.database.session() as session:
            watch = _watch(session, client_id, tenant)
            link, generation = watch.link, watch.generation
        try:
            page = graph.page(link) if link else graph.call(get("users", "delta", select=_SELECT))
        except ServiceRefused as error:
            # Once: a tenant that refuses the beginning as well is not asked for ever.
            if link is None or anew or error.status not in _GONE:
                raise
            anew = True
            _begin_anew(installation, client_id, tenant, link)
            continue
        following = page.get("@odata.nextLink") or page.get("@odata.deltaLink")
        if not isinstance(following, str) or not isinstance(page.get("value"), list):
            raise StepError(
                "the delta query on users was answered without a list and a link", type=INTEGRATION_ERROR,
                code="unexpected_answer", remediation="It is asked again at the next look.",
            )  # fmt: skip
        whole = "@odata.nextLink" not in page
        missing = _missing(installation, graph, client_id, tenant, generation, page) if whole else []
        yield _store(installation, client_id, tenant, link, page["value"], following, whole=whole, missing=missing)
        if whole:
            return


def _watch(session: Session, client_id: int, tenant: str) -> DirectoryWatch:
    found = session.get(DirectoryWatch, (client_id, tenant))
    if found is None:
        found = DirectoryWatch(client_id=client_id, tenant=tenant, generation=1, reading=True)
        session.add(found)
        session.flush()
    return found


def _begin_anew(installation: Installation, client_id: int, tenant: str, link: str) -> None:
    with installation.database.session() as session:
        watch = _watch(session, client_id, tenant)
        if watch.link == link:
            watch.link, watch.reading, watch.generation = None, True, watch.generation + 1
            session.add(watch)


def _missing(
    installation: Installation,
    graph: GraphClient,
    client_id: int,
    tenant: str,
    generation: int,
    page: Mapping[str, Any],
) -> list[str]:
    """Accounts that a whole reading from the beginning did not meet, and that the tenant, asked for each, does not have."""
    with installation.database.reading() as session:
        watch = session.get(DirectoryWatch, (client_id, tenant))
        if watch is None or not watch.reading or generation == 1:
            return []
        known = session.exec(
            select(DirectoryAccount.object_id).where(
                *_of(client_id, tenant), col(DirectoryAccount.deleted_at).is_(None),
                col(DirectoryAccount.generation) < generation,
            )
        ).all()  # fmt: skip
    met = {str(e.get("id")) for e in page["value"] if "@removed" not in e}
    wanted = sorted(set(known) - met)
    if len(wanted) > MISSING_AT_MOST:
        raise StepError(
            f"{len(wanted)} accounts are missing from the directory all at once: that is taken for a fault, not for deletions",
            type=INTEGRATION_ERROR, code="too_many_missing", remediation="Check what the app registration may read.",
        )  # fmt: skip
    replies = graph.batch([get("users", object_id, select="id") for object_id in wanted]) if wanted else []
    gone = []
    for object_id, reply in zip(wanted, replies, strict=True):
        if isinstance(reply, ServiceRefused) and reply.missing:
            gone.append(object_id)
        elif isinstance(reply, Exception):
            raise reply
    return gone


def _store(
    installation: Installation, client_id: int, tenant: str, link: str | None, entries: Sequence[Mapping[str, Any]],
    following: str, *, whole: bool, missing: Sequence[str],
) -> int:  # fmt: skip
    """Store a page and the link after it together. Gives the number of deletions; 0 when another worker was faster."""
    deleted = 0
    with installation.database.session() as session:
        before = col(DirectoryWatch.link).is_(None) if link is None else col(DirectoryWatch.link) == link
        mine = (col(DirectoryWatch.client_id) == client_id, col(DirectoryWatch.tenant) == tenant)
        moved = session.execute(
            update(DirectoryWatch).where(*mine, before)
            .values(link=following, reading=not whole, looked_at=utcnow(), error=None)
        )  # fmt: skip
        assert isinstance(moved, CursorResult)
        if moved.rowcount != 1:
            return 0
        generation = session.get_one(DirectoryWatch, (client_id, tenant)).generation
        for entry in entries:
            object_id = str(entry.get("id") or "")
            known = session.get(DirectoryAccount, (client_id, tenant, object_id))
            if "@removed" in entry:
                deleted += _removed(session, known)
            elif object_id:
                _met(session, known, client_id, tenant, entry, generation)
        for object_id in missing:
            deleted += _removed(session, session.get(DirectoryAccount, (client_id, tenant, object_id)))
    return deleted


def _removed(session: Session, known: DirectoryAccount | None) -> int:
    """Note a deletion, unless the account was never seen or is deleted already (Graph tells it again when it is purged)."""
    if known is None or known.deleted_at is not None:
        return 0
    known.deleted_at, known.deletions = utcnow(), known.deletions + 1
    session.add(known)
    return 1


def _met(
    session: Session,
    known: DirectoryAccount | None,
    client_id: int,
    tenant: str,
    entry: Mapping[str, Any],
    generation: int,
) -> None:
    """Note an account that is there. A change may tell only what changed."""
    found = known or DirectoryAccount(client_id=client_id, tenant=tenant, object_id=str(entry["id"]))
    if "userPrincipalName" in entry:
        found.upn = str(entry["userPrincipalName"] or "").lower()
    if "mail" in entry:
        found.mail = str(entry["mail"] or "").lower()
    found.generation, found.deleted_at = generation, None
    session.add(found)


def _of(client_id: int, tenant: str) -> tuple[Any, Any]:
    return col(DirectoryAccount.client_id) == client_id, col(DirectoryAccount.tenant) == tenant
