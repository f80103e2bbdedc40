"""Scripts, kept to those that are shared and those of the clients that one may see."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, select

from agent.content.loaded import LoadedScript
from agent.content.reading import PARTNER
from agent.content.repository import ContentRepository
from agent.errors import NotFound
from agent.model.places import Client
from agent.model.runs import ScriptRevision, ScriptRun
from agent.web.reads.paging import LIMIT, Order, Page, among, take


class ScriptRow(BaseModel):
    """One script as the list shows it. `client`: the slug of its client, `partner`, or null for a shared one."""

    name: str
    key: str
    role: str
    target: str
    client: str | None
    description: str
    digest: str
    copied_from: str | None
    #: Wrapper that runs it for its client.
    used_by: str | None


class ScriptDetail(ScriptRow):
    """One script with its text. `content` is what a revision keeps: {definition, bodies}."""

    content: dict[str, Any]
    package: str | None


class RevisionRow(BaseModel):
    """A script exactly as it ran, found by its digest."""

    digest: str
    name: str
    stored_at: datetime


def seen_slugs(session: Session, clients: Collection[int] | None) -> frozenset[str] | None:
    """Slugs of the clients that one may see; None: all."""
    if clients is None:
        return None
    return frozenset(session.exec(select(Client.slug).where(col(Client.client_id).in_(sorted(clients)))))


def is_seen(script: LoadedScript, slugs: Collection[str] | None) -> bool:
    """Whether it is shared, the partner's, or of a client that one may see."""
    return slugs is None or script.client in (None, PARTNER) or script.client in slugs


def scripts(content: ContentRepository, slugs: Collection[str] | None) -> list[ScriptRow]:
    """Shared ones, then each client's duplicates, and which wrappers use them."""
    used = {
        (slug, name): wrapper
        for slug, listing in content.client_lists().items()
        for wrapper, names in listing.definition.scripts.items()
        for name in names
    }
    return [_row(s, used) for s in content.scripts() if is_seen(s, slugs)]


def script_detail(content: ContentRepository, found: LoadedScript) -> ScriptDetail:
    """One script."""
    row = next(r for r in scripts(content, None) if (r.key, r.client) == (found.key, found.client))
    package = content.package_of(found)
    return ScriptDetail(
        **row.model_dump(), content=found.content(), package=package.definition.name if package else None
    )


def revisions(
    session: Session, name: str, clients: Collection[int] | None, *, after: str | None = None, limit: int = LIMIT
) -> Page[RevisionRow]:
    """The stored revisions of a script, the newest first: of a client's scripts those that ran where one may look."""
    query: Any = select(ScriptRevision).where(ScriptRevision.name == name)
    if clients is not None:
        query = query.where(_ran(col(ScriptRevision.digest), clients))
    order = Order(col(ScriptRevision.stored_at), col(ScriptRevision.digest), descending=True)
    rows, following = take(session, query, order, after=after, limit=limit)
    return Page(items=[RevisionRow.model_validate(r[0], from_attributes=True) for r in rows], next=following)


def revision(session: Session, digest: str, clients: Collection[int] | None) -> ScriptRevision:
    """One revision. Raises NotFound when there is none that one may see."""
    query = select(ScriptRevision).where(ScriptRevision.digest == digest)
    if clients is not None:
        query = query.where(_ran(col(ScriptRevision.digest), clients))
    found = session.exec(query).first()
    if found is None:
        raise NotFound(f"there is no revision {digest}")
    return found


def _ran(digest: Any, clients: Collection[int]) -> Any:
    """That this revision ran at one of the clients."""
    return (
        select(ScriptRun.id).where(col(ScriptRun.revision) == digest, among(col(ScriptRun.client_id), clients)).exists()
    )


def _row(script: LoadedScript, used: dict[tuple[str, str], str]) -> ScriptRow:
    slug, definition = script.client or "", script.definition
    return ScriptRow(
        name=script.name, key=script.key, role=definition.role, target=definition.target, client=script.client,
        description=definition.description, digest=script.digest,
        copied_from=definition.copied_from.script if definition.copied_from else None,
        used_by=used.get((slug, script.name)) or used.get((slug, script.key)),
    )  # fmt: skip
