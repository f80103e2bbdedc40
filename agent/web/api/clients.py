"""Clients."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlmodel import col, select

from agent.access.principal import Permission
from agent.errors import NotFound
from agent.model.places import Client
from agent.web.asking import Here, Who
from agent.web.reads.paging import LIMIT, MOST, Order, Page, among, take

router = APIRouter(tags=["inventory"])


class ClientOut(BaseModel):
    """A company that is looked after."""

    client_id: int
    external_id: str
    name: str
    slug: str


@router.get("/clients")
def list_clients(
    here: Here, who: Who, after: str | None = None, limit: Annotated[int, Query(ge=1, le=MOST)] = LIMIT
) -> Page[ClientOut]:
    """Clients by name; only those that one may see."""
    with here.database.reading() as session:
        query = select(Client).where(among(col(Client.client_id), who.clients()))
        rows, following = take(session, query, Order(col(Client.name), col(Client.client_id)), after=after, limit=limit)
        return Page(items=[ClientOut.model_validate(row[0], from_attributes=True) for row in rows], next=following)


@router.get("/clients/{client_id}")
def show_client(here: Here, who: Who, client_id: int) -> ClientOut:
    """One client. One that may not be seen is not there."""
    with here.database.reading() as session:
        found = session.get(Client, client_id) if who.can(Permission.SEE, client_id) else None
        if found is None:
            raise NotFound(f"there is no client {client_id}")
        return ClientOut.model_validate(found, from_attributes=True)
