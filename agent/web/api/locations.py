"""Locations of clients."""

from __future__ import annotations

from pydantic import Field

from agent.access.principal import Permission
from agent.inventory import places, removal
from agent.model.places import Client, Location
from agent.web.api.common import (
    MOST_ID,
    USUAL,
    After,
    Answer,
    Body,
    ClientId,
    Done,
    Id,
    Limit,
    Search,
    api_router,
    place_for,
    seen_client,
)  # fmt: skip
from agent.web.asking import Here, Who
from agent.web.reads import places as reads
from agent.web.reads.paging import Page

router = api_router("inventory")


class LocationOut(Answer):
    """A site of a client."""

    location_id: int
    client_id: int
    external_id: str
    name: str


class LocationIn(Body):
    """A new location."""

    client_id: int = Field(ge=1, le=MOST_ID)
    name: str = Field(min_length=1, max_length=200, examples=["Headquarters"])
    external_id: str | None = Field(None, description="Its id elsewhere; else one is made")


class LocationChange(Body):
    """What is given is changed, the rest stays."""

    name: str | None = Field(None, min_length=1, max_length=200)
    external_id: str | None = Field(None, min_length=1, max_length=200)


@router.get("/locations")
def list_locations(
    here: Here, who: Who, client_id: ClientId = None, search: Search = None, after: After = None, limit: Limit = USUAL
) -> Page[LocationOut]:
    """Locations by id."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        found = reads.locations(session, who.clients(), client_id=client_id, search=search, after=after, limit=limit)
        return Page(items=[LocationOut.model_validate(x) for x in found.items], next=found.next)


@router.post("/locations", status_code=201)
def add_location(here: Here, who: Who, body: LocationIn) -> LocationOut:
    """Add a location of a client."""
    with here.database.session() as session:
        place_for(session, who, Client, body.client_id, Permission.OPERATE)
        made = places.add_location(
            session, client_id=body.client_id, name=body.name, actor=who.name, external_id=body.external_id
        )
        return LocationOut.model_validate(made)


@router.get("/locations/{location_id}")
def show_location(here: Here, who: Who, location_id: Id) -> LocationOut:
    """One location."""
    with here.database.reading() as session:
        return LocationOut.model_validate(place_for(session, who, Location, location_id))


@router.patch("/locations/{location_id}")
def change_location(here: Here, who: Who, location_id: Id, body: LocationChange) -> LocationOut:
    """Change columns of a location; old and new values go into the audit trail."""
    with here.database.session() as session:
        found = place_for(session, who, Location, location_id, Permission.OPERATE)
        places.change(session, found, actor=who.name, **body.model_dump(exclude_unset=True))
        return LocationOut.model_validate(found)


@router.delete("/locations/{location_id}")
def remove_location(here: Here, who: Who, location_id: Id) -> Done:
    """Remove a location that was added by mistake: nothing hangs on it, it has no history."""
    with here.database.session() as session:
        found = place_for(session, who, Location, location_id, Permission.OPERATE)
        gone = removal.remove(here, session, found, actor=who.name)
    return Done(done=f"location {gone.id} is removed: {gone.path}")
