"""Clients."""

from __future__ import annotations

from fastapi import Query
from pydantic import Field
from sqlmodel import col, select

from agent.access.principal import Permission
from agent.inventory import places, removal
from agent.model.places import Client
from agent.web.api.common import USUAL, After, Answer, Body, Done, Id, Limit, Search, api_router, place_for
from agent.web.asking import Here, Who
from agent.web.reads.paging import Order, Page, among, take

router = api_router("inventory")


class ClientOut(Answer):
    """A company that is looked after."""

    client_id: int
    external_id: str
    name: str
    slug: str


class ClientIn(Body):
    """A new client."""

    name: str = Field(min_length=1, max_length=200, examples=["Contoso, Ltd."])
    slug: str | None = Field(None, description="Names its folder of scripts; else it is made from the name")
    external_id: str | None = Field(None, description="Its id elsewhere, such as in your PSA; else one is made")


class ClientChange(Body):
    """What is given is changed, the rest stays."""

    name: str | None = Field(None, min_length=1, max_length=200)
    external_id: str | None = Field(None, min_length=1, max_length=200)


@router.get("/clients")
def list_clients(
    here: Here, who: Who, search: Search = None, slug: str | None = Query(None, description="The one with this slug"),
    after: After = None, limit: Limit = USUAL,
) -> Page[ClientOut]:  # fmt: skip
    """Clients by name; only those that one may see."""
    with here.database.reading() as session:
        query = select(Client).where(among(col(Client.client_id), who.clients()))
        if search:
            query = query.where(col(Client.name).istartswith(search, autoescape=True))
        if slug is not None:
            query = query.where(Client.slug == slug)
        rows, following = take(session, query, Order(col(Client.name), col(Client.client_id)), after=after, limit=limit)
        return Page(items=[ClientOut.model_validate(row[0]) for row in rows], next=following)


@router.post("/clients", status_code=201)
def add_client(here: Here, who: Who, body: ClientIn) -> ClientOut:
    """Add a client. Needs an administrator of the whole server."""
    who.require(Permission.ADMINISTER)
    with here.database.session() as session:
        made = places.add_client(session, name=body.name, actor=who.name, external_id=body.external_id, slug=body.slug)
        return ClientOut.model_validate(made)


@router.get("/clients/{client_id}")
def show_client(here: Here, who: Who, client_id: Id) -> ClientOut:
    """One client. One that may not be seen is not there."""
    with here.database.reading() as session:
        return ClientOut.model_validate(place_for(session, who, Client, client_id))


@router.patch("/clients/{client_id}")
def change_client(here: Here, who: Who, client_id: Id, body: ClientChange) -> ClientOut:
    """Change columns of a client; old and new values go into the audit trail."""
    with here.database.session() as session:
        found = place_for(session, who, Client, client_id, Permission.OPERATE)
        places.change(session, found, actor=who.name, **body.model_dump(exclude_unset=True))
        return ClientOut.model_validate(found)


@router.delete("/clients/{client_id}")
def remove_client(here: Here, who: Who, client_id: Id) -> Done:
    """Remove a client that was added by mistake: nothing hangs on it, it has no history. Needs an administrator of the
    whole server.
    """
    who.require(Permission.ADMINISTER)
    with here.database.session() as session:
        found = place_for(session, who, Client, client_id)
        gone = removal.remove(here, session, found, actor=who.name)
    return Done(done=f"client {gone.id} is removed: {gone.path}")
