"""`offboarding.informative_ticket` and `offboarding.report`: what an offboarding tells people (facts 5, 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from agent.errors import StepError
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.results import Entry, ResultLists, result_lists
from agent.functions.tickets import about_target, target_key
from agent.inventory import field_values
from agent.model.fields import ExtraField, ExtraFieldChange, Form
from agent.model.runs import ScriptRun
from agent.services import mail, properties, tickets

#: Characters of a reason that are shown in a list; the run's report has the rest.
REASON_CHARACTERS = 400
_ADVICE = """What to do:
  1. Some software shows as removed only after a reboot: have the {kind} rebooted, then run {script} again.
  2. Remove by hand what fails a second time.
  3. Then run {script} once more, so that it removes the Automate agent."""

_ADVICE_CONTACT = """What to do:
  1. Look at the reason of each failure: exeunt offboard list, exeunt offboard show ID.
  2. Mend it, then run {script} again: exeunt offboard run-now ID. What is done already is found done.
  3. Until then no account of this person is deleted."""


@dataclass(frozen=True)
class Told:
    """How the end of a run is told."""

    ticket: bool
    mail: bool


def how_to_tell(alert_types: frozenset[str], *, all_off: bool, failure_ticket: bool, ticket_on_success: bool) -> Told:
    """The one table of alert type x outcome x success (facts 4.1 and 5, CWA-12 to 16, 18, 21).

    `alert_types` allows tickets and mail at all. A full success makes a ticket only if `ticket_on_success` says so; any
    other end only if the fallback's `failure_ticket` does. Mail follows the alert type alone: what the options and
    properties of the source name is the ticket, and being told is the harmless side.
    """
    wanted = ticket_on_success if all_off else failure_ticket
    return Told(ticket="Ticket" in alert_types and wanted, mail="Email" in alert_types)


class NoParameters(BaseParameters):
    """Nothing to choose: the system properties and the client's fields decide."""


class InformativeTicket(Function[NoParameters]):
    """Tells once that a client's or location's computers are being offboarded."""

    name = "offboarding.informative_ticket"
    summary = "Open one ticket when a whole client or location is offboarded, unless there is one"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "open one informative ticket for the flagged client or location, unless there is one"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """One ticket per offboarding and level; an open one, or one for the same ticking of the field, is enough."""
        if _property(context, properties.INFORMATIVE_TICKET) != "1":
            return Outcome.skipped(f"{properties.INFORMATIVE_TICKET} is 0")
        levels = [level for level in ("client", "location") if level in context.plan.get("levels", ())]
        if not levels:
            return Outcome.skipped("neither the client nor the location is flagged")
        with context.installation.database.session() as session:
            made = {level: self._ticket(session, context, level) for level in levels}
        return Outcome.succeeded(tickets=made)

    def _ticket(self, session: Session, context: Context, level: str) -> int | None:
        place = context.places[level]
        assert place is not None, level
        place_id, name = place[f"{level}_id"], tickets.one_line(str(place["name"]))
        key = informative_key(level, place_id)
        ticket = tickets.find_open(session, key)
        if ticket is None:
            ticket = tickets.open_or_comment(
                session, key=key, client_id=context.client_id,
                location_id=place_id if level == "location" else None, origin=_ticking(session, level, place_id),
                run_id=context.root_id, subject=f"Offboarding initiated on {level} - {name}",
                body=_informative_body(level, name, context.root_script), author=context.root_script,
                category=_property(context, properties.TICKET_CATEGORY),
            )  # fmt: skip
        return ticket.id


