"""What an alert template does: run a script, create a ticket, send mail, raise an alert (facts 11.4).

`plan_actions` decides and renders; `carry_out` writes what was decided. Script runs are only asked for: all of one monitor
run go to the planner together, so that they become one plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlmodel import Session

from agent.alerting.messages import Rendered, check_message, default_message, render
from agent.alerting.messagestring import AlertMessage, parse_alert_message
from agent.alerting.occurrences import Occurrence, OccurrenceKey
from agent.alerting.windows import is_open
from agent.content.definitions import AlertAction, AlertTemplateDefinition, MonitorDefinition
from agent.model.administration import SystemProperty
from agent.model.monitors import RaisedAlert
from agent.running.requests import RunRequest
from agent.services import mail, tickets

MAIL_PROPERTY = "_sysOffboardingDefaultEmailAddress"


@dataclass(frozen=True)
class PlannedAction:
    """One action for one occurrence: either a message or a script run."""

    #: Position in the template's list, for keys that tell two actions apart.
    number: int
    action: AlertAction
    occurrence: Occurrence
    message: Rendered | None = None
    request: RunRequest | None = None


@dataclass(frozen=True)
class Dispatch:
    """What a template does about occurrences at one time."""

    actions: tuple[PlannedAction, ...]
    #: Something is done about these now, or the template has nothing to do about them at all.
    answered: frozenset[OccurrenceKey]
    #: Their script is put off until its window opens.
    put_off: frozenset[OccurrenceKey]
    #: Options of the monitor's alert message, such as `priority`.
    options: Mapping[str, str]

    @property
    def requests(self) -> tuple[RunRequest, ...]:
        """The script runs that are asked for."""
        return tuple(a.request for a in self.actions if a.request)


def actions_for(template: AlertTemplateDefinition | None, status: str) -> tuple[AlertAction, ...]:
    """The actions of a template for FAILED or SUCCESS."""
    if template is None:
        return ()
    return (*(template.failed if status == "FAILED" else template.success), *template.both)


def check_template(template: AlertTemplateDefinition, target_kind: str) -> None:
    """Raises ValueError when a message of the template cannot be rendered for targets of this kind."""
    for action in (*template.failed, *template.success, *template.both):
        message = action.create_ticket or action.send_email or action.raise_alert
        if message is not None:
            check_message(message, target_kind)


def check_alert_message(monitor: MonitorDefinition) -> None:
    """Raises ValueError when the monitor's own alert message cannot be read or rendered."""
    own = alert_message(monitor)
    for message in (own.failed, own.success):
        check_message(message, monitor.target)


def alert_message(monitor: MonitorDefinition) -> AlertMessage:
    """The monitor's own alert message, else the default wording. Raises ValueError."""
    if monitor.alert_message:
        return parse_alert_message(monitor.alert_message)
    default = default_message(monitor.target)
    return AlertMessage(default, default)


def dispatch(
    session: Session,
    occurrences: Sequence[Occurrence],
    template: AlertTemplateDefinition | None,
    monitor: MonitorDefinition,
    *,
    now: datetime,
    zone: ZoneInfo,
    preview: bool = False,
) -> Dispatch:
    """Answer all occurrences that one template answers in one monitor run, in the caller's transaction.

    Tickets, mail and raised alerts are written; script runs are given back as requests, for the planner. A preview
    writes nothing. Raises ValueError for a message that cannot be rendered.
    """
    decided = plan_actions(occurrences, template, monitor, now=now, zone=zone)
    if not preview:
        carry_out(session, decided, monitor)
    return decided


def plan_actions(
    occurrences: Sequence[Occurrence],
    template: AlertTemplateDefinition | None,
    monitor: MonitorDefinition,
    *,
    now: datetime,
    zone: ZoneInfo,
) -> Dispatch:
    """What the template does about the occurrences now. Changes nothing. Raises ValueError for an unusable message.

    An action outside its window is not carried out. A script outside its window is put off; and when no action at all is
    inside its window, the occurrence is not answered, so that the caller tries again. zone: of windows that name none.
    """
    own = alert_message(monitor)
    planned: list[PlannedAction] = []
    answered: set[OccurrenceKey] = set()
    put_off: set[OccurrenceKey] = set()
    for occurrence in occurrences:
        actions = actions_for(template, occurrence.status)
        if not actions:
            answered.add(occurrence.key)
        for number, action in enumerate(actions):
            if not is_open(action.window, now, zone):
                if action.run_script:
                    put_off.add(occurrence.key)
            elif action.run_script or not occurrence.scripts_only:
                planned.append(_plan(number, action, occurrence, own))
                answered.add(occurrence.key)
    return Dispatch(tuple(planned), frozenset(answered), frozenset(put_off), own.options)


