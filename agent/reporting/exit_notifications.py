"""Who was told of an offboarding, by the real state of each mail, and the offboarding's own ticket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlmodel import Session, col, or_, select

from agent.functions.base import FinishedStep
from agent.functions.exit_facts import second
from agent.functions.notify import KINDS, Kind
from agent.model.runs import ScriptRun, StepState
from agent.model.tickets import Notification, Ticket, TicketComment

_WAITS = "it waits for its first or next attempt"
#: How the functions end that create an offboarding's ticket in another system.
_CREATES = ".create_ticket"
_NOT_PLANNED = "no such notification was a part of this offboarding"


def notifications(session: Session, root_id: str, steps: Iterable[FinishedStep]) -> dict[str, Any]:
    """The section `notifications_sent`, one entry per kind of recipient."""
    by_function = {s.function: s for s in steps if s.function}
    return {kind.section: _entry(session, root_id, kind.fields, _step_of(kind, by_function)) for kind in KINDS}


def _step_of(kind: Kind, steps: Mapping[str, FinishedStep]) -> FinishedStep | None:
    """The step that told them, else the one that did not."""
    own, other = steps.get(kind.function), steps.get(kind.also or "")
    told = (s for s in (own, other) if s is not None and isinstance(s.result.get("mail"), int))
    return next(told, own or other)


def _entry(session: Session, root_id: str, fields: Iterable[str], step: FinishedStep | None) -> dict[str, Any]:
    said: Mapping[str, Any] = step.result if step else {}
    mail = session.get(Notification, said["mail"]) if isinstance(said.get("mail"), int) else None
    if mail is not None and mail.run_id != root_id:
        mail = None
    recipients = [a.strip() for a in mail.recipient.split(",") if a.strip()] if mail else None
    known: dict[str, Any] = {
        **said, "recipient": mail.recipient if mail else None, "recipients": recipients,
        "subject": mail.subject if mail else None,
    }  # fmt: skip
    return {
        "sent": mail is not None and mail.state == "sent",
        **{name: known.get(name) for name in fields},
        "sent_timestamp": second(mail.sent_at) if mail else None,
        "reason": None if mail is not None and mail.state == "sent" else _reason(mail, step),
    }


def _reason(mail: Notification | None, step: FinishedStep | None) -> str:
    if mail is not None:
        return mail.error or _WAITS
    if step is None:
        return _NOT_PLANNED
    if step.state == StepState.SKIPPED:
        return str(step.result.get("reason") or _NOT_PLANNED)
    return str((step.error or {}).get("message") or f"the step is {step.state}")


def ticket_of_offboarding(session: Session, run: ScriptRun, steps: Iterable[FinishedStep]) -> dict[str, Any]:
    """The ticket of this offboarding: in the PSA, else the one that the run opened here, else the open one that it commented."""
    there = _ticket_there(steps) if run.context.get("ticketing") else None
    if there is not None:
        return there
    key = f"offboarding:{run.target_kind}:{run.target_id}"
    commented = select(TicketComment.ticket_id).where(TicketComment.run_id == run.id)
    ticket = session.exec(
        select(Ticket)
        .where(Ticket.key == key, Ticket.client_id == run.client_id)
        .where(or_(col(Ticket.run_id) == run.id, col(Ticket.id).in_(commented)))
        .order_by(col(Ticket.id).desc())
    ).first()
    if ticket is None:
        return {"created": False}
    return {"created": True, "ticket_id": ticket.external_id or str(ticket.id), "status": ticket.status}


def _ticket_there(steps: Iterable[FinishedStep]) -> dict[str, Any] | None:
    """The ticket in the client's own system, with the status that the run gave it; None when there is none."""
    done = [s for s in steps if s.state == StepState.SUCCEEDED]
    made = next((s for s in done if (s.function or "").endswith(_CREATES) and s.result.get("ticket")), None)
    if made is None:
        return None
    moves = f"{str(made.function).removesuffix(_CREATES)}.set_status"
    status = [s.result.get("after") for s in done if s.function == moves]
    return {"created": True, "ticket_id": str(made.result["ticket"]), "status": status[-1] if status else None}
