"""The page of one client, location, computer or person: facts, extra fields, history and audit."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlmodel import Session

from agent.access.principal import Permission, Principal
from agent.errors import Conflict
from agent.inventory import field_values, flags
from agent.inventory.contacts import equipment_of
from agent.inventory.lookup import FORMS, Place
from agent.inventory.lookup import place_id as id_of
from agent.inventory.retention import deletion_refusal
from agent.inventory.software import list_software
from agent.model.fields import FieldType, Form
from agent.model.places import Computer, Contact
from agent.web.api.common import client_of
from agent.web.asking import Here, Who
from agent.web.pages.place_routes import Kind, PlaceId, Posted, address, place_of
from agent.web.reads import inventory as lists
from agent.web.reads import place_facts, place_fields
from agent.web.reads.runs import runs
from agent.web.rendering import page, redirect

router = APIRouter()
#: Applications of a computer that its page shows.
SOFTWARE = 200
_RUNS = {Form.COMPUTER: "computer", Form.CONTACT: "contact"}


@router.get("/{kind:place}s/{place_id:int}")
def show(request: Request, here: Here, who: Who, kind: Kind, place_id: PlaceId) -> Response:
    """What it is, what is set on it, and what may be done with it."""
    with here.database.reading() as session:
        place = place_of(session, who, kind, place_id)
        seconds, time_zone = here.settings.online_seconds, here.settings.time_zone
        values = {
            **head(session, who, place, "facts"),
            "facts": place_facts.facts(session, place, online_seconds=seconds, time_zone=time_zone),
            "sections": place_fields.sections(session, place),
            **_special(session, who, place, seconds),
        }
    return page(request, "place.html", **values)


def _special(session: Session, who: Principal, place: Place, seconds: int) -> dict[str, Any]:
    """What only some kinds of places have."""
    found: dict[str, Any] = dict.fromkeys(("software", "equipment", "offboardings", "refusal", "locations", "people"))
    if isinstance(place, Computer):
        found["software"] = list_software(session, id_of(place))[:SOFTWARE]
    elif isinstance(place, Contact):
        found["equipment"] = equipment_of(session, contact_id=id_of(place))
        found["offboardings"] = place_facts.offboardings_of(session, place, who.clients())
        found["refusal"] = deletion_refusal(session, id_of(place))
    elif FORMS[type(place)] is Form.CLIENT:
        found["locations"] = lists.location_nodes(session, who.clients(), client_id=id_of(place))
    return found


def head(session: Session, who: Principal, place: Place, tab: str) -> dict[str, Any]:
    """What every page of a place shows: its name and way, tabs, the flags that reach it, what one may do."""
    form, number = FORMS[type(place)], id_of(place)
    flagged, excluded = reached_by(session, place)
    return {
        "section": "/inventory", "place": place, "kind": form.name.lower(), "number": number, "tab": tab,
        "base": address(form.name.lower(), number), "crumbs": place_facts.crumbs(session, place),
        "flagged": flagged, "excluded": excluded, "client_id": client_of(place),
        "may": who.can(Permission.OPERATE, client_of(place)),
    }  # fmt: skip


def reached_by(session: Session, place: Place) -> tuple[list[str], list[str]]:
    """Levels whose offboarding flag reaches a place, and those on which it is excluded."""
    form, number = FORMS[type(place)], id_of(place)
    if form is Form.COMPUTER:
        reached = flags.flags(session, [number]).get(number, [])
        return reached, flags.levels_set(session, flags.EXCLUDE, [number]).get(number, [])
    name = flags.OFFBOARD.get(form, "Offboard Contact")
    values = field_values.values_of(session, form, number)
    level = [form.name.lower()]
    return (level if values[name].is_set else []), (level if values[flags.EXCLUDE].is_set else [])


@router.get("/{kind:place}s/{place_id:int}/fields")
def show_fields(request: Request, here: Here, who: Who, kind: Kind, place_id: PlaceId) -> Response:
    """The extra fields, to be changed."""
    with here.database.reading() as session:
        place = place_of(session, who, kind, place_id)
        return page(request, "place_fields.html", **_fields(session, who, place), wrong={}, given={})


def _fields(session: Session, who: Principal, place: Place) -> dict[str, Any]:
    return {
        **head(session, who, place, "fields"), "sections": place_fields.sections(session, place),
        "version": place_fields.version(session, place),
    }  # fmt: skip


@router.post("/{kind:place}s/{place_id:int}/fields")
def save_fields(
    request: Request, here: Here, who: Who, kind: Kind, place_id: PlaceId, given: Posted
) -> Response:  # fmt: skip
    """Store what was changed in the form, all of it or nothing."""
    with here.database.session() as session:
        place = place_of(session, who, kind, place_id, Permission.OPERATE)
        form = FORMS[type(place)]
        if given.pop("version", "") != str(place_fields.version(session, place)):
            raise Conflict(
                "somebody changed the fields since this form was loaded: load it again, and repeat your change"
            )
        found = place_fields.sections(session, place)
        changes = place_fields.asked(found, given)
        wrong = place_fields.faults(session, form, changes)
        if wrong:
            answer = page(request, "place_fields.html", **_fields(session, who, place), wrong=wrong, given=given)
            answer.status_code = 400
            return answer
        types = {row.id: row.type for section in found for row in section.fields}
        for change in changes:
            if change.value is None:
                field_values.clear_value(session, form, place_id, change.name, actor=who.name)
                continue
            secret = types[change.field_id] == FieldType.SECRET.name.lower()
            field_values.set_value(
                session, form, place_id, change.name, change.value, actor=who.name, secrets=here.secrets if secret else None
            )  # fmt: skip
    names = ", ".join(change.name for change in changes)
    said = (
        f"{len(changes)} field{'' if len(changes) == 1 else 's'} changed: {names}" if changes else "nothing was changed"
    )
    return redirect(request, address(kind, place_id, "/fields"), said)


@router.get("/{kind:place}s/{place_id:int}/history")
def show_history(
    request: Request, here: Here, who: Who, kind: Kind, place_id: PlaceId, after: str | None = None
) -> Response:  # fmt: skip
    """Runs, tickets and the audit trail's entries."""
    with here.database.reading() as session:
        place = place_of(session, who, kind, place_id)
        target = (_RUNS[FORMS[type(place)]], place_id) if FORMS[type(place)] in _RUNS else None
        client = place_id if kind == "client" else None
        of_place = target is not None or client is not None
        values = {
            **head(session, who, place, "history"),
            "runs": runs(session, who.clients(), client_id=client, target=target, limit=25).items if of_place else None,
            "tickets": place_facts.tickets_of(session, place, who.clients()),
            "audit": place_facts.audit_of(session, place, who.clients(), after=after),
        }
    return page(request, "place_history.html", **values)
