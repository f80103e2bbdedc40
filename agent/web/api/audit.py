"""The audit trail: read, verify, note its end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import AwareDatetime, Field
from sqlmodel import col, select

from agent import audit
from agent.access.principal import Permission
from agent.model.administration import AuditEntry
from agent.reporting import audit_trail
from agent.web.api.common import USUAL, After, Answer, Body, ClientId, Limit, api_router, seen_client
from agent.web.asking import Here, Who
from agent.web.reads.paging import Order, Page, among, take

router = api_router("audit")


class AuditOut(Answer):
    """Who did what, when, with old and new values. Each entry holds the digest of the one before it."""

    sequence: int
    at: datetime
    actor: str
    action: str
    object_kind: str
    object_id: str
    client_id: int | None
    details: dict[str, Any]
    previous_digest: str
    digest: str


class HeadOut(Answer):
    """The end of the trail, to be noted elsewhere."""

    count: int
    digest: str
    noted: str = Field(description="Give it to `verify` the next time")


class Verify(Body):
    """The end of the trail as it was noted elsewhere before."""

    noted: str | None = Field(None, pattern=r"^\d{1,18}:[0-9a-f]{64}$", examples=["128:" + "9b3f" * 16])


class Verdict(Answer):
    """Whether the trail is whole."""

    ok: bool
    entries: int
    head: str
    faults: list[str]


@router.get("/audit")
def list_entries(
    here: Here, who: Who, actor: Annotated[str | None, Query(max_length=200)] = None,
    action: Annotated[str | None, Query(max_length=200, description="A `*` at its end stands for the rest")] = None,
    client_id: ClientId = None, object_kind: Annotated[str | None, Query(max_length=100)] = None,
    object_id: Annotated[str | None, Query(max_length=200)] = None, since: AwareDatetime | None = None,
    until: AwareDatetime | None = None, after: After = None, limit: Limit = USUAL,
) -> Page[AuditOut]:  # fmt: skip
    """Entries, the newest first; what concerns no client only for whoever sees the whole server."""
    seen_client(who, client_id)
    equal = {"actor": actor, "client_id": client_id, "object_kind": object_kind, "object_id": object_id}
    # Changes that the database logged by itself become entries first.
    with here.database.session() as session:
        audit.seal_changes(session)
    with here.database.reading() as session:
        query: Any = select(AuditEntry).where(among(col(AuditEntry.client_id), who.clients()))
        for name, value in equal.items():
            if value is not None:
                query = query.where(getattr(AuditEntry, name) == value)
        if action is not None and action.endswith("*"):
            query = query.where(col(AuditEntry.action).startswith(action[:-1], autoescape=True))
        elif action is not None:
            query = query.where(AuditEntry.action == action)
        if since is not None:
            query = query.where(col(AuditEntry.at) >= since)
        if until is not None:
            query = query.where(col(AuditEntry.at) < until)
        order = Order(col(AuditEntry.sequence), descending=True)
        rows, following = take(session, query, order, after=after, limit=limit)
        return Page(items=[AuditOut.model_validate(r[0]) for r in rows], next=following)


@router.get("/audit/head")
def show_head(here: Here, who: Who) -> HeadOut:
    """The end of the trail."""
    who.require(Permission.SEE)
    with here.database.session() as session:
        audit.seal_changes(session)
        head = audit.head(session)
    return HeadOut(count=head.count, digest=head.digest, noted=str(head))


@router.post("/audit/verify")
def verify(here: Here, who: Who, body: Verify) -> Verdict:
    """Find entries that were changed, removed or inserted. It reads the whole trail."""
    who.require(Permission.SEE)
    noted = audit.Head.parse(body.noted) if body.noted is not None else None
    found = audit_trail.verify(here.database, noted=noted)
    return Verdict(ok=not found.faults, entries=found.head.count, head=str(found.head), faults=list(found.faults))
