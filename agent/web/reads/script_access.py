"""Whose scripts somebody may see and change: one answer for pages and API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlmodel import Session, col, select

from agent.access.principal import Permission, Principal
from agent.content.loaded import LoadedScript
from agent.content.reading import PARTNER
from agent.errors import NotFound
from agent.installation import Installation
from agent.model.places import Client
from agent.web.reads.paging import among
from agent.web.reads.scripts import seen_slugs


def script_for(here: Installation, who: Principal, name: str, client: str | None) -> LoadedScript:
    """The script as that client's runs would find it. Raises NotFound when it may not be seen."""
    with here.database.reading() as session:
        slugs = seen_slugs(session, who.clients())
    if slugs is not None and client not in (None, PARTNER, *slugs):
        raise NotFound(f"there is no script {name!r}")
    with quiet(who, name):
        return here.content.script(name, client)


@contextmanager
def quiet(who: Principal, name: str) -> Iterator[None]:
    """The repository says whose script it is that has such a name: that is not told to whoever may not see all."""
    try:
        yield
    except NotFound:
        if who.clients() is None:
            raise
        raise NotFound(f"there is no script {name!r}, or no such wrapper or list entry") from None


def owner_for(here: Installation, who: Principal, slug: str) -> Client | None:
    """The client whose scripts are changed, None for the partner default. Raises NotFound, Forbidden."""
    if slug == PARTNER:
        who.require(Permission.ADMINISTER)
        return None
    with here.database.reading() as session:
        found = session.exec(select(Client).where(Client.slug == slug)).first()
    if found is None or not who.can(Permission.SEE, found.client_id):
        raise NotFound(f"there is no client {slug!r}")
    who.require(Permission.ADMINISTER, found.client_id)
    return found


def may_change(here: Installation, who: Principal, script: LoadedScript) -> bool:
    """Whether somebody may edit a script: that of a client takes its administrator, any other that of the server."""
    if script.client in (None, PARTNER):
        return who.can(Permission.ADMINISTER)
    with here.database.reading() as session:
        found = session.exec(select(Client.client_id).where(Client.slug == script.client)).first()
    return found is not None and who.can(Permission.ADMINISTER, found)


def owners(session: Session, who: Principal) -> list[tuple[str, str]]:
    """For whom somebody may duplicate and list scripts: (slug, name)."""
    allowed = among(col(Client.client_id), who.clients(Permission.ADMINISTER))
    query = select(Client.slug, Client.name).where(allowed).order_by(col(Client.name)).limit(2000)
    found = [(slug, name) for slug, name in session.exec(query)]
    return ([(PARTNER, "partner default")] if who.can(Permission.ADMINISTER) else []) + found
