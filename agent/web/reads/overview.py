"""What stands out now: running, held, failed, planned, flagged."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from pydantic import BaseModel
from sqlalchemy import or_
from sqlmodel import Session, col, func, select

from agent.inventory.flags import OFFBOARD, FieldSets
from agent.inventory.reach import flagged_count
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.fields import Form
from agent.model.places import Client, Computer, Contact, Location
from agent.model.runs import ACTIVE_RUN_STATES, RunState, ScriptRun
from agent.model.tickets import Ticket
from agent.web.reads.paging import among
from agent.web.reads.runs import RunRow, runs

#: Failed runs count so long.
RECENT = timedelta(days=7)
#: Flagged computers are counted up to here, and so many standing flags of each level are named.
MOST, STANDING = 10_000, 25


class Figure(BaseModel):
    """A number and where its rows are."""

    label: str
    count: int
    address: str
    #: From here on it is not counted further.
    most: int | None = None

    @property
    def shown(self) -> str:
        """The number as people read it."""
        return f"{self.count:,}" + ("+" if self.count == self.most else "")


class Standing(BaseModel):
    """A client's or location's flag that is set. Without an address: the default of the field, which flags all."""

    path: str
    field: str
    address: str | None = None


class Leaver(BaseModel):
    """Somebody whose offboarding is planned."""

    id: str
    name: str
    client: str
    #: When it starts; null: with the last day.
    scheduled_for: datetime | None
    last_day: str | None


class Overview(BaseModel):
    """The first page."""

    #: False: one sees no client yet, and there is nothing to look at.
    has_places: bool
    figures: list[Figure]
    standing_flags: list[Standing]
    #: Runs that wait for somebody: held, or not well in the last days.
    attention: list[RunRow]
    leavers: list[Leaver]
    last_runs: list[RunRow]


def overview(session: Session, clients: Collection[int] | None, *, online_seconds: int) -> Overview:
    """What one may see of it. `clients`: ids, or None for all."""
    count = func.count()
    active = (
        select(col(ScriptRun.state), count)
        .where(col(ScriptRun.parent_id).is_(None), among(col(ScriptRun.client_id), clients))
        .where(col(ScriptRun.state).in_(ACTIVE_RUN_STATES))
        .group_by(col(ScriptRun.state))
    )
    by_state: dict[str, int] = dict(session.exec(active).all())
    failed = session.scalar(
        select(count).where(
            col(ScriptRun.parent_id).is_(None), among(col(ScriptRun.client_id), clients),
            col(ScriptRun.state).in_((RunState.FAILED, RunState.PARTIAL, RunState.UNKNOWN)),
            col(ScriptRun.finished_at) > utcnow() - RECENT,
        )
    )  # fmt: skip
    waiting = by_state.get(RunState.QUEUED, 0) + by_state.get(RunState.PLANNED, 0)
    figures = [
        Figure(label="running", count=by_state.get(RunState.RUNNING, 0), address="/runs?state=running"),
        Figure(label="held for approval", count=by_state.get(RunState.HELD, 0), address="/runs?state=held"),
        Figure(label="waiting", count=waiting, address="/runs?state=queued&state=planned"),
        Figure(label="not well in 7 days", count=failed or 0, address="/runs?state=failed&state=partial&state=unknown"),
        *_flagged(session, clients, online_seconds),
        *_open(session, clients),
    ]
    a_client = select(Client.client_id).where(among(col(Client.client_id), clients)).limit(1)
    return Overview(
        has_places=session.exec(a_client).first() is not None,
        figures=figures, standing_flags=_standing(session, clients), attention=_attention(session, clients),
        leavers=_leavers(session, clients), last_runs=runs(session, clients, limit=8).items,
    )  # fmt: skip


def _flagged(session: Session, clients: Collection[int] | None, online_seconds: int) -> list[Figure]:
    """Computers that a flag reaches, and those of them that must come online first."""
    seen = (among(col(Computer.client_id), clients), col(Computer.retired_at).is_(None))
    since = utcnow() - timedelta(seconds=online_seconds)
    away = or_(col(Computer.last_contact).is_(None), col(Computer.last_contact) <= since)
    address = "/inventory/computers?flagged=yes"
    return [
        Figure(label="computers flagged", count=flagged_count(session, *seen, limit=MOST), address=address, most=MOST),
        Figure(
            label="flagged and offline", count=flagged_count(session, *seen, away, limit=MOST),
            address=f"{address}&state=offline", most=MOST,
        ),
    ]  # fmt: skip


def _open(session: Session, clients: Collection[int] | None) -> list[Figure]:
    """What people have to do."""
    planned = (
        select(func.count()).select_from(ContactOffboarding).where(
            col(ContactOffboarding.run_id).is_(None), col(ContactOffboarding.removed_at).is_(None),
            among(col(ContactOffboarding.client_id), clients),
        )
    )  # fmt: skip
    tasks = (
        select(func.count())
        .select_from(ManualTask)
        .where(col(ManualTask.state) == "open", among(col(ManualTask.client_id), clients))
    )
    tickets = (
        select(func.count())
        .select_from(Ticket)
        .where(col(Ticket.closed_at).is_(None), among(col(Ticket.client_id), clients))
    )
    return [
        Figure(label="people planned", count=session.scalar(planned) or 0, address="/offboardings?state=planned"),
        Figure(label="open tasks", count=session.scalar(tasks) or 0, address="/tasks?state=open"),
        Figure(label="open tickets", count=session.scalar(tickets) or 0, address="/tickets?status=open"),
    ]


def _attention(session: Session, clients: Collection[int] | None) -> list[RunRow]:
    """The newest runs that are held, or ended otherwise than well lately."""
    states = (RunState.HELD, RunState.FAILED, RunState.PARTIAL, RunState.UNKNOWN)
    found = runs(session, clients, states=states, limit=8).items
    return [run for run in found if run.finished_at is None or run.finished_at > utcnow() - RECENT]


def _standing(session: Session, clients: Collection[int] | None) -> list[Standing]:
    """Flags of clients and locations that are set, the first of each; and defaults that flag everything."""
    fields = FieldSets(session)
    client, location = OFFBOARD[Form.CLIENT], OFFBOARD[Form.LOCATION]
    found = [
        Standing(path=f"every {form.name.lower()}", field=name)
        for form, name in OFFBOARD.items()
        if clients is None and fields.defaults.get((form, name), "0") != "0"
    ]
    of_clients = select(col(Client.client_id), col(Client.name)).where(
        col(Client.client_id).in_(fields.places(Form.CLIENT, client)), among(col(Client.client_id), clients)
    )
    for number, name in session.execute(of_clients.order_by(col(Client.name)).limit(STANDING)):
        found.append(Standing(path=name, field=client, address=f"/clients/{number}"))
    of_locations = (
        select(col(Location.location_id), col(Location.name), col(Client.name))
        .join(Client, col(Client.client_id) == col(Location.client_id))
        .where(col(Location.location_id).in_(fields.places(Form.LOCATION, location)))
        .where(among(col(Location.client_id), clients))
    )
    for number, name, owner in session.execute(of_locations.order_by(col(Location.location_id)).limit(STANDING)):
        found.append(Standing(path=f"{owner}/{name}", field=location, address=f"/locations/{number}"))
    return found


def _leavers(session: Session, clients: Collection[int] | None) -> list[Leaver]:
    """Who leaves next."""
    row, when = ContactOffboarding, func.coalesce(col(Contact.termination_date), "9999")
    query = (
        select(row, Contact.name, Client.name, Contact.termination_date)
        .join(Contact, col(Contact.contact_id) == col(row.contact_id))
        .join(Client, col(Client.client_id) == col(row.client_id))
        .where(col(row.run_id).is_(None), col(row.removed_at).is_(None), among(col(row.client_id), clients))
        .order_by(when, col(row.requested_at))
        .limit(8)
    )
    return [
        Leaver(id=r.id, name=name, client=client, scheduled_for=r.scheduled_for, last_day=day)
        for r, name, client, day in session.exec(query)
    ]
