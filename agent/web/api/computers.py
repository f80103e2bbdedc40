"""Computers: what is known of them, where they stand, and when nothing may be dispatched to them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal

from fastapi import Query
from pydantic import Field
from sqlmodel import Session

from agent.access.principal import Permission, Principal
from agent.errors import NotFound
from agent.inventory import groups, places, removal, software
from agent.inventory.contact import probe_contacts
from agent.model.administration import Credential
from agent.model.places import Computer, Location
from agent.transports.base import Identification
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
from agent.web.reads.places import ComputerRow

router = api_router("inventory")
#: Attributes that say how a computer is reached.
_WAY = {"transport", "address", "port", "credential_id", "transport_options"}


class ComputerAttributes(Body):
    """What may be said of a computer."""

    external_id: str | None = Field(None, min_length=1, max_length=200)
    platform: Literal["windows", "linux", "macos"] | None = Field(None, description="Which bodies run on it")
    os: str | None = Field(None, max_length=200)
    domain: str | None = Field(None, max_length=200)
    user_name: str | None = Field(None, max_length=200)
    is_server: bool | None = Field(None, description="Offboarded only after an explicit opt-in")
    is_probe: bool | None = Field(None, description="Offboarded only after an explicit opt-in")
    transport: Literal["", "local", "ssh", "winrm", "psrp", "endpoint"] | None = Field(
        None, description="How it is reached"
    )
    address: str | None = Field(None, max_length=500)
    port: int | None = Field(None, ge=1, le=65535)
    credential_id: int | None = Field(None, ge=1, le=MOST_ID)
    transport_options: dict[str, str | int | float | bool] | None = None

    def values(self) -> dict[str, Any]:
        """What was given, as the verbs take it."""
        given = self.model_dump(exclude_unset=True, exclude_none=True, exclude={"location_id"})
        if "transport_options" in given:
            given["transport_options"] = json.dumps(given["transport_options"])
        return given


class ComputerIn(ComputerAttributes):
    """A new computer."""

    location_id: int = Field(ge=1, le=MOST_ID)
    name: str = Field(min_length=1, max_length=200, examples=["PC1"])


class ComputerChange(ComputerAttributes):
    """What is given is changed, the rest stays."""

    name: str | None = Field(None, min_length=1, max_length=200)


class Move(Body):
    """Where a computer gets to."""

    location_id: int = Field(ge=1, le=MOST_ID)
    allow_move: bool = Field(False, description="Also to a location of another client")


class Maintenance(Body):
    """How long nothing is dispatched to it, from now."""

    minutes: int = Field(ge=1, le=groups.LONGEST_MAINTENANCE)


class MaintenanceOut(Answer):
    """What became of the maintenance."""

    in_maintenance: bool
    ended: int = 0


class Alerting(Body):
    """When a computer may be alerted on, and so offboarded."""

    no_alerts: bool | None = None
    window: tuple[str, str] | None = Field(
        None, description="Only between these times, HH:MM in the installation's time zone", examples=[["22:00", "06:00"]]
    )  # fmt: skip
    clear_window: bool = False


class AlertingOut(Answer):
    """When a computer may be alerted on."""

    computer_id: int
    no_alerts: bool
    up_time_start: str | None
    up_time_end: str | None
    #: IANA name of the installation's zone, in which both are meant.
    time_zone: str


class SoftwareOut(Answer):
    """An application that was seen on a computer."""

    name: str
    version: str
    publisher: str
    uninstall_string: str
    seen_at: datetime | None


class ProbeOut(Answer):
    """Whether a computer answered."""

    reachable: bool
    seconds: float
    detail: str | None


@router.get("/computers")
def list_computers(
    here: Here, who: Who, client_id: ClientId = None, location_id: int | None = Query(None, ge=1, le=MOST_ID),
    search: Search = None, retired: Literal["no", "only", "also"] = "no", after: After = None, limit: Limit = USUAL,
) -> Page[ComputerRow]:  # fmt: skip
    """Computers by id, with the levels whose flag reaches them."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        return reads.computers(
            session, who.clients(), online_seconds=here.settings.online_seconds, client_id=client_id,
            location_id=location_id, search=search, retired={"no": False, "only": True, "also": None}[retired],
            after=after, limit=limit,
        )  # fmt: skip


@router.post("/computers", status_code=201)
def add_computer(here: Here, who: Who, body: ComputerIn) -> ComputerRow:
    """Add a computer at a location."""
    values = body.values()
    with here.database.session() as session:
        where = place_for(session, who, Location, body.location_id, Permission.OPERATE)
        check_way(session, who, values, where.client_id)
        made = places.add_computer(
            session, location_id=body.location_id, actor=who.name, name=values.pop("name"), **values
        )
        return reads.computer_rows(session, [made], here.settings.online_seconds)[0]


@router.get("/computers/{computer_id}")
def show_computer(here: Here, who: Who, computer_id: Id) -> ComputerRow:
    """One computer."""
    with here.database.reading() as session:
        found = place_for(session, who, Computer, computer_id)
        return reads.computer_rows(session, [found], here.settings.online_seconds)[0]


@router.patch("/computers/{computer_id}")
def change_computer(here: Here, who: Who, computer_id: Id, body: ComputerChange) -> ComputerRow:
    """Change columns of a computer; old and new values go into the audit trail."""
    with here.database.session() as session:
        found = place_for(session, who, Computer, computer_id, Permission.OPERATE)
        check_way(session, who, body.values(), found.client_id)
        places.change(session, found, actor=who.name, **body.values())
        return reads.computer_rows(session, [found], here.settings.online_seconds)[0]


