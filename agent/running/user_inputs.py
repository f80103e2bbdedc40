"""The inputs of one offboarding, put together from the database: what was given, the contact, templates, client fields.

Order: given, the contact's record, the named template, the client's template, the client's fields, the user's own template,
everybody's template, the shipped default. Who plans by hand must say all that is required; what a monitor starts goes on
without it and tells, since an open account is worse than a mailbox without a delegate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from agent.content.definitions import ScriptDefinition
from agent.content.user_inputs import INPUTS, UserInputs
from agent.errors import NotFound, UsageError
from agent.inventory.contacts import manager_address, not_there
from agent.inventory.effective import effective_values
from agent.inventory.lookup import get
from agent.inventory.offboarded_accounts import offboarded_accounts
from agent.inventory.retention import last_offboarding
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding, OffboardingTemplate, OffboardingTemplateUse
from agent.model.places import Client, Contact
from agent.running.input_layers import RECEIVERS, Layer, Resolved, combine, read, without_unusable
from agent.running.requests import RunRequest

#: Levels of the due monitor that somebody asked for person by person.
PLANNED = "planned"
_HOW = {
    "employee_email": "set the contact's address: exeunt inventory set --contact ... email=...",
    "termination_date": "--date YYYY-MM-DD, or set termination_date on the contact",
    "termination_type": "--type, or set termination_type on the contact",
    "manager_email": "--manager ADDRESS, or set the contact's manager",
}


@dataclass(frozen=True)
class Asked:
    """What is known about who asks for what."""

    given: Mapping[str, Any]
    template: str | None = None
    actor: str = ""
    #: By hand: what is required must be there, and every receiver must exist.
    strict: bool = False


def resolve(session: Session, contact: Contact, asked: Asked, *, now: datetime | None = None) -> Resolved:
    """All inputs with their sources. Raises UsageError for what cannot be, naming the source and the way out."""
    now = now or utcnow()
    client = get(session, Client, contact.client_id)
    given = Layer("given", _person_checked(contact, client, asked.given))
    if asked.strict:
        check_dates(given, now)
    layers = [given, _contact_layer(session, contact), *_option_layers(session, client, asked)]
    layers, warnings = (layers, []) if asked.strict else without_unusable(layers)
    resolved = combine(layers, contractor_days=_contractor_days(session, contact))
    values, sources = resolved.values.model_dump(), dict(resolved.sources)
    missing = [name for name, item in INPUTS.items() if item.required and values[name] in ("", None)]
    if missing and asked.strict:
        raise UsageError("; ".join(f"{name} is not known: {_HOW[name]}" for name in missing))
    warnings += [f"{name} is not known" for name in missing]
    warnings += _drop_missing(session, contact, asked, values, sources)
    return Resolved(UserInputs.model_validate(values), sources, tuple(warnings))


def without_person(session: Session, client: Client, asked: Asked) -> Resolved:
    """The inputs as far as they are known before anybody is named: what a form shows, and what it would turn off.

    Raises UsageError for values that cannot be or contradict each other, NotFound for an unknown template.
    """
    return combine([Layer("given", asked.given), *_option_layers(session, client, asked)])


def check_dates(given: Layer, now: datetime) -> None:
    """Raises UsageError for a termination date that is over everywhere on earth."""
    day = read(given).get("termination_date")
    earliest = (now - timedelta(hours=12)).date()
    if isinstance(day, date) and day < earliest:
        raise UsageError(f"termination_date: {day} lies in the past; leave it out to offboard the person now")


def _person_checked(contact: Contact, client: Client, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, without the two values that only select: they must fit."""
    values = {name: value for name, value in given.items() if value is not None}
    company = str(values.get("company_name") or "")
    if company and company.casefold() not in (client.name.casefold(), client.slug, client.external_id.casefold()):
        raise UsageError(f"company_name: {company!r} is not the person's client, which is {client.name!r}")
    return values


def _contact_layer(session: Session, contact: Contact) -> Layer:
    client = get(session, Client, contact.client_id)
    record = {
        "employee_email": contact.email or None, "employee_id": contact.employee_id or None,
        "termination_date": contact.termination_date, "last_working_day": contact.last_working_day,
        "termination_type": contact.termination_type or None, "reason_for_leaving": contact.reason_for_leaving or None,
        "manager_email": manager_address(session, contact), "company_name": client.name,
    }  # fmt: skip
    return Layer("contact", record)


def _option_layers(session: Session, client: Client, asked: Asked) -> list[Layer]:
    layers: list[Layer] = []
    if asked.template:
        layers.append(_template_layer(session, asked.template, "named"))
    layers += _used(session, "client", str(client.client_id), client.slug)
    layers += _client_fields(session, client)
    layers += _used(session, "user", asked.actor, asked.actor)
    return [*layers, *_used(session, "everyone", "", "everyone")]


