"""Adding places, changing their columns, moving and retiring computers, maintenance and alerts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Form as FormBody
from pydantic import Field
from sqlmodel import Session, col, select

from agent.access.principal import Permission, Principal
from agent.errors import NotFound, UsageError
from agent.inventory import contacts, groups, places
from agent.inventory.lookup import Place, path
from agent.inventory.lookup import place_id as id_of
from agent.model.places import AgentComputerData, Client, Computer, Contact, Location
from agent.web.api.common import MOST_ID, client_of, place_for
from agent.web.api.computers import check_way, probe_computer
from agent.web.asking import Here, Who
from agent.web.forms import Form
from agent.web.pages.place_routes import Kind, PlaceId, Posted, address, place_of
from agent.web.pages.places import head
from agent.web.reads import place_form
from agent.web.rendering import page, redirect

router = APIRouter()
Around = Annotated[int | None, Query(ge=1, le=MOST_ID)]


def _around(
    session: Session, who: Principal, kind: str, client: int | None, location: int | None
) -> tuple[Client | None, Location | None]:
    """Where a new place gets to. Raises NotFound, Forbidden."""
    if kind == "client":
        who.require(Permission.ADMINISTER)
        return None, None
    site = place_for(session, who, Location, location, Permission.OPERATE) if location is not None else None
    owner = place_for(session, who, Client, site.client_id if site else client or 0, Permission.OPERATE)
    if site is None and kind == "computer":
        raise UsageError("a computer is added at a location: open the location's page first")
    return owner, site


@router.get("/{kind:place}s/add")
def new(
    request: Request, here: Here, who: Who, kind: Kind, client: Around = None, location: Around = None
) -> Response:  # fmt: skip
    """The form for a new place."""
    with here.database.reading() as session:
        owner, site = _around(session, who, kind, client, location)
        return page(request, "place_new.html", **_new(session, who, kind, owner, site))


def _new(
    session: Session, who: Principal, kind: str, owner: Client | None, site: Location | None
) -> dict[str, Any]:  # fmt: skip
    client_id = id_of(owner) if owner else None
    way = kind == "computer" and who.can(Permission.ADMINISTER, client_id)
    form = place_form.inputs(
        session, place_form.MODELS[kind], None, way=way, client_id=client_id, location_id=id_of(site) if site else None
    )
    return {"section": "/inventory", "kind": kind, "inputs": form, "client": owner, "location": site}


@router.post("/{kind:place}s/add")
def add(
    request: Request, here: Here, who: Who, kind: Kind, posted: Posted, client: Around = None, location: Around = None
) -> Response:  # fmt: skip
    """Store a new place."""
    with here.database.session() as session:
        owner, site = _around(session, who, kind, client, location)
        values = _new(session, who, kind, owner, site)
        # What is empty is left to the verb: it makes the external id and the slug.
        given = {n: v for n, v in place_form.given(values["inputs"], posted).items() if v != ""}
        model = place_form.MODELS[kind]
        wrong = place_form.faults(model, [i for i in values["inputs"] if i.name in given or i.required], given)
        if wrong:
            answer = page(request, "place_new.html", **values)
            answer.status_code = 400
            return answer
        made = _add(session, who, kind, owner, site, given)
        where = path(session, made)
    return redirect(request, address(kind, id_of(made)), f"{where} is added")


def _add(
    session: Session, who: Principal, kind: str, owner: Client | None, site: Location | None, given: dict[str, Any]
) -> Place:  # fmt: skip
    if owner is None:
        return places.add_client(session, actor=who.name, **given)
    if kind == "location":
        return places.add_location(session, client_id=id_of(owner), actor=who.name, **given)
    if kind == "contact":
        return places.add_contact(
            session, client_id=id_of(owner), location_id=id_of(site) if site else None, actor=who.name, **given
        )
    assert site is not None
    _check_way(session, who, given, id_of(owner))
    return places.add_computer(session, location_id=id_of(site), actor=who.name, **given)


def _check_way(session: Session, who: Principal, values: dict[str, Any], client_id: int) -> None:
    """The API's rule; a form sends every input, so what is empty asks for nothing."""
    way = {n: v for n, v in values.items() if n in place_form.WAY and v not in ("", "{}")}
    if "credential_id" in way:
        way["credential_id"] = int(way["credential_id"])
    check_way(session, who, way, client_id)