class Report(Function[NoParameters]):
    """Tells how the offboarding of one target ended; on the server, so the target's agent may be gone."""

    name = "offboarding.report"
    summary = "Tell the result by ticket and mail as the system properties say"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return f"tell the result by ticket or mail, as {properties.ALERT_TYPE} and the outcome say"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Ticket and mail in one transaction, each once per run."""
        lists = result_lists(context.finished_steps())
        outcome: Mapping[str, Any] | None = context.plan.get("outcome")
        told = how_to_tell(
            _alert_types(context), all_off=lists.everything_came_off and outcome is None,
            failure_ticket=outcome is None or bool(outcome["failure_ticket"]),
            ticket_on_success=_property(context, properties.TICKET_ON_SUCCESS) == "1",
        )  # fmt: skip
        subject, body = report_text(context, lists)
        result: dict[str, Any] = {"ticket": None, "mail": None, **lists.labels()}
        with context.installation.database.session() as session:
            if told.ticket:
                result["ticket"] = tickets.open_or_comment(
                    session, key=target_key(context, "offboarding"), subject=subject, body=body,
                    author=context.root_script, category=_property(context, properties.TICKET_CATEGORY),
                    **about_target(context),
                ).id  # fmt: skip
            # Where a system of the client's own keeps the ticket, the field holds that one.
            elsewhere = context.plan.get("ticketing") is not None
            if result["ticket"] is not None and context.target_kind == "contact" and not elsewhere:
                field_values.set_value(
                    session, Form.CONTACT, context.target_id, "Offboarding Ticket", str(result["ticket"]),
                    actor=context.root_script,
                )  # fmt: skip
            if told.mail and _is_alone(session, context.root_id):
                result["mail"] = mail.queue_mail(
                    session, key=f"offboarding:run:{context.root_id}", client_id=context.client_id,
                    run_id=context.root_id, subject=subject, body=body,
                    recipient=_property(context, properties.EMAIL_ADDRESS) or context.started_by,
                ).id  # fmt: skip
            elif told.mail:
                result["mail_in"] = "the summary of the plan"
        return Outcome.succeeded(**result)


def informative_key(level: str, place_id: int) -> str:
    """Key of the informative ticket of a client or location."""
    return f"offboarding:{level}:{place_id}"


def report_text(context: Context, lists: ResultLists) -> tuple[str, str]:
    """Subject (exact, facts 6) and body of the final ticket and mail."""
    kind = context.target_kind
    place = context.places[kind]
    assert place is not None, kind
    name = tickets.one_line(str(place["name"]))
    around = [tickets.one_line(str(p["name"])) for p in (context.places.get(k) for k in ("client", "location")) if p]
    parts = [
        f"The script {context.root_script} ran on {name} ({', '.join(around)}).",
        _list("Done" if kind == "contact" else "Removed applications", lists.success),
        _list("Failed" if kind == "contact" else "Failed applications", lists.failure),
        _list("A reboot is needed before it can be told", lists.reboot_needed, empty=False),
        _list("The outcome is unknown", lists.unknown, empty=False),
        _list("Not started", lists.not_started, empty=False),
    ]
    if context.plan.get("outcome") is not None:
        parts.append(_fallback(context.plan))
    if lists.failure or lists.reboot_needed or lists.unknown:
        parts.append((_ADVICE_CONTACT if kind == "contact" else _ADVICE).format(kind=kind, script=context.root_script))
    parts.append(f"Run {context.root_id}, started by {tickets.one_line(context.started_by)}.")
    reference = ((context.plan.get("inputs") or {}).get("reference") or {}).get("value")
    title = f"Offboarding status on {name}({context.target_id})"
    title += f" - Reference: {tickets.one_line(reference)}" if reference else ""
    return title, "\n\n".join(p for p in parts if p) + "\n"


def _list(title: str, entries: list[Entry], *, empty: bool = True) -> str:
    if not entries:
        return f"{title}: none" if empty else ""
    lines = [f"{title} ({len(entries)}):"]
    for entry in entries:
        reason = tickets.one_line(entry.reason or "")[:REASON_CHARACTERS]
        lines.append(f"  - {tickets.one_line(entry.label)}" + (f": {reason}" if reason else ""))
    return "\n".join(lines)


def _fallback(plan: Mapping[str, Any]) -> str:
    fallback, outcome = plan.get("fallback") or {}, plan["outcome"]
    option = fallback.get("option") or "nothing selected"
    words = {"keep": "stays", "remove": "may be removed"}
    return (
        f"Failed Uninstall Process: {option}. ScreenConnect {words[outcome['screenconnect']]}, "
        f"the Automate agent {words[outcome['agent']]}."
    )


def _informative_body(level: str, name: str, script: str) -> str:
    if level == "client":
        return f"{script} was started to offboard all computers of the client {name}.\n"
    return (
        f"The field Offboard Location is selected for {name}: {script} was started to offboard all computers of "
        "this location.\n"
    )


def _property(context: Context, name: str) -> str:
    value = context.system_property(name)
    return (properties.default_of(name) or "") if value is None else value


def _alert_types(context: Context) -> frozenset[str]:
    try:
        return properties.alert_types(_property(context, properties.ALERT_TYPE))
    except ValueError as error:
        # Only plain SQL can put such a value there.
        raise StepError(
            f"{properties.ALERT_TYPE}: {error}", type="wrong_property",
            impact="nobody was told how the run ended", remediation=f"exeunt property set {properties.ALERT_TYPE} ...",
        ) from error  # fmt: skip


def _ticking(session: Session, level: str, place_id: int) -> str:
    """Which ticking of the level's field an offboarding belongs to: the last change that the database logged."""
    form = Form.CLIENT if level == "client" else Form.LOCATION
    last = session.exec(
        select(func.max(col(ExtraFieldChange.change_id)))
        .join(ExtraField, col(ExtraField.id) == col(ExtraFieldChange.extra_field_id))
        .where(
            ExtraField.form == int(form), ExtraField.name == f"Offboard {level.capitalize()}",
            ExtraFieldChange.id == place_id,
        )
    ).first()  # fmt: skip
    return f"change:{last}"


def _is_alone(session: Session, root_id: str) -> bool:
    """Whether the plan of a run holds this run only; of several, one summary is sent instead (CWA-85)."""
    plan_id = session.exec(select(ScriptRun.plan_id).where(ScriptRun.id == root_id)).first()
    if plan_id is None:
        return True
    count = select(func.count()).select_from(ScriptRun)
    return session.exec(
        count.where(col(ScriptRun.plan_id) == plan_id, col(ScriptRun.parent_id).is_(None))
    ).one() == 1  # fmt: skip