def _plan(number: int, action: AlertAction, occurrence: Occurrence, own: AlertMessage) -> PlannedAction:
    if action.run_script:
        return PlannedAction(number, action, occurrence, request=_request(action, occurrence))
    message = action.create_ticket or action.send_email or action.raise_alert
    assert message is not None
    variables = occurrence.variables()
    said = render(own.of(occurrence.status), variables, occurrence.columns)
    variables |= {"alert_subject": said.subject, "alert_body": said.body}
    return PlannedAction(number, action, occurrence, message=render(message, variables, occurrence.columns))


def _request(action: AlertAction, occurrence: Occurrence) -> RunRequest:
    assert action.run_script is not None
    return RunRequest(
        script=action.run_script, target_kind=occurrence.place.kind, target_id=occurrence.place.id,
        parameters=dict(action.with_), alert_id=occurrence.alert_id, levels=occurrence.levels,
        columns=dict(occurrence.columns), status=occurrence.status,
    )  # fmt: skip


def carry_out(session: Session, dispatch: Dispatch, monitor: MonitorDefinition) -> None:
    """Write tickets, mail and raised alerts in the caller's transaction. Scripts are left to the planner."""
    mails: dict[tuple[int, int, str], list[PlannedAction]] = {}
    for planned in dispatch.actions:
        if planned.action.create_ticket:
            _ticket(session, planned, monitor, dispatch.options)
        elif planned.action.raise_alert:
            _raise(session, planned)
        elif planned.action.send_email:
            key = (planned.number, planned.occurrence.place.client_id, planned.occurrence.status)
            mails.setdefault(key, []).append(planned)
    for together in mails.values():
        _mail(session, together)


def _ticket(session: Session, planned: PlannedAction, monitor: MonitorDefinition, options: Mapping[str, str]) -> None:
    """Open a ticket or comment the open one; SUCCESS closes it (facts 11.1, Send Fail After Success)."""
    occurrence, message = planned.occurrence, planned.message
    assert message is not None
    place = occurrence.place
    key = f"alert:{occurrence.monitor}:{place.client_id}:{place.kind}:{place.id}:{occurrence.identity}"
    author = f"monitor {occurrence.monitor}"
    known = tickets.find_open(session, key)
    ticket = tickets.open_or_comment(
        session, key=key, client_id=place.client_id, location_id=place.location_id,
        computer_id=place.id if place.kind == "computer" else None,
        contact_id=place.id if place.kind == "contact" else None,
        origin=_origin(planned), subject=message.subject, body=message.body, author=author,
        category=monitor.ticket_category, priority=options.get("priority"),
    )  # fmt: skip
    if occurrence.status == "SUCCESS" and known is not None and ticket.id is not None and ticket.closed_at is None:
        tickets.close(session, ticket.id, author=author)


def _raise(session: Session, planned: PlannedAction) -> None:
    occurrence, message = planned.occurrence, planned.message
    assert message is not None and occurrence.alert_id is not None
    session.add(
        RaisedAlert(
            source=occurrence.monitor, alert_id=occurrence.alert_id, status=occurrence.status,
            occasion=f"{occurrence.occasion}:{planned.number}", target_kind=occurrence.place.kind,
            target_id=occurrence.place.id, client_id=occurrence.place.client_id,
            subject=message.subject, message=message.body,
        )
    )  # fmt: skip


def _mail(session: Session, together: Sequence[PlannedAction]) -> None:
    """One mail for everything that one action says about one client in one monitor run (facts 13, 11)."""
    first = together[0]
    client, origins = first.occurrence.place, ",".join(_origin(p) for p in together)
    if len(together) == 1:
        assert first.message is not None
        message = first.message
    else:
        message = _summary(together)
    queued = mail.queue_mail(
        session, key=f"alert-mail:{hashlib.sha256(origins.encode()).hexdigest()[:32]}", client_id=client.client_id,
        recipient=", ".join(first.action.to) or _default_recipient(session), subject=message.subject, body=message.body,
    )  # fmt: skip
    session.add(queued)


def _summary(together: Sequence[PlannedAction]) -> Rendered:
    occurrence = together[0].occurrence
    messages = [p.message for p in together if p.message]
    subject = f"{occurrence.monitor} {occurrence.status}: {len(messages)} alerts at {occurrence.place.client_name}"
    return Rendered(subject, "\n\n".join(f"{m.subject}\n{m.body}".rstrip() for m in messages))


def _default_recipient(session: Session) -> str:
    found = session.get(SystemProperty, MAIL_PROPERTY)
    return found.value if found else ""


def _origin(planned: PlannedAction) -> str:
    occurrence = planned.occurrence
    return f"alert:{occurrence.alert_id}:{occurrence.status}:{occurrence.occasion}:{planned.number}"
