"""What an offboarding does around the child scripts of packages: it begins, asks their criteria, and notes each one's end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field
from sqlmodel import Session

from agent.content.packages import Criterion, Notify, is_reached, snake
from agent.content.references import Reference, resolve
from agent.errors import StepError, UsageError
from agent.functions.base import Context, FinishedStep, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.contacts import SEQUENCE, TICKET, person
from agent.functions.results import CRITERIA
from agent.functions.tickets import about_target, target_key
from agent.inventory import field_values
from agent.inventory.contacts import manager_address
from agent.inventory.effective import effective_values
from agent.inventory.person_values import person_value
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.model.places import Contact
from agent.model.runs import ScriptRun, StepState
from agent.services import mail, properties, tickets

CHECK, NOTE = CRITERIA, "package.note_child"
#: Dates of a person that are columns and no extra fields.
_DATES = {"termination date": "termination_date", "last working day": "last_working_day", "start date": "start_date"}
_NOT_DONE = (StepState.FAILED, StepState.UNKNOWN, StepState.CANCELLED, StepState.REBOOT_NEEDED)


class NoParameters(BaseParameters):
    """Nothing to choose."""


class Begin(Function[NoParameters]):
    """Sets the sequence to 0, and opens the ticket that the packages' scripts comment."""

    name = "offboarding.begin"
    summary = "Set Offboarding Sequence to 0, and open the ticket that is commented after each package's script"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return f"set {SEQUENCE} to 0, and open a ticket where the client's packages comment one"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Both in one transaction, once per run."""
        packages: Sequence[Mapping[str, Any]] = context.plan.get("packages") or ()
        with context.installation.database.session() as session:
            contact = person(session, context)
            _set(session, context, SEQUENCE, "0")
            ticket = None
            if any(p["comment"] for p in packages) and "Ticket" in _alert_types(context):
                names = ", ".join(f"{p['name']} {p['version']}" for p in packages)
                ticket = tickets.open_or_comment(
                    session, key=target_key(context, "offboarding"), origin=f"step:{context.step_id}",
                    subject=f"Offboarding of {contact.name}", author=context.root_script,
                    body=f"{context.root_script} began for {tickets.one_line(contact.name)}. Packages: {names}.\n",
                    category=context.system_property(properties.TICKET_CATEGORY) or None, **about_target(context),
                ).id  # fmt: skip
            # A system of the client's own that keeps the ticket fills it in by its first script.
            _set(session, context, TICKET, "" if context.plan.get("ticketing") or ticket is None else str(ticket))
        return Outcome.succeeded(sequence=0, ticket=ticket)


class CriteriaParameters(BaseParameters):
    """A package and its criteria, as its file had them when the plan was made."""

    package: str
    criteria: tuple[dict[str, Any], ...]


class CheckCriteria(Function[CriteriaParameters]):
    """Asks whether a package's script may start; skipped with what does not hold."""

    name = CHECK
    summary = "Ask the criteria of a package; where one does not hold, its script does not start. Planned by itself"
    Parameters = CriteriaParameters
    repeatable = True

    def preview(self, parameters: CriteriaParameters) -> str:
        """What would be asked."""
        asked = "; ".join(str(_criterion(c)) for c in parameters.criteria)
        return f"go on with the package {parameters.package} only if {asked}"

    def do(self, context: Context, parameters: CriteriaParameters) -> Outcome:
        """Ask them all, as things are now."""
        with context.installation.database.reading() as session:
            fields = effective_values(session, context.places)
            asked = _Asked(fields, context.places, _at_once(session, context))
            unmet = [reason for c in parameters.criteria if (reason := asked.unmet(_criterion(c)))]
        if unmet:
            return Outcome.skipped(f"the package {parameters.package} does not start: {'; '.join(unmet)}")
        return Outcome.succeeded(criteria=len(parameters.criteria))