@router.get("/{kind:place}s/{place_id:int}/edit")
def edit(request: Request, here: Here, who: Who, kind: Kind, place_id: PlaceId) -> Response:
    """The columns, to be changed; what else can be done with the place."""
    with here.database.reading() as session:
        place = place_of(session, who, kind, place_id, Permission.OPERATE)
        return page(request, "place_edit.html", **_edit(session, who, place, here.settings.time_zone))


def _edit(session: Session, who: Principal, place: Place, time_zone: str) -> dict[str, Any]:
    way = isinstance(place, Computer) and who.can(Permission.ADMINISTER, client_of(place))
    around = {"client_id": client_of(place), "location_id": getattr(place, "location_id", None)}
    values = {
        **head(session, who, place, "edit"), "inputs": place_form.inputs(session, type(place), place, way=way, **around),
        "sites": [], "alerting": None, "resting": False, "time_zone": time_zone,
    }  # fmt: skip
    if isinstance(place, Computer):
        query = select(Location.location_id, Location.name).where(Location.client_id == place.client_id)
        values["sites"] = list(session.exec(query.order_by(col(Location.name)).limit(500)))
        values["alerting"] = session.get(AgentComputerData, id_of(place))
        values["resting"] = bool(groups.in_maintenance(session, [id_of(place)]))
    return values


@router.post("/{kind:place}s/{place_id:int}/edit")
def save(request: Request, here: Here, who: Who, kind: Kind, place_id: PlaceId, posted: Posted) -> Response:
    """Store changed columns; old and new values go into the audit trail."""
    with here.database.session() as session:
        place = place_of(session, who, kind, place_id, Permission.OPERATE)
        values = _edit(session, who, place, here.settings.time_zone)
        stored = {i.name: i.value for i in values["inputs"]}
        given = place_form.given(values["inputs"], posted)
        if place_form.faults(type(place), values["inputs"], given):
            answer = page(request, "place_edit.html", **values)
            answer.status_code = 400
            return answer
        changed = {n: v for n, v in given.items() if v != stored[n]}
        if isinstance(place, Computer) and changed.keys() & set(place_form.WAY):
            # The secret of the credential goes where all of them together say.
            _check_way(session, who, stored | given, place.client_id)
        places.change(session, place, actor=who.name, **changed)
    said = f"changed: {', '.join(n.replace('_', ' ') for n in changed)}" if changed else "nothing was changed"
    return redirect(request, address(kind, place_id), said)


class MoveForm(Form):
    """Where a computer gets to: one of its client's locations, or any other by its id."""

    location_id: int = Field(ge=1, le=MOST_ID)


class RetireForm(Form):
    """Whether a computer is out of service."""

    retired: bool


class MaintenanceForm(Form):
    """How long nothing is dispatched to it from now; 0 ends it."""

    minutes: int = Field(ge=0, le=groups.LONGEST_MAINTENANCE)


class AlertingForm(Form):
    """When a computer may be alerted on, and so offboarded. Both times empty: at all times."""

    no_alerts: bool = False
    start: str = ""
    end: str = ""


def _computer(session: Session, who: Principal, computer_id: int) -> Computer:
    return place_for(session, who, Computer, computer_id, Permission.OPERATE)


@router.post("/computers/{place_id:int}/move")
def move(
    request: Request, here: Here, who: Who, place_id: PlaceId, form: Annotated[MoveForm, FormBody()]
) -> Response:  # fmt: skip
    """Put a computer at another location of its client; to another client moves the command line or an import."""
    with here.database.session() as session:
        computer = _computer(session, who, place_id)
        target = place_for(session, who, Location, form.location_id, Permission.OPERATE)
        places.move(session, computer, form.location_id, actor=who.name)
    return redirect(request, address("computer", place_id), f"moved to {target.name}")


