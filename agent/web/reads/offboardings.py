"""Offboardings of people: the table of seed 003, and one with its inputs, tasks and equipment."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, or_
from sqlmodel import Session, col, select

from agent.access.principal import Permission, Principal
from agent.content.user_inputs import INPUTS
from agent.errors import NotFound, UsageError
from agent.inventory.contacts import equipment_of
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.places import Client, Contact
from agent.model.runs import RunState, ScriptRun
from agent.running.input_layers import DEFAULT
from agent.running.user_offboardings import inputs_now, line_of
from agent.web.reads.paging import LIMIT, Order, Page, among, take

STATES = ("Planned", "Running", "Completed", "Failed")
_WAITING = (RunState.PLANNED, RunState.HELD)
_ACTIVE = (RunState.QUEUED, RunState.RUNNING)
NEWEST = Order(col(ContactOffboarding.requested_at), col(ContactOffboarding.id), descending=True)


class OffboardingRow(BaseModel):
    """One line of the table; `tenant`, `username` and `state` are seed 003's columns."""

    id: str
    contact_id: int
    client_id: int
    tenant: str
    username: str
    name: str
    state: str
    scheduled_for: datetime | None
    executed_at: datetime | None
    requested_by: str
    reference: str | None
    run_id: str | None
    run_state: str | None
    retention_until: datetime | None


class InputValue(BaseModel):
    """One input with where its value comes from."""

    name: str
    description: str
    value: str
    source: str


class OffboardingDetail(BaseModel):
    """One offboarding with all that belongs to it."""

    row: OffboardingRow
    template: str | None
    inputs: list[InputValue]
    #: Why the inputs cannot be told, such as a template that is gone.
    inputs_fault: str | None
    tasks: list[dict[str, Any]]
    equipment: list[dict[str, Any]]


def offboardings(
    session: Session, clients: Collection[int] | None, *, states: Collection[str] = (), client_id: int | None = None,
    contact_id: int | None = None, after: str | None = None, limit: int = LIMIT,
) -> Page[OffboardingRow]:  # fmt: skip
    """Offboardings that are on the list, newest first. `clients`: those that one may see."""
    query: Any = (
        select(ContactOffboarding, Contact, Client, ScriptRun)
        .join(Contact, col(Contact.contact_id) == ContactOffboarding.contact_id)
        .join(Client, col(Client.client_id) == ContactOffboarding.client_id)
        .outerjoin(ScriptRun, col(ScriptRun.id) == ContactOffboarding.run_id)
        .where(col(ContactOffboarding.removed_at).is_(None), among(col(ContactOffboarding.client_id), clients))
    )
    if states:
        query = query.where(or_(*(_in_state(s) for s in states)))
    for column, value in ((ContactOffboarding.client_id, client_id), (ContactOffboarding.contact_id, contact_id)):
        if value is not None:
            query = query.where(col(column) == value)
    rows, following = take(session, query, NEWEST, after=after, limit=limit)
    return Page(items=[_row(*found[:4]) for found in rows], next=following)


def offboarding(session: Session, who: Principal, row_id: str) -> tuple[ContactOffboarding, OffboardingDetail]:
    """One offboarding. Raises NotFound when there is none that one may see."""
    row = session.get(ContactOffboarding, row_id)
    if row is None or not who.can(Permission.SEE, row.client_id):
        raise NotFound(f"there is no offboarding {row_id}")
    contact, client = session.get_one(Contact, row.contact_id), session.get_one(Client, row.client_id)
    run = session.get(ScriptRun, row.run_id) if row.run_id else None
    inputs, fault = _inputs(session, row)
    # A person may have got to another client since.
    mine = (ManualTask.contact_id == row.contact_id, among(col(ManualTask.client_id), who.clients()))
    tasks = session.exec(select(ManualTask).where(*mine).order_by(col(ManualTask.created_at)))
    things = equipment_of(session, contact_id=row.contact_id) if who.can(Permission.SEE, contact.client_id) else []
    return row, OffboardingDetail(
        row=_row(row, contact, client, run), template=row.template, inputs=inputs, inputs_fault=fault,
        tasks=[t.model_dump() for t in tasks],
        equipment=[e.model_dump() for e in things],
    )  # fmt: skip


def _inputs(session: Session, row: ContactOffboarding) -> tuple[list[InputValue], str | None]:
    if row.resolved:
        document = {n: d for n, d in row.resolved.items() if n in INPUTS}
    else:
        try:
            document = inputs_now(session, row).document()
        except UsageError as error:
            return [], str(error)
    told = [
        InputValue(name=n, description=INPUTS[n].description, value=d["value"], source=d["source"])
        for n, d in document.items()
    ]
    return sorted(told, key=lambda i: i.source == DEFAULT), None


def _row(row: ContactOffboarding, contact: Contact, client: Client, run: ScriptRun | None) -> OffboardingRow:
    line = line_of(row, contact, client, run)
    known = {name: getattr(line, name) for name in OffboardingRow.model_fields if hasattr(line, name)}
    return OffboardingRow(**known, contact_id=row.contact_id, client_id=row.client_id)


def _in_state(state: str) -> ColumnElement[bool]:
    run = col(ScriptRun.state)
    return {
        "Planned": or_(col(ContactOffboarding.run_id).is_(None), run.in_(_WAITING)),
        "Running": run.in_(_ACTIVE),
        "Completed": run == RunState.SUCCEEDED,
        "Failed": run.not_in((*_WAITING, *_ACTIVE, RunState.SUCCEEDED)),
    }[state]
