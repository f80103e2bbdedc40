"""What the inventory knows of a leaver: the person, the things to give back, the retention. For exit reports and messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlmodel import Session, col, or_, select

from agent.inventory.effective import effective_values
from agent.model.contacts import ContactOffboarding, ManualTask
from agent.model.places import Contact, Equipment
from agent.model.runs import ScriptRun

RETENTION_FIELD = "offboarding_retention_days"
#: Kinds of equipment that let somebody in: where they stand in the report, and what their number is called there.
_CREDENTIALS = {
    "badge": ("building_access_badge", "badge_id"), "building access badge": ("building_access_badge", "badge_id"),
    "parking pass": ("parking_pass", "pass_id"), "parking permit": ("parking_pass", "pass_id"),
    "keys": ("office_keys", "key_set_id"), "key": ("office_keys", "key_set_id"), "office keys": ("office_keys", "key_set_id"),
}  # fmt: skip
_CREDIT_CARDS = ("credit card", "company credit card")
#: What a task is about -> the thing of the report that it deactivates or collects.
_OF_MATTER = {
    "badge": "building_access_badge", "parking": "parking_pass", "keys": "office_keys", "credit_card": "credit_card",
}  # fmt: skip
_STATUS = {"assigned": "Return pending", "returned": "Returned", "missing": "Missing", "damaged": "Returned damaged"}
WITH_THE_LEAVER = ("assigned", "missing")


@dataclass(frozen=True)
class Retention:
    """How long the leaver's data is kept. None: not configured."""

    days: int | None
    deletion_on: str | None
    legal_hold: bool | None


