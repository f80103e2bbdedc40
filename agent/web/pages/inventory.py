"""The inventory: tree of clients and locations, search, lists of computers and of people."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlmodel import Session, col, select

from agent.access.principal import Permission, Principal
from agent.inventory.columns import PLATFORMS
from agent.inventory.lookup import get
from agent.model.places import CONTACT_STATUSES, Client, Location
from agent.web.api.common import place_for
from agent.web.asking import Here, Who
from agent.web.reads import inventory as reads
from agent.web.reads.inventory import Filters, PersonFilters
from agent.web.reads.paging import among
from agent.web.rendering import page, wants_part

router = APIRouter()
#: Clients that the filter of a list offers; another one is chosen from its own page.
CHOICE = 200
#: Computers and people that the tree shows below a location.
SHOWN = 25
STATES = (
    ("", "in service"), ("online", "online"), ("offline", "offline"), ("never", "never in contact"), ("retired", "retired"),
)  # fmt: skip


class TreeQuery(reads.PlaceQuery):
    """Which part of the tree is asked for, or what is searched."""

    #: Only the closed node, to put in the place of the open one.
    closed: bool = False


@router.get("/inventory")
def show(request: Request, here: Here, who: Who, asked: Annotated[TreeQuery, Query()]) -> Response:
    """The tree; opened at a client or location; or what fits the words."""
    part = wants_part(request)
    with here.database.reading() as session:
        if asked.client is not None or asked.location is not None:
            return _branch(request, session, here, who, asked, part)
        if asked.q:
            found = reads.search(session, who.clients(), asked.q, online_seconds=here.settings.online_seconds)
            name = "inventory_found.html" if part else "inventory.html"
            return page(request, name, q=asked.q, found=found, focus=None, **_may(who))
        nodes = reads.client_nodes(session, who.clients(), after=asked.after)
    following = f"/inventory?after={nodes.next}" if nodes.next else None
    name = "inventory.html"
    if part:
        # The search field was emptied, or the list goes on.
        name = "inventory_start.html" if request.headers.get("hx-target") == "found" else "inventory_clients.html"
    return page(
        request, name, q="", found=None, nodes=nodes.items, following=following, opened={}, focus=None, **_may(who)
    )


def _branch(
    request: Request, session: Session, here: Here, who: Principal, asked: TreeQuery, part: bool
) -> Response:  # fmt: skip
    """A client with its locations, or a location with its computers and people."""
    location = place_for(session, who, Location, asked.location) if asked.location is not None else None
    client = place_for(session, who, Client, location.client_id if location else asked.client or 0)
    opened: dict[tuple[str, int], Any] = {}
    node = reads.node_of(session, location or client)
    if not asked.closed:
        if location is not None:
            opened["location", node.id] = _inside(session, here, who, location)
        if location is None or not part:
            opened["client", client.client_id or 0] = reads.location_nodes(
                session, who.clients(), client_id=client.client_id, after=asked.after, limit=100
            )
    if part:
        return page(request, "inventory_node.html", node=node, opened=opened)
    whole = reads.node_of(session, get(session, Client, node.client_id))
    return page(
        request, "inventory.html", q="", found=None, nodes=[whole], following=None, opened=opened, focus=whole, **_may(who)
    )  # fmt: skip


def _inside(session: Session, here: Here, who: Principal, location: Location) -> dict[str, Any]:
    where = {"client": location.client_id, "location": location.location_id}
    seconds = here.settings.online_seconds
    return {
        "computers": reads.computers(session, who.clients(), Filters(**where), online_seconds=seconds, limit=SHOWN),
        "people": reads.people(session, who.clients(), PersonFilters(**where), limit=SHOWN),
        "query": where,
    }


@router.get("/inventory/computers")
def list_computers(request: Request, here: Here, who: Who, filters: Annotated[Filters, Query()]) -> Response:
    """Computers by filter, to choose some and flag them."""
    with here.database.reading() as session:
        _check(session, who, filters)
        found = reads.computers(
            session, who.clients(), filters, online_seconds=here.settings.online_seconds, after=filters.after
        )
        values = _lists(session, who, filters)
    return page(
        request, "computers_rows.html" if wants_part(request) else "computers.html", computers=found.items,
        next=found.next, filters=filters, states=STATES, platforms=[(p, p) for p in PLATFORMS],
        may_flag=who.can_somewhere(Permission.OPERATE), **values,
    )  # fmt: skip


@router.get("/inventory/people")
def list_people(request: Request, here: Here, who: Who, filters: Annotated[PersonFilters, Query()]) -> Response:
    """People by filter."""
    with here.database.reading() as session:
        _check(session, who, filters)
        found = reads.people(session, who.clients(), filters, after=filters.after)
        values = _lists(session, who, filters)
    return page(
        request, "people_rows.html" if wants_part(request) else "people.html", people=found.items, next=found.next,
        filters=filters, statuses=[(s, s) for s in CONTACT_STATUSES], **values,
    )  # fmt: skip


def _check(session: Session, who: Principal, filters: reads.PlaceQuery) -> None:
    """A client or location that one may not see is not there."""
    if filters.client is not None:
        place_for(session, who, Client, filters.client)
    if filters.location is not None:
        place_for(session, who, Location, filters.location)


def _lists(session: Session, who: Principal, filters: reads.PlaceQuery) -> dict[str, Any]:
    """What the filters of a list offer."""
    visible = select(col(Client.client_id), col(Client.name)).where(among(col(Client.client_id), who.clients()))
    choice: dict[Any, str] = dict(session.exec(visible.order_by(col(Client.name)).limit(CHOICE)).all())
    if filters.client is not None and filters.client not in choice:
        choice[filters.client] = get(session, Client, filters.client).name
    place = get(session, Location, filters.location) if filters.location is not None else None
    return {"clients": list(choice.items()), "location": place, "all_clients": len(choice) < CHOICE}


def _may(who: Principal) -> dict[str, bool]:
    """What one may do with the inventory as a whole."""
    return {
        "may_add": who.can(Permission.ADMINISTER), "may_import": who.can(Permission.OPERATE), "may_export": who.can(Permission.SEE),
    }  # fmt: skip