class _Asked:
    """Looks criteria up for one person."""

    def __init__(
        self, fields: Mapping[str, str], places: Mapping[str, Mapping[str, Any] | None], at_once: bool
    ) -> None:
        self.fields, self.places, self.at_once = fields, places, at_once
        self.contact = places.get("contact") or {}

    def unmet(self, criterion: Criterion) -> str | None:
        """Why a criterion does not hold, in words; None when it does."""
        if criterion.status is not None:
            found = str(self.contact.get("status", ""))
            return None if found == criterion.status else f"the status is {found or 'empty'}, not {criterion.status}"
        if criterion.date_reached is not None:
            return self._date(criterion.date_reached)
        name = criterion.field or ""
        value = self._value(name)
        if criterion.not_empty:
            return None if value else f"{name} is empty"
        folded, shown = value.strip().casefold(), value or "empty"
        if criterion.is_ is not None:
            return None if folded == criterion.is_.casefold() else f"{name} is {shown}, not {criterion.is_}"
        if criterion.is_not is not None:
            return None if folded != criterion.is_not.casefold() else f"{name} is {shown}"
        wanted = criterion.in_ or ()
        fits = folded in [w.casefold() for w in wanted]
        return None if fits else f"{name} is {shown}, not one of {', '.join(wanted)}"

    def _value(self, name: str) -> str:
        if name.startswith("contact."):
            return str(self.contact.get(name.removeprefix("contact.")) or "")
        return self.fields.get(name, "").strip() or person_value(snake(name), self.fields, self.places) or ""

    def _date(self, name: str) -> str | None:
        column = _DATES.get(name.casefold())
        value = str(self.contact.get(column) or "") if column else self._value(name)
        if self.at_once:
            return None
        if not value:
            return f"{name} is empty"
        now = utcnow()
        try:
            if is_reached(value, now.date()) or is_reached(value, _there(now, self.contact).date()):
                return None
        except ValueError:
            return f"{name} is {value!r}, which is no date"
        return f"{name} is {value}, which is not reached"


class NoteParameters(BaseParameters):
    """A child script of an offboarding, what the plan knows of it, and what its package asks for."""

    child: str
    #: Number of its steps in the plan, those of scripts that it calls included.
    steps: int = Field(ge=0)
    package: str | None = None
    #: Its place among all child scripts of the offboarding; None outside of it.
    number: int | None = None
    total: int | None = None
    comment: bool = False
    notify: dict[str, Any] | None = None


def _tells(notify: Notify) -> str:
    """Who would be told, and when, for people: `{{ manager }}` is the manager."""
    names = [re.sub(r"^\{\{\s*(\w+)\s*\}\}$", r"the person's \1", r) for r in notify.recipients]
    return f"tell {' and '.join(names)}" + ("" if notify.on == "always" else " if it was not done")


class NoteChild(Function[NoteParameters]):
    """Notes that a child script is over: raises the sequence, comments the ticket, tells who is to be told."""

    name = NOTE
    summary = (
        "Raise Offboarding Sequence after a child script, comment the ticket, tell its recipients. Planned by itself"
    )
    Parameters = NoteParameters
    repeatable = True

    def preview(self, parameters: NoteParameters) -> str:
        """What would be done."""
        parts = [f"raise {SEQUENCE} to {parameters.number}"] if parameters.number is not None else []
        parts += ["comment the ticket"] if parameters.comment else []
        parts += [_tells(Notify.model_validate(parameters.notify))] if parameters.notify else []
        return f"after {parameters.child}: {', '.join(parts) or 'nothing'}"

    def do(self, context: Context, parameters: NoteParameters) -> Outcome:
        """All in one transaction, each once per step. The number is the script's own, so nothing is counted twice."""
        finished = context.finished_steps()
        steps = finished[len(finished) - parameters.steps :] if parameters.steps else []
        state, text = told(parameters, steps)
        result: dict[str, Any] = {"state": state, "text": text}
        with context.installation.database.session() as session:
            contact = person(session, context)
            if parameters.number is not None:
                _set(session, context, SEQUENCE, str(parameters.number))
                result["sequence"] = parameters.number
            if parameters.comment:
                result["ticket"] = _comment(session, context, text)
            if parameters.notify is not None:
                notify = Notify.model_validate(parameters.notify)
                if notify.on == "always" or state not in ("succeeded", "skipped"):
                    result.update(self._tell(session, context, contact, parameters, notify, text))
        return Outcome.succeeded(**result)

    def _tell(
        self,
        session: Session,
        context: Context,
        contact: Contact,
        parameters: NoteParameters,
        notify: Notify,
        text: str,
    ) -> dict[str, Any]:
        fields = effective_values(session, context.places)
        addresses, empty = [], []
        for recipient in notify.recipients:
            try:
                addresses.append(resolve(recipient, lambda r: _known(r, session, contact, fields, context)))
            except UsageError:
                empty.append(recipient)
        result: dict[str, Any] = {"empty_recipients": empty} if empty else {}
        if addresses:
            subject = notify.subject or f"{parameters.child} on {contact.name}"
            stored = mail.queue_mail(
                session, key=f"step:{context.step_id}", client_id=context.client_id, run_id=context.root_id,
                recipient=", ".join(dict.fromkeys(addresses)), subject=subject,
                body=f"{text}\n\nRun {context.root_id}, started by {tickets.one_line(context.started_by)}.\n",
            )  # fmt: skip
            result["mail"] = stored.id
        return result


