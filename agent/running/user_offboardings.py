"""Offboardings of people: plan one, plan many, start now, start the security phase at once, list, take off the list.

Command line, console and Python callers call these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlmodel import Session, col, select

from agent import audit
from agent.content.user_inputs import INPUTS, parameter
from agent.errors import Conflict, NotFound, UsageError
from agent.functions.contacts import tell_security
from agent.installation import Installation
from agent.inventory import contacts, field_values, places
from agent.inventory.contacts import find_person
from agent.inventory.effective import effective_values
from agent.inventory.lookup import find, get, place_id
from agent.inventory.retention import deletion_refusal
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.fields import Form
from agent.model.places import Client, Contact
from agent.model.runs import RunState, ScriptRun
from agent.running import verbs
from agent.running.guardrails import EXCLUSION
from agent.running.input_layers import Resolved
from agent.running.planning import DraftPlan, StoredPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.targets import load_target
from agent.running.user_inputs import Asked, pending, resolve
from agent.services import manual_tasks

if TYPE_CHECKING:
    from agent.running.doorbell import Port

WRAPPER = "User Offboarding Wrapper"
SECURITY_PHASE = "User Offboarding - 1 Initial Security Actions"
DELETION = "User Offboarding - 8 Scheduled Deletion"
OPTIONS_FIELD = "Offboarding Options"
#: A clock may be off by this much before a time counts as past.
_LATE = timedelta(minutes=5)
#: Inputs that also belong on the contact's own record.
_ON_RECORD = ("termination_date", "last_working_day", "termination_type", "reason_for_leaving", "employee_id")


@dataclass(frozen=True)
class Request:
    """One person to be offboarded. `given`: input -> value, as text or typed.

    `at`: a date with a time (ISO 8601; without an offset in the person's time zone) when it shall begin; None: it follows
    the termination date, or begins now where there is none.
    """

    person: str
    client: str | None = None
    given: Mapping[str, Any] | None = None
    template: str | None = None
    at: str | None = None


@dataclass(frozen=True)
class Planned:
    """A planned offboarding with its inputs as they are now."""

    row: ContactOffboarding
    contact: Contact
    resolved: Resolved
    #: None: as soon as somebody starts it.
    due: datetime | None
    #: Nobody named a later time.
    begins_now: bool


@dataclass(frozen=True)
class Checked:
    """A request that can be planned."""

    contact: Contact
    resolved: Resolved
    #: The exact time, if one was given.
    at: datetime | None
    #: Nobody named a later time: not the request, and not the contact's record.
    begins_now: bool


def check(session: Session, request: Request, *, actor: str) -> Checked:
    """Who is meant, all inputs, and when it begins. Changes nothing.

    Raises NotFound, Conflict or UsageError with what is wrong and the way out.
    """
    client = find(session, Client, request.client) if request.client else None
    contact = find_person(session, place_id(client) if client else None, request.person)
    if effective_values(session, load_target(session, "contact", place_id(contact)).places).is_set_anywhere(EXCLUSION):
        raise Conflict(f"{contact.name} is excluded: the extra field {EXCLUSION!r} is set on the person or around")
    given = dict(request.given or {})
    if given.get("delete_user") in (True, "1", "true", "yes"):
        refusal = deletion_refusal(session, place_id(contact))
        now = (
            f"now it is refused: {refusal.reason}" if refusal
            else f'nothing holds it back now: exeunt script run "{DELETION}" --contact id:{contact.contact_id}'
        )  # fmt: skip
        raise UsageError(f"an account is not deleted at once: `{DELETION}` runs when the retention is over; {now}")
    at = contacts.moment_of(request.at, contact.timezone) if request.at else None
    if at is not None and at < utcnow() - _LATE:
        raise UsageError(f"{request.at} lies in the past; leave the date out to offboard the person now")
    if request.at and "termination_date" not in given:
        given["termination_date"] = request.at[:10]
    undated = not request.at and not given.get("termination_date") and not contact.termination_date
    if undated:
        given["termination_date"] = utcnow().date().isoformat()
    resolved = resolve(session, contact, Asked(given, request.template, actor, strict=True))
    day = parameter(resolved.values.termination_date)
    begins = at or contacts.day_begins(day)
    return Checked(contact, resolved, at, undated or begins <= utcnow())


def plan(session: Session, request: Request, *, actor: str, replace: bool = False) -> Planned:
    """Store a planned offboarding; a monitor starts it when its time has come. The contact's record gets the dates.

    Raises as `check`; Conflict when one is planned already (unless `replace`) or under way.
    """
    checked = check(session, request, actor=actor)
    contact, resolved = checked.contact, checked.resolved
    row = pending(session, place_id(contact))
    if row is not None and not replace:
        raise Conflict(
            f"an offboarding of {contact.name} is planned already ({row.id}): delete it first, or replace it explicitly"
        )
    row = row or ContactOffboarding(contact_id=place_id(contact), client_id=contact.client_id, requested_by=actor)
    row.inputs = {n: parameter(getattr(resolved.values, n)) for n in INPUTS if resolved.sources[n] == "given"}
    row.template, row.scheduled_for, row.requested_by = request.template, checked.at, actor
    row.termination_date = parameter(resolved.values.termination_date) or None
    row.reference = resolved.values.reference or None
    session.add(row)
    session.flush()
    _keep_on_record(session, contact, resolved, actor)
    audit.record(
        session, actor=actor, action="offboarding.plan", object_kind="offboarding", object_id=row.id,
        client_id=contact.client_id,
        details={"contact": contact.name, "given": row.inputs, "template": row.template, "scheduled_for": checked.at},
    )  # fmt: skip
    return Planned(row, contact, resolved, due(row, contact), checked.begins_now)


def _keep_on_record(session: Session, contact: Contact, resolved: Resolved, actor: str) -> None:
    values = {n: parameter(getattr(resolved.values, n)) for n in _ON_RECORD if resolved.sources[n] == "given"}
    places.change(session, contact, actor=actor, **values)
    names = {item.name.casefold() for item in contacts.equipment_of(session, contact_id=contact.contact_id)}
    last = resolved.values.last_working_day
    due_on = last + timedelta(days=resolved.values.asset_return_days) if last else None
    for name in resolved.values.equipment_to_return:
        if name.casefold() not in names:
            contacts.assign(session, contact, name, actor=actor, due=parameter(due_on) or None)
    given = "; ".join(f"{n}={parameter(getattr(resolved.values, n))}" for n in INPUTS if resolved.sources[n] == "given")
    if given:
        field_values.set_value(session, Form.CONTACT, place_id(contact), OPTIONS_FIELD, given, actor=actor)


def due(row: ContactOffboarding, contact: Contact) -> datetime | None:
    """When a planned offboarding begins: its own time, else noon (UTC) of the contact's termination date."""
    if row.scheduled_for is not None:
        return row.scheduled_for
    return contacts.day_begins(contact.termination_date) if contact.termination_date else None


# --- starting


def draft_now(
    installation: Installation, row_ids: Sequence[str], *, actor: str, reason: str | None = None
) -> DraftPlan:
    """What starting these offboardings now would do. Changes nothing. Raises NotFound, Conflict for one under way."""
    requests = []
    with installation.database.reading() as session:
        for row_id in row_ids:
            row = find_row(session, row_id)
            if state_of(session, row) == "Running":
                raise Conflict(f"the offboarding {row.id} is under way (run {row.run_id})")
            contacts.same_client(session, row.contact_id, row.client_id)
            request = RunRequest(WRAPPER, "contact", row.contact_id, levels=("planned",), known={"offboarding": row.id})
            requests.append(request)
    return draft_plan(installation, requests, PlanOrigin(actor, reason=reason))


def start(installation: Installation, port: Port, draft: DraftPlan, *, actor: str) -> StoredPlan:
    """Store and release a draft, unless a guardrail holds it. Raises Conflict when nothing is left of it."""
    if not draft.targets:
        reasons = "; ".join(f"{s['computer']}: {s['reason']}" for s in draft.skipped)
        raise Conflict(f"nothing can be started: {reasons}")
    stored = store_plan(installation, draft)
    if stored.state == "planned":
        verbs.release(installation, port, stored.id, actor=actor)
    return stored


def run_now(
    installation: Installation, port: Port, row_ids: Sequence[str], *, actor: str, reason: str | None = None
) -> StoredPlan:
    """Start offboardings now, whatever date they were planned for; one that is over runs again."""
    return start(installation, port, draft_now(installation, row_ids, actor=actor, reason=reason), actor=actor)


def draft_security(installation: Installation, row_id: str, *, actor: str) -> DraftPlan:
    """The security phase as runs of its own, one per child script of the client, which run beside each other."""
    with installation.database.reading() as session:
        row = find_row(session, row_id)
        slug = get(session, Client, row.client_id).slug
    children = installation.content.children(SECURITY_PHASE, slug).scripts
    known = {"offboarding": row.id, "security_phase": True}
    requests = [RunRequest(c.name, "contact", row.contact_id, known=known) for c in children]
    return draft_plan(installation, requests, PlanOrigin(actor, reason="high risk: immediate_disable"))


def start_security(installation: Installation, port: Port, draft: DraftPlan, row_id: str, *, actor: str) -> StoredPlan:
    """Tell security, ask for the badge, and start the security phase of a high-risk offboarding at once.

    The rest follows at its own time. The notice and the task are stored before anything is started.
    """
    if not draft.targets:
        raise Conflict("the security phase cannot be started: " + "; ".join(s["reason"] for s in draft.skipped))
    with installation.database.session() as session:
        row = find_row(session, row_id)
        contact = get(session, Contact, row.contact_id)
        inputs = draft.targets[0].run.context["inputs"]
        told = None
        if inputs["notify_security_team"]["value"] == "1":
            told = tell_security(session, contact, row.id, inputs, run_id=None, by=actor)
        for matter, title, owner in (
            ("badge", f"Disable the badge and physical access of {contact.name} now", "Facilities"),
            *(
                (("security_review", f"Tell the security team about {contact.name}: nobody is named", "IT"),)
                if told is None
                else ()
            ),
        ):
            manual_tasks.create(
                session, client_id=row.client_id, contact_id=row.contact_id, title=title, matter=matter, owner=owner,
                author=WRAPPER, origin=manual_tasks.security_origin(row.id, matter), due=utcnow().date().isoformat(),
            )  # fmt: skip
    stored = store_plan(installation, draft)
    with installation.database.session() as session:
        row = find_row(session, row_id)
        row.security_plan_id = stored.id
        session.add(row)
    if stored.state == "planned":
        verbs.release(installation, port, stored.id, actor=actor)
    return stored


# --- the list


@dataclass(frozen=True)
class Listed:
    """One line of the list of offboardings (seed 003)."""

    id: str
    tenant: str
    username: str
    name: str
    #: Planned, Running, Completed or Failed
    state: str
    scheduled_for: datetime | None
    executed_at: datetime | None
    requested_by: str
    reference: str | None
    run_id: str | None
    run_state: str | None
    retention_until: datetime | None
    #: Tasks, retention and the like are on record although it is off the list.
    removed: bool = False


def state_of(session: Session, row: ContactOffboarding) -> str:
    """Planned, Running, Completed or Failed; a run that is held for an approval is still planned."""
    run = session.get(ScriptRun, row.run_id) if row.run_id else None
    return _state(run)


def _state(run: ScriptRun | None) -> str:
    if run is None or run.state in (RunState.PLANNED, RunState.HELD):
        return "Planned"
    if run.state in (RunState.QUEUED, RunState.RUNNING):
        return "Running"
    return "Completed" if run.state == RunState.SUCCEEDED else "Failed"


def listed(
    session: Session, *, client_id: int | None = None, state: str | None = None, contact_id: int | None = None,
    with_removed: bool = False, limit: int = 200,
) -> list[Listed]:  # fmt: skip
    """Offboardings, the newest first."""
    query = (
        select(ContactOffboarding, Contact, Client, ScriptRun)
        .join(Contact, col(Contact.contact_id) == ContactOffboarding.contact_id)
        .join(Client, col(Client.client_id) == ContactOffboarding.client_id)
        .outerjoin(ScriptRun, col(ScriptRun.id) == ContactOffboarding.run_id)
        .order_by(col(ContactOffboarding.requested_at).desc(), col(ContactOffboarding.id))
    )
    for column, value in ((ContactOffboarding.client_id, client_id), (ContactOffboarding.contact_id, contact_id)):
        if value is not None:
            query = query.where(column == value)
    if not with_removed:
        query = query.where(col(ContactOffboarding.removed_at).is_(None))
    found: list[Listed] = []
    for row, contact, client, run in session.exec(query):
        line = line_of(row, contact, client, run)
        if state is None or line.state == state:
            found.append(line)
        if len(found) == limit:
            break
    return found


def line_of(row: ContactOffboarding, contact: Contact, client: Client, run: ScriptRun | None) -> Listed:
    """One line of the list."""
    return Listed(
        id=row.id, tenant=client.name, username=contact.upn or contact.email or contact.external_id, name=contact.name,
        state=_state(run), scheduled_for=due(row, contact) if row.run_id is None else row.scheduled_for or row.started_at,
        executed_at=run.started_at if run is not None else None, requested_by=row.requested_by, reference=row.reference,
        run_id=row.run_id, run_state=str(run.state) if run is not None else None, retention_until=row.retention_until,
        removed=row.removed_at is not None,
    )  # fmt: skip


def find_row(session: Session, given: str) -> ContactOffboarding:
    """The offboarding with that id, or with the only id that begins so. Raises NotFound, UsageError when several do."""
    query = select(ContactOffboarding).where(col(ContactOffboarding.id).startswith(given, autoescape=True))
    found = session.exec(query.limit(2)).all() if given else []
    if not found:
        raise NotFound(f"there is no offboarding {given!r}; `exeunt offboard list` shows them")
    if len(found) > 1 and found[0].id != given:
        raise UsageError(f"several offboardings begin with {given!r}: write more of the id")
    return found[0]


def remove(session: Session, row_ids: Sequence[str], *, actor: str) -> list[str]:
    """Take offboardings off the list: one that is planned will not start. What was done stays on record. All or none.

    Raises NotFound; Conflict for one under way.
    """
    rows = [find_row(session, row_id) for row_id in row_ids]
    for row in rows:
        if state_of(session, row) == "Running":
            raise Conflict(f"the offboarding {row.id} is under way: cancel its run {row.run_id} first")
    for row in rows:
        if row.removed_at is None:
            row.removed_at, row.removed_by = utcnow(), actor
            session.add(row)
            audit.record(
                session, actor=actor, action="offboarding.delete", object_kind="offboarding", object_id=row.id,
                client_id=row.client_id, details={"state": state_of(session, row), "contact": row.contact_id},
            )  # fmt: skip
    return [row.id for row in rows]


def inputs_now(session: Session, row: ContactOffboarding) -> Resolved:
    """The inputs of a planned offboarding as they would be if it began now. Raises UsageError."""
    contact = get(session, Contact, row.contact_id)
    return resolve(session, contact, Asked(row.inputs, row.template, row.requested_by))