@router.delete("/computers/{computer_id}")
def remove_computer(here: Here, who: Who, computer_id: Id) -> Done:
    """Remove a computer that was added by mistake: nothing hangs on it, it has no history."""
    with here.database.session() as session:
        found = place_for(session, who, Computer, computer_id, Permission.OPERATE)
        gone = removal.remove(here, session, found, actor=who.name)
    return Done(done=f"computer {gone.id} is removed: {gone.path}")


def check_way(session: Session, who: Principal, values: dict[str, Any], client_id: int) -> None:
    """How a computer is reached says who gets the credential's secret, so it takes who may change credentials.

    `local` is this server itself. Raises Forbidden, NotFound for a credential that one may not see.
    """
    if not _WAY & set(values):
        return
    who.require(Permission.ADMINISTER, None if values.get("transport") == "local" else client_id)
    if "credential_id" in values:
        found = session.get(Credential, values["credential_id"])
        if found is None or not _may_use(who, found):
            raise NotFound(f"there is no credential {values['credential_id']}")


def _may_use(who: Principal, credential: Credential) -> bool:
    return credential.client_id is None or who.can(Permission.SEE, credential.client_id)


@router.post("/computers/{computer_id}/move")
def move_computer(here: Here, who: Who, computer_id: Id, body: Move) -> ComputerRow:
    """Put a computer at another location."""
    with here.database.session() as session:
        found = place_for(session, who, Computer, computer_id, Permission.OPERATE)
        place_for(session, who, Location, body.location_id, Permission.OPERATE)
        places.move(session, found, body.location_id, actor=who.name, allow_move=body.allow_move)
        return reads.computer_rows(session, [found], here.settings.online_seconds)[0]


@router.post("/computers/{computer_id}/retire")
def retire_computer(here: Here, who: Who, computer_id: Id) -> ComputerRow:
    """Mark a computer as retired: it is kept, and no run touches it. Nothing is removed from it."""
    with here.database.session() as session:
        found = place_for(session, who, Computer, computer_id, Permission.OPERATE)
        places.retire(session, found, actor=who.name)
        return reads.computer_rows(session, [found], here.settings.online_seconds)[0]


@router.post("/computers/{computer_id}/unretire")
def unretire_computer(here: Here, who: Who, computer_id: Id) -> ComputerRow:
    """Take a computer back into service."""
    with here.database.session() as session:
        found = place_for(session, who, Computer, computer_id, Permission.OPERATE)
        places.unretire(session, found, actor=who.name)
        return reads.computer_rows(session, [found], here.settings.online_seconds)[0]


@router.post("/computers/{computer_id}/probe")
def probe_computer(here: Here, who: Who, computer_id: Id) -> ProbeOut:
    """Look from outside whether a computer is there; one that answers was in contact now. At most 5 seconds."""
    with here.database.reading() as session:
        place_for(session, who, Computer, computer_id, Permission.OPERATE)
    found: dict[int, Identification] = {}
    probe_contacts(here, computer_ids=[computer_id], report=lambda i, answer: found.update({i: answer}))
    answer = found.get(computer_id)
    if answer is None:
        return ProbeOut(reachable=False, seconds=0, detail="it has no transport, or is retired")
    return ProbeOut(reachable=answer.reachable, seconds=round(answer.seconds, 3), detail=answer.detail)


@router.put("/computers/{computer_id}/maintenance")
def start_maintenance(here: Here, who: Who, computer_id: Id, body: Maintenance) -> MaintenanceOut:
    """Dispatch nothing to a computer for some minutes."""
    with here.database.session() as session:
        place_for(session, who, Computer, computer_id, Permission.OPERATE)
        groups.maintenance_on(session, computer_id, minutes=body.minutes, actor=who.name)
        return MaintenanceOut(in_maintenance=True)


@router.delete("/computers/{computer_id}/maintenance")
def end_maintenance(here: Here, who: Who, computer_id: Id) -> MaintenanceOut:
    """End present and future maintenance of a computer."""
    with here.database.session() as session:
        place_for(session, who, Computer, computer_id, Permission.OPERATE)
        ended = groups.maintenance_off(session, computer_id, actor=who.name)
        return MaintenanceOut(in_maintenance=False, ended=ended)


@router.put("/computers/{computer_id}/alerting")
def set_alerting(here: Here, who: Who, computer_id: Id, body: Alerting) -> AlertingOut:
    """Say when a computer may be alerted on: not at all, or only between two times of the day."""
    with here.database.session() as session:
        place_for(session, who, Computer, computer_id, Permission.OPERATE)
        data = groups.set_alerting(
            session, computer_id, actor=who.name, no_alerts=body.no_alerts, window=body.window,
            clear_window=body.clear_window,
        )  # fmt: skip
        return AlertingOut(**data.model_dump(), time_zone=here.settings.time_zone)


@router.get("/computers/{computer_id}/software")
def list_software(here: Here, who: Who, computer_id: Id) -> list[SoftwareOut]:
    """What was last seen on a computer, with the uninstall strings."""
    with here.database.reading() as session:
        place_for(session, who, Computer, computer_id)
        return [SoftwareOut.model_validate(s) for s in software.list_software(session, computer_id)]