def told(parameters: NoteParameters, steps: Sequence[FinishedStep]) -> tuple[str, str]:
    """State of a child script, and what is said of it. States: failed, unknown, ..., succeeded, skipped."""
    states = {s.state for s in steps if s.function != CHECK}
    state = next((s for s in _NOT_DONE if s in states), None)
    if state is None:
        state = StepState.SUCCEEDED if StepState.SUCCEEDED in states else StepState.SKIPPED
    unmet = [s.result.get("reason", "") for s in steps if s.function == CHECK and s.state is StepState.SKIPPED]
    place = f" ({parameters.number} of {parameters.total})" if parameters.number is not None else ""
    lines = [f"{tickets.one_line(parameters.child)}{place}: {'did not start' if unmet else state.value}"]
    lines += [f"- {tickets.one_line(reason)}" for reason in unmet]
    for step in steps:
        if step.function == CHECK or unmet:
            continue
        said = (step.error or {}).get("message") or (
            step.result.get("reason") if step.state is StepState.SKIPPED else ""
        )
        lines.append(
            f"- {tickets.one_line(step.label)}: {step.state}" + (f": {tickets.one_line(said)}" if said else "")
        )
    return state.value, "\n".join(lines)


def _comment(session: Session, context: Context, text: str) -> int | None:
    """Comment the offboarding's open ticket; None when none is open."""
    ticket = tickets.find_open(session, target_key(context, "offboarding"))
    if ticket is None or ticket.id is None:
        return None
    tickets.add_comment(
        session, ticket.id, author=context.root_script, text=text, run_id=context.root_id,
        origin=f"step:{context.step_id}", client_id=context.client_id,
    )  # fmt: skip
    return ticket.id


def _known(
    reference: Reference, session: Session, contact: Contact, fields: Mapping[str, str], context: Context
) -> str | None:
    if reference.kind != "person":
        raise UsageError(f"{reference} does not stand for a recipient")
    value = person_value(reference.name, fields, context.places)
    return manager_address(session, contact) if value is None and reference.name == "manager" else value


def _criterion(raw: Mapping[str, Any]) -> Criterion:
    return Criterion.model_validate(raw, by_alias=True, by_name=False)


def _at_once(session: Session, context: Context) -> bool:
    """Somebody started it by hand, or asked for it at once: the day does not matter then."""
    run = session.get(ScriptRun, context.root_id)
    asked = ((context.plan.get("inputs") or {}).get("immediate_disable") or {}).get("value")
    return (run is not None and run.alert_id is None) or str(asked) in ("1", "True")


def _there(moment: datetime, contact: Mapping[str, Any]) -> datetime:
    """A moment where the person works."""
    try:
        return moment.astimezone(ZoneInfo(str(contact.get("timezone") or "UTC")))
    except (ZoneInfoNotFoundError, ValueError):
        return moment.astimezone(UTC)


def _set(session: Session, context: Context, field: str, value: str) -> None:
    field_values.set_value(session, Form.CONTACT, context.target_id, field, value, actor=context.root_script)


def _alert_types(context: Context) -> frozenset[str]:
    value = context.system_property(properties.ALERT_TYPE)
    try:
        return properties.alert_types((properties.default_of(properties.ALERT_TYPE) or "") if value is None else value)
    except ValueError as error:
        raise StepError(
            f"{properties.ALERT_TYPE}: {error}", type="wrong_property",
            remediation=f"exeunt property set {properties.ALERT_TYPE} ...",
        ) from error  # fmt: skip