@router.post("/computers/{place_id:int}/retire")
def retire(
    request: Request, here: Here, who: Who, place_id: PlaceId, form: Annotated[RetireForm, FormBody()]
) -> Response:  # fmt: skip
    """Mark a computer as retired, or take it back into service. Nothing is removed from it."""
    with here.database.session() as session:
        computer = _computer(session, who, place_id)
        (places.retire if form.retired else places.unretire)(session, computer, actor=who.name)
    said = "retired: it is kept, and no run touches it" if form.retired else "in service again"
    return redirect(request, address("computer", place_id), said)


@router.post("/computers/{place_id:int}/maintenance")
def maintain(
    request: Request, here: Here, who: Who, place_id: PlaceId, form: Annotated[MaintenanceForm, FormBody()]
) -> Response:  # fmt: skip
    """Dispatch nothing to a computer for some minutes, or end that."""
    with here.database.session() as session:
        _computer(session, who, place_id)
        if form.minutes:
            groups.maintenance_on(session, place_id, minutes=form.minutes, actor=who.name)
        else:
            groups.maintenance_off(session, place_id, actor=who.name)
    said = f"in maintenance for {form.minutes} minutes" if form.minutes else "maintenance ended"
    return redirect(request, address("computer", place_id), said)


@router.post("/computers/{place_id:int}/alerting")
def alerting(
    request: Request, here: Here, who: Who, place_id: PlaceId, form: Annotated[AlertingForm, FormBody()]
) -> Response:  # fmt: skip
    """When a computer may be alerted on."""
    window = (form.start, form.end) if form.start or form.end else None
    with here.database.session() as session:
        _computer(session, who, place_id)
        groups.set_alerting(
            session, place_id, actor=who.name, no_alerts=form.no_alerts, window=window, clear_window=window is None
        )
    return redirect(request, address("computer", place_id), "alerts are changed")


@router.post("/computers/{place_id:int}/probe")
def probe(request: Request, here: Here, who: Who, place_id: PlaceId) -> Response:
    """Look from outside whether a computer is there; one that answers was in contact now."""
    found = probe_computer(here, who, place_id)
    said = "it answered: it was in contact now" if found.reachable else "it did not answer"
    return redirect(request, address("computer", place_id), said + (f" ({found.detail})" if found.detail else ""))


class AssignForm(Form):
    """Something that a person is given."""

    name: str = Field(min_length=1, max_length=200)
    kind: str = Field("", max_length=200)
    serial: str = Field("", max_length=200)
    asset_tag: str = Field("", max_length=200)
    due: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")


@router.post("/contacts/{place_id:int}/equipment")
def assign(
    request: Request, here: Here, who: Who, place_id: PlaceId, form: Annotated[AssignForm, FormBody()]
) -> Response:  # fmt: skip
    """Note that a person has something that must come back."""
    with here.database.session() as session:
        person = place_for(session, who, Contact, place_id, Permission.OPERATE)
        given = form.model_dump(exclude={"csrf", "due"})
        contacts.assign(session, person, given.pop("name"), actor=who.name, due=form.due or None, **given)
    return redirect(request, address("contact", place_id), f"{form.name} is on record")


class GivenBack(Form):
    """What became of a thing that a person had."""

    state: Literal["assigned", "returned", "missing", "damaged"]
    note: str = Field("", max_length=2000)


@router.post("/contacts/{place_id:int}/equipment/{equipment_id:int}")
def give_back(
    request: Request, here: Here, who: Who, place_id: PlaceId, equipment_id: PlaceId, form: Annotated[GivenBack, FormBody()]
) -> Response:  # fmt: skip
    """Note that something was returned, is missing, or came back damaged."""
    with here.database.session() as session:
        place_for(session, who, Contact, place_id, Permission.OPERATE)
        if equipment_id not in {e.equipment_id for e in contacts.equipment_of(session, contact_id=place_id)}:
            raise NotFound(f"this person has no equipment {equipment_id}")
        item = contacts.give_back(session, equipment_id, form.state, actor=who.name, note=form.note)
    return redirect(request, address("contact", place_id), f"{item.name}: {form.state}")
