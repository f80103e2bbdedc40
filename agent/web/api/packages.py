"""Packages: the store, what is applied for whom, and its order. Each change can be shown before it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from agent.access.principal import Permission, Principal
from agent.content.reading import PARTNER
from agent.errors import Forbidden, NotFound
from agent.installation import Installation
from agent.packages import applying, changes, store
from agent.packages.changes import Planned
from agent.web.api.common import Answer, Body, Name, api_router
from agent.web.asking import Here, Who
from agent.web.reads.script_access import owner_for
from agent.web.reads.scripts import seen_slugs

router = api_router("packages")
Slug = Annotated[str, Path(pattern="^[a-z0-9-]{1,100}$", description="The client's slug, or `partner`")]


class PackageOut(Answer):
    """A package that can be applied. `applied`: slugs of the clients that it is applied for, of those one may see."""

    name: str
    key: str
    version: str
    description: str
    publisher: str
    revocation: str
    digest: str
    shipped: bool
    applied: list[str]


class PackageDetail(Answer):
    """What a package brings, and every step of its scripts."""

    name: str
    digest: str
    definition: dict[str, Any]
    steps: list[dict[str, Any]]
    faults: list[str]


class AppliedOut(Answer):
    """A package as it is applied for a client. `drift`: what is otherwise now than when it was applied."""

    number: int | None
    name: str
    key: str
    version: str
    digest: str
    listed: dict[str, str]
    applied_at: datetime
    applied_by: str
    drift: list[str]


class AppliedList(Answer):
    """What is applied for a client, in its order, and what is wrong with that order."""

    packages: list[AppliedOut]
    faults: list[str]


class Application(Body):
    """Where in the client's order a package goes."""

    position: int | None = Field(
        None, ge=1, le=1000, description="Its place in the client's order, from 1; else by danger"
    )
    phase: int | None = Field(
        None, ge=1, le=7, description="Its scripts of the phases join this phase instead of their own"
    )
    dry_run: bool = False


class Removal(Body):
    """How a package is taken away."""

    dry_run: bool = False


class NewOrder(Body):
    """The whole order: each of the client's packages once."""

    packages: list[str] = Field(max_length=1000)
    dry_run: bool = False


class Change(Answer):
    """What was (or with `dry_run` would be) done."""

    change: str | None = Field(description="Id of the change; null when nothing was done")
    lines: list[str]
    warnings: list[str]
    refusals: list[str] = Field(description="Why it cannot be done")


@router.get("/packages")
def list_packages(here: Here, who: Who) -> list[PackageOut]:
    """The store, by name."""
    with here.database.reading() as session:
        slugs = seen_slugs(session, who.clients())
    found = [PackageOut.model_validate(p) for p in store.in_store(here)]
    for package in found if slugs is not None else ():
        package.applied = [s for s in package.applied if slugs is not None and (s in slugs or s == PARTNER)]
    return found


@router.get("/packages/{name}")
def show_package(here: Here, who: Who, name: Name) -> PackageDetail:
    """One package with what it brings."""
    found = here.content.package(name)
    return PackageDetail(
        name=found.name, digest=found.digest, definition=found.definition.model_dump(mode="json", by_alias=True),
        steps=store.review(here.content, found), faults=store.check(here.content, found),
    )  # fmt: skip


@router.get("/applied-packages/{slug}")
def list_applied(here: Here, who: Who, slug: Slug) -> AppliedList:
    """What is applied for a client, in its order."""
    with here.database.reading() as session:
        slugs = seen_slugs(session, who.clients())
    if slugs is not None and slug != PARTNER and slug not in slugs:
        raise NotFound(f"there is no client {slug!r}")
    return AppliedList(
        packages=[AppliedOut.model_validate(a) for a in store.applied(here, slug)],
        faults=store.order_faults(here, slug),
    )


@router.post("/applied-packages/{slug}/{name}")
def apply_package(here: Here, who: Who, slug: Slug, name: Name, body: Application) -> Change:
    """Apply a package for a client: fields, empty credentials, properties, monitors, lists. All or nothing."""
    owner_for(here, who, slug)
    with _quiet(who):
        planned = applying.plan_apply(here, name, slug, actor=who.name, phase=body.phase, position=body.position)
    return _done(here, who, planned, body.dry_run)


@router.post("/applied-packages/{slug}/{name}/remove")
def remove_package(here: Here, who: Who, slug: Slug, name: Name, body: Removal) -> Change:
    """Take a package from a client. Fields with their values, properties and entered credentials stay."""
    owner_for(here, who, slug)
    with _quiet(who):
        planned = applying.plan_remove(here, name, slug, actor=who.name)
    return _done(here, who, planned, body.dry_run)


@router.put("/applied-packages/{slug}/order")
def order_packages(here: Here, who: Who, slug: Slug, body: NewOrder) -> Change:
    """Give a client's packages another order."""
    owner_for(here, who, slug)
    with _quiet(who):
        planned = applying.plan_order(here, slug, body.packages)
    return _done(here, who, planned, body.dry_run)


def _done(here: Installation, who: Principal, planned: Planned, dry_run: bool) -> Change:
    change, refusals = None, list(planned.refusals)
    if planned.everywhere and not who.can(Permission.ADMINISTER):
        reason = f"an administrator of the whole server has to do it first, since it changes all: {'; '.join(planned.everywhere)}"
        if not dry_run:
            raise Forbidden(reason)
        refusals.append(reason)
    if not dry_run:
        planned.refuse()
        change = changes.perform(here, planned, actor=who.name) if planned.lines else None
    return Change(change=change, lines=list(planned.lines), warnings=list(planned.warnings), refusals=refusals)


@contextmanager
def _quiet(who: Principal) -> Iterator[None]:
    """Messages of the content may name other clients: that is not told to whoever may not see all."""
    try:
        yield
    except NotFound:
        if who.clients() is None and who.can(Permission.SEE):
            raise
        raise NotFound("there is no such package here") from None