def employee_info(session: Session, contact: Contact | None, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The section `employee_info`. What the run was given counts before what the inventory says; unknown is None.

    `name`: that of the run's target, for a person whose record is gone.
    """
    manager = session.get(Contact, contact.manager_id) if contact is not None and contact.manager_id else None
    known: dict[str, Any] = {} if contact is None else contact.model_dump()

    def first(*names: str) -> str | None:
        return next((str(v) for n in names for v in (inputs.get(n), known.get(n)) if v), None)

    address = first("manager_email") or (manager.email or None if manager else None)
    if contact is not None and address is not None and (manager is None or manager.email != address):
        same = select(Contact).where(Contact.client_id == contact.client_id, Contact.email == address).limit(2)
        found = session.exec(same).all()
        manager = found[0] if len(found) == 1 else None
    end = first("termination_date")
    last = first("last_working_day") or end
    return {
        "employee_id": first("employee_id"),
        "full_name": (contact.name if contact else None) or name,
        "email": first("employee_email", "email"),
        "department": first("department"),
        "job_title": first("job_title"),
        "manager": manager.name if manager else None,
        "manager_email": address,
        "termination_date": end,
        "last_working_day": last,
        "termination_type": first("termination_type"),
        "employment_duration": duration(first("start_date"), last),
    }


def duration(start: str | None, end: str | None) -> str | None:
    """`2 years, 3 months` between two days (YYYY-MM-DD); None when one is not known, or they are in the wrong order."""
    if start is None or end is None:
        return None
    try:
        first, last = date.fromisoformat(start), date.fromisoformat(end)
    except ValueError:
        return None
    months = (last.year - first.year) * 12 + last.month - first.month - (last.day < first.day)
    if last < first:
        return None
    words = [f"{n} {unit}{'' if n == 1 else 's'}" for n, unit in ((months // 12, "year"), (months % 12, "month")) if n]
    return ", ".join(words) or "less than a month"


def inputs_of(session: Session, run: ScriptRun | None) -> dict[str, Any]:
    """What a run was given: the inputs of its offboarding as they were resolved, else its parameters."""
    if run is None:
        return {}
    given = {n: f["value"] for n, f in run.parameters.items() if isinstance(f, Mapping) and "value" in f}
    offboarding = _offboarding(session, run.id)
    resolved = (offboarding.resolved or {}) if offboarding else {}
    return {**given, **{n: f["value"] for n, f in resolved.items() if isinstance(f, Mapping) and "value" in f}}


def retention(
    session: Session, places: Mapping[str, Mapping[str, Any] | None], run_id: str, inputs: Mapping[str, Any]
) -> Retention:
    """The retention that counts for a person: an input of the run, else the field of the person, location or client.

    A deletion is scheduled only once its day is stored, and never while a legal hold is set.
    """
    contact = places.get("contact")
    days = _number(inputs.get(RETENTION_FIELD))
    if days is None:
        days = _number(effective_values(session, places).get(RETENTION_FIELD))
    hold = None if contact is None else bool(contact.get("legal_hold"))
    offboarding = _offboarding(session, run_id)
    until = offboarding.retention_until if offboarding and offboarding.delete_after_retention and not hold else None
    return Retention(days, until.date().isoformat() if until else None, hold)


def _offboarding(session: Session, run_id: str) -> ContactOffboarding | None:
    return session.exec(select(ContactOffboarding).where(ContactOffboarding.run_id == run_id)).first()


def _number(value: Any) -> int | None:
    text = str(value or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def equipment_of(session: Session, contact_id: int) -> list[Equipment]:
    """What a person has or had, in the order of entry."""
    query = select(Equipment).where(Equipment.contact_id == contact_id).order_by(col(Equipment.equipment_id))
    return list(session.exec(query))


def tasks_of(session: Session, run: ScriptRun) -> list[ManualTask]:
    """The tasks for people that an offboarding made, and others about the same person, in the order of entry."""
    mine = or_(col(ManualTask.run_id) == run.id, col(ManualTask.contact_id) == run.target_id)
    query = select(ManualTask).where(mine, ManualTask.client_id == run.client_id).order_by(col(ManualTask.id))
    return list(session.exec(query))


def assets(
    equipment: Iterable[Equipment], tasks: Iterable[ManualTask], tickets: Mapping[int, str],
    measured: Mapping[str, tuple[bool | None, list[str]]], wiped: Mapping[str, str | None],
) -> dict[str, Any]:  # fmt: skip
    """The section `assets_tracking`. A second badge or set of keys stands among the equipment.

    `tickets`: id of a thing -> the ticket about its return. `measured`: thing -> whether a step deactivated it, and the
    numbers that its system showed. `wiped`: serial number or IMEI (small letters) -> when a wipe was asked for.

    Whether a badge, pass or card is deactivated is what the step or the task about it says; without one it is not known.
    One that only its system knows stands here too; whether it must be returned is not known then.
    """
    off: dict[str, bool | None] = {
        _OF_MATTER[t.matter]: t.state == "done" for t in tasks if t.matter in _OF_MATTER and t.state != "cancelled"
    }
    off |= {thing: True if closed or off.get(thing) else closed for thing, (closed, _) in measured.items()}
    to_return: list[dict[str, Any]] = []
    credentials: dict[str, Any] = {}
    card: dict[str, Any] | None = None
    for thing in equipment:
        place = _CREDENTIALS.get(thing.kind.strip().lower())
        if place is not None and place[0] not in credentials:
            credentials[place[0]] = _credential(thing, *place, off.get(place[0]))
        elif thing.kind.strip().lower() in _CREDIT_CARDS and card is None:
            deactivated = off.get("credit_card")
            card = {"card_last_four": _last_four(thing), "deactivated": deactivated, "final_statement_pending": None}
        else:
            to_return.append(_thing(thing, tickets.get(thing.equipment_id or 0)) | _wipe(thing, wiped))
    for name, number in dict(_CREDENTIALS.values()).items():
        if name not in credentials and name in measured and measured[name][1]:
            credentials[name] = {
                number: ", ".join(measured[name][1]), "deactivated": off[name], "return_required": None, "status": None,
            }  # fmt: skip
    cards = measured.get("credit_card", (None, []))[1]
    if cards and card is None:
        four = cards[0] if len(cards) == 1 and re.fullmatch("[0-9]{4}", cards[0]) else None
        card = {"card_last_four": four, "deactivated": off["credit_card"], "final_statement_pending": None}
    return {"equipment_to_return": to_return, "access_credentials": credentials, "company_credit_card": card}


def pending_return(equipment: Iterable[Equipment]) -> list[Equipment]:
    """What has not come back."""
    return [e for e in equipment if e.state in WITH_THE_LEAVER]


def _thing(thing: Equipment, ticket: str | None) -> dict[str, Any]:
    status = "Return ticket created" if ticket and thing.state == "assigned" else _STATUS[thing.state]
    return {
        "asset_type": thing.kind or thing.name, "asset_tag": thing.asset_tag or None, "model": thing.name,
        "serial_number": thing.serial or None, "quantity": thing.quantity, "status": status,
        "ticket_id": ticket, "expected_return_date": thing.due,
    }  # fmt: skip


def _wipe(thing: Equipment, wiped: Mapping[str, str | None]) -> dict[str, Any]:
    """What a wipe of the thing changes in its entry."""
    serial = thing.serial.strip().casefold()
    number = next((n for n in (serial, serial.removeprefix("imei").strip(" :")) if n and n in wiped), None)
    if number is None:
        return {}
    status = {"status": "Remote wipe initiated"} if thing.state == "assigned" else {}
    return {**status, "wipe_timestamp": wiped[number]}


def _credential(thing: Equipment, place: str, number: str, deactivated: bool | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        number: thing.asset_tag or thing.serial or None, "deactivated": deactivated,
        "return_required": thing.state in WITH_THE_LEAVER, "status": _STATUS[thing.state],
    }  # fmt: skip
    if place == "office_keys":
        shown = {"quantity": thing.quantity, **{k: v for k, v in shown.items() if k != "deactivated"}}
    return shown


def _last_four(thing: Equipment) -> str | None:
    digits = "".join(c for c in thing.serial or thing.asset_tag if c.isascii() and c.isdigit())
    return digits[-4:] if len(digits) >= 4 else None