def _used(session: Session, kind: str, key: str, whose: str) -> list[Layer]:
    use = session.get(OffboardingTemplateUse, (kind, key))
    return [_template_layer(session, use.template, f"of {whose}")] if use is not None else []


def _template_layer(session: Session, name: str, why: str) -> Layer:
    template = session.get(OffboardingTemplate, name)
    if template is None:
        raise NotFound(f"there is no template of offboarding options {name!r}: exeunt offboard template list")
    return Layer(f"template {name} ({why})", template.options)


def _client_fields(session: Session, client: Client) -> list[Layer]:
    """One layer per field, so that the source names it; all have the same weight, since no input has two fields."""
    fields = effective_values(session, {"client": client.model_dump()})
    layers = []
    for item in INPUTS.values():
        value = fields.get(item.field or "")
        # An unticked checkbox of a client says nothing but the default; `manager` means whoever that is.
        if item.field is None or value in (None, "") or value.strip().lower() == "manager":
            continue
        layers.append(Layer(f"client field {item.field}", {item.name: value}))
    return layers


def _contractor_days(session: Session, contact: Contact) -> int | None:
    client = get(session, Client, contact.client_id)
    value = effective_values(session, {"client": client.model_dump()}).get("contractor_retention_days")
    return int(value) if value and value.isdigit() and int(value) >= 1 else None


def _drop_missing(
    session: Session, contact: Contact, asked: Asked, values: dict[str, Any], sources: dict[str, str]
) -> list[str]:
    """Receivers must be contacts of the same client. By hand: UsageError; else they are left out, and it is told."""
    named = {n: v if isinstance(v, tuple) else (v,) for n in ("manager_email", *RECEIVERS) if (v := values[n])}
    reasons = not_there(session, contact.client_id, {a for addresses in named.values() for a in addresses})
    warnings: list[str] = []
    for name, addresses in named.items():
        wrong = [a for a in addresses if a in reasons]
        if not wrong:
            continue
        said = f"{name}: {wrong[0]} ({sources[name]}) {reasons[wrong[0]]}"
        if asked.strict:
            raise UsageError(f"{said}: name somebody else, or import the person first")
        warnings.append(f"{said}: left out")
        kept = tuple(a for a in addresses if a not in reasons)
        values[name] = kept if isinstance(values[name], tuple) else ""
    return warnings


# --- what the planner asks


def starts_offboarding(definition: ScriptDefinition) -> bool:
    """Whether a script is the offboarding of a person itself, not a part of it or what comes after."""
    return bool(definition.inputs) and definition.exclusive and not definition.deletes_account


def pending(session: Session, contact_id: int) -> ContactOffboarding | None:
    """The planned offboarding of a person that was not started."""
    query = select(ContactOffboarding).where(
        ContactOffboarding.contact_id == contact_id, col(ContactOffboarding.run_id).is_(None),
        col(ContactOffboarding.removed_at).is_(None),
    )  # fmt: skip
    return session.exec(query).first()


def fill(session: Session, request: RunRequest, definition: ScriptDefinition, actor: str) -> RunRequest:
    """The request with all inputs as parameters, and with what the run keeps about them. Others are given back as they are."""
    if request.target_kind != "contact":
        return request
    if definition.deletes_account:
        # Which accounts are meant is fixed by the plan: their addresses may have been given to somebody else since.
        accounts = offboarded_accounts(session, request.target_id)
        request = request if accounts is None else replace(request, known={**request.known, "accounts": accounts})
    if not (definition.inputs or request.known.get("offboarding")):
        return request
    contact = get(session, Contact, request.target_id)
    row = _row_of(session, request, starts_offboarding(definition))
    given = {n: v for n, v in request.parameters.items() if n in INPUTS}
    if row is not None and row.resolved and not starts_offboarding(definition):
        document = {**row.resolved, **{n: {"value": v, "source": "given"} for n, v in given.items()}}
        parameters, warnings = {n: d["value"] for n, d in document.items() if n in INPUTS}, tuple[str, ...]()
    else:
        asked = Asked({**(row.inputs if row else {}), **given}, row.template if row else None, _asker(row, actor))
        found = resolve(session, contact, asked)
        document, parameters, warnings = found.document(), found.parameters(), found.warnings
    known: dict[str, Any] = {"inputs": document, "offboarding": row.id if row else None}
    if warnings:
        known["input_warnings"] = list(warnings)
    declared = {n: v for n, v in parameters.items() if n in definition.parameters}
    return replace(request, parameters={**declared, **request.parameters}, known={**request.known, **known})


def _asker(row: ContactOffboarding | None, actor: str) -> str:
    return row.requested_by if row is not None else actor


def _row_of(session: Session, request: RunRequest, starts: bool) -> ContactOffboarding | None:
    named = request.known.get("offboarding")
    if named is not None:
        return session.get(ContactOffboarding, named)
    waiting = pending(session, request.target_id)
    return waiting if starts else last_offboarding(session, request.target_id) or waiting
