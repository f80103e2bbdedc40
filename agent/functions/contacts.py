"""Functions about the person who leaves: equipment, status, retention, forwarding's end, security, deletion's guard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Literal

from pydantic import Field
from sqlmodel import Session, select

from agent.errors import StepError
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.tickets import about_target, target_key
from agent.inventory import contacts, field_values, places, retention
from agent.inventory.effective import effective_values
from agent.inventory.lookup import get
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.fields import Form
from agent.model.places import Contact
from agent.model.runs import StepState
from agent.services import mail, manual_tasks, tickets

FLAG, SEQUENCE, TICKET = "Offboard Contact", "Offboarding Sequence", "Offboarding Ticket"
#: The client's field with the days for which backups are kept after the accounts are deleted; empty: for good.
BACKUP_DAYS = "backup_retention_days"


def person(session: Session, context: Context) -> Contact:
    """The contact that a run is about. Raises StepError for a run on something else."""
    if context.target_kind != "contact":
        raise StepError(f"a {context.target_kind} is no person", type="wrong_target")
    return get(session, Contact, context.target_id)


def offboarding(session: Session, context: Context) -> ContactOffboarding:
    """The record of the offboarding that a run belongs to. Raises StepError when there is none."""
    named = context.plan.get("offboarding")
    row = session.get(ContactOffboarding, named) if named else retention.last_offboarding(session, context.target_id)
    if row is None:
        raise StepError(
            "this run belongs to no offboarding of the person", type="no_offboarding",
            remediation="start it by `exeunt offboard user` or a monitor",
        )  # fmt: skip
    return row


def tell_security(
    session: Session, contact: Contact, row_id: str | None, inputs: Mapping[str, Any], *, run_id: str | None, by: str
) -> int | None:
    """Queue the notice of a high-risk offboarding, once per offboarding; the mail's id, None when nobody is named.

    `inputs`: input -> {"value": ...}.
    """
    recipients = inputs["security_notification_recipients"]["value"]
    if not recipients:
        return None
    name = tickets.one_line(contact.name)
    lines = [
        f"{name} ({contact.email or contact.upn or contact.external_id}) is offboarded at once, started by {by}.",
        f"Termination: {inputs['termination_type']['value'] or 'not given'}, {inputs['termination_date']['value']}.",
        "Accounts are disabled, sessions ended and devices dealt with now; the rest follows.",
        "Physical access (badge, keys) is a task for people: exeunt task list.",
    ]
    queued = mail.queue_mail(
        session, key=f"offboarding-security:{row_id or run_id}", client_id=contact.client_id, run_id=run_id,
        recipient=recipients, subject=f"High-risk offboarding - {name}", body="\n".join(lines) + "\n",
    )  # fmt: skip
    return queued.id


def keep_ticket(context: Context, ticket: str) -> None:
    """Keep the id of a ticket in another system where later steps find it: in the contact's field Offboarding Ticket."""
    if context.target_kind == "contact":
        with context.installation.database.session() as session:
            field_values.set_value(
                session, Form.CONTACT, context.target_id, TICKET, ticket, actor=context.root_script
            )  # fmt: skip


class NoParameters(BaseParameters):
    """Nothing to choose."""


class TellSecurity(Function[NoParameters]):
    """Tells the security team of a high-risk offboarding, before anything else is done (REWST-159)."""

    name = "offboarding.tell_security"
    summary = "Tell the security team of a high-risk offboarding by mail, once"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "send a mail to security_notification_recipients"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Queue the mail. Raises StepError when nobody is named."""
        inputs = context.plan.get("inputs") or {}
        with context.installation.database.session() as session:
            sent = tell_security(
                session, person(session, context), context.plan.get("offboarding"), inputs,
                run_id=context.root_id, by=context.started_by,
            )  # fmt: skip
        if sent is None:
            raise StepError(
                "nobody is named who is to be told", type="no_recipients", impact="security was not told",
                remediation="set the client's field security_notification_recipients",
            )  # fmt: skip
        return Outcome.succeeded(mail=sent)


class ReturnListParameters(BaseParameters):
    """`items`: what must be given back although it is not on record, divided by semicolons."""

    items: str = ""
    due: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    #: Days after `due` until which it may come back.
    in_days: int = Field(0, ge=0, le=365)

    def last_day(self) -> str | None:
        """The day on which all must be back (YYYY-MM-DD), None: nobody said."""
        return (date.fromisoformat(self.due) + timedelta(days=self.in_days)).isoformat() if self.due else None


class CreateReturnList(Function[ReturnListParameters]):
    """Lists what the person must give back, in one ticket, with a due date."""

    name = "assets.create_return_list"
    summary = "Note what a person must give back, with a due date, and open a ticket with the list"
    Parameters = ReturnListParameters
    repeatable = True

    def preview(self, parameters: ReturnListParameters) -> str:
        """What would be done."""
        more = f" and {tickets.one_line(parameters.items)}" if parameters.items.strip() else ""
        return f"open a ticket that lists the person's equipment{more}"

    def do(self, context: Context, parameters: ReturnListParameters) -> Outcome:
        """Note what is new, set due dates, and open or comment the ticket."""
        wanted = [t for part in parameters.items.split(";") if (t := tickets.one_line(part))]
        with context.installation.database.session() as session:
            contact = person(session, context)
            known = contacts.equipment_of(session, contact_id=context.target_id)
            have = {item.name.casefold() for item in known}
            for name in wanted:
                if name.casefold() not in have:
                    known.append(contacts.assign(session, contact, name, actor=context.root_script))
            out = [item for item in known if item.state in ("assigned", "missing")]
            if not out:
                return Outcome.skipped("nothing is on record that must be given back")
            for item in out:
                item.due = item.due or parameters.last_day()
                session.add(item)
            ticket = tickets.open_or_comment(
                session, key=target_key(context, "equipment"), origin=f"step:{context.step_id}",
                subject=f"Equipment to return - {contact.name}", body=_return_text(out), author=context.root_script,
                **about_target(context),
            )  # fmt: skip
            shown = [
                {"id": i.equipment_id, "name": i.name, "serial": i.serial, "due": i.due, "state": i.state} for i in out
            ]
        return Outcome.succeeded(ticket=ticket.id, equipment=shown)


def _return_text(items: list[Any]) -> str:
    lines = [
        f"  - {i.quantity} x {i.name}"
        + (f", serial {i.serial}" if i.serial else "")
        + (f", until {i.due}" if i.due else "")
        for i in items
    ]
    return (
        "To be given back:\n" + "\n".join(lines) + "\n\nNote each: exeunt equipment set ID returned|missing|damaged\n"
    )


class StatusParameters(BaseParameters):
    """A status as the inventory has it."""

    status: Literal["Active", "On Leave", "Offboarding", "Terminated", "Inactive", "Former Employee"]


class SetStatus(Function[StatusParameters]):
    """Sets the person's status in the inventory."""

    name = "contact.set_status"
    summary = "Set the person's status in the inventory"
    Parameters = StatusParameters
    repeatable = True

    def preview(self, parameters: StatusParameters) -> str:
        """What would be done."""
        return f"set the contact's status to {parameters.status}"

    def do(self, context: Context, parameters: StatusParameters) -> Outcome:
        """Set it; the audit trail has the old one."""
        with context.installation.database.session() as session:
            contact = person(session, context)
            old = contact.status
            places.change(session, contact, actor=context.root_script, status=parameters.status)
        return Outcome.succeeded(old=old, status=parameters.status)


class CloseParameters(BaseParameters):
    """How long the account is kept, and how long mail is forwarded (0: it is not)."""

    retention_days: int = Field(ge=1, le=36500)
    forwarding_days: int = Field(0, ge=0, le=3650)


class CloseOffboarding(Function[CloseParameters]):
    """From here the retention counts; the flag is taken off, and who is completely off becomes a Former Employee."""

    name = "contact.close_offboarding"
    summary = "Begin the retention, take the flag off, and make the person a Former Employee if everything came off"
    Parameters = CloseParameters
    repeatable = True

    def preview(self, parameters: CloseParameters) -> str:
        """What would be done."""
        forwarding = f", forward mail for {parameters.forwarding_days} days" if parameters.forwarding_days else ""
        return f"keep the account for {parameters.retention_days} days{forwarding}, then see the contact as gone"

    def do(self, context: Context, parameters: CloseParameters) -> Outcome:
        """Store dates, status and flag in one transaction; a second time the first dates stay."""
        left = [
            s.label for s in context.finished_steps() if s.state in (StepState.FAILED, StepState.UNKNOWN) and s.in_child
        ]
        now = utcnow()
        with context.installation.database.session() as session:
            contact, row = person(session, context), offboarding(session, context)
            if row.closed_at is None:
                row.closed_at = now
                row.retention_until = _retention_begins(contact, now) + timedelta(days=parameters.retention_days)
                if parameters.forwarding_days:
                    row.forwarding_until = now + timedelta(days=parameters.forwarding_days)
                session.add(row)
            task = self._backup_by_hand(session, context, contact)
            status = "Offboarding" if left else "Former Employee"
            places.change(session, contact, actor=context.root_script, status=status)
            field_values.clear_value(session, Form.CONTACT, context.target_id, FLAG, actor=context.root_script)
            result = {
                "status": status, "left": left, "backup_task": task, "retention_until": _shown(row.retention_until),
                "forwarding_until": _shown(row.forwarding_until),
            }  # fmt: skip
        return Outcome.succeeded(**result)

    def _backup_by_hand(self, session: Session, context: Context, contact: Contact) -> int | None:
        """A task where a backup is wanted and no system made it: until it is done nothing is deleted."""
        wanted = ((context.plan.get("inputs") or {}).get("backup_user_data") or {}).get("value") == "1"
        if retention.backed_up(session, context.root_id):
            for task in manual_tasks.list_tasks(session, contact_id=context.target_id, state="open"):
                if task.id is not None and task.origin and task.origin.endswith(":backup"):
                    note = f"backed up by run {context.root_id}"
                    manual_tasks.close(session, task.id, actor=context.root_script, note=note)
            return None
        if not wanted:
            return None
        return manual_tasks.create(
            session, client_id=context.client_id, contact_id=context.target_id, run_id=context.root_id, matter="backup",
            title=f"Back up mailbox and files of {contact.name}", owner="IT", author=context.root_script,
            description="No step of the offboarding made a complete backup. Do it by hand, or mend the step and run again.",
            origin=f"run:{context.root_id}:backup", blocks_deletion=True,
        ).id  # fmt: skip


class UndoParameters(StatusParameters):
    """The status before the run, and the run whose changes are taken back."""

    run: str = Field(min_length=1, max_length=100)


class UndoOffboarding(Function[UndoParameters]):
    """Gives the record its status from before a run, and takes the retention away that would delete the accounts."""

    name = "contact.undo_offboarding"
    summary = "Set the person's status back, and end the retention and forwarding that a run had begun"
    Parameters = UndoParameters
    repeatable = True

    def preview(self, parameters: UndoParameters) -> str:
        """What would be done."""
        return f"set the contact's status to {parameters.status}, and take back the retention of run {parameters.run}"

    def do(self, context: Context, parameters: UndoParameters) -> Outcome:
        """Both in one transaction."""
        with context.installation.database.session() as session:
            contact = person(session, context)
            old = contact.status
            mine = (ContactOffboarding.contact_id == context.target_id, ContactOffboarding.run_id == parameters.run)
            row = session.exec(select(ContactOffboarding).where(*mine)).first()
            until = None
            if row is not None:
                until, row.closed_at, row.retention_until, row.forwarding_until = row.retention_until, None, None, None
                session.add(row)
            places.change(session, contact, actor=context.root_script, status=parameters.status)
        return Outcome.succeeded(old=old, status=parameters.status, retention_taken_back=_shown(until))


class CheckDeletion(Function[NoParameters]):
    """Fails while the person's account must not be deleted. The engine asks the same before each step that deletes."""

    name = "contact.check_deletion"
    summary = "Fail while a legal hold, a missing backup or an unfinished retention stands"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "check legal hold, backup and retention"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Ask now. Raises StepError (type deletion_refused)."""
        with context.installation.database.reading() as session:
            person(session, context)
            refusal = retention.deletion_refusal(session, context.target_id)
        if refusal is not None:
            raise refused(refusal)
        return Outcome.succeeded(allowed=True)


def refused(refusal: retention.DeletionRefusal) -> StepError:
    """A refusal as a step's error."""
    return StepError(
        f"the account must not be deleted: {refusal.reason}", type="deletion_refused", code=refusal.code,
        impact="nothing was deleted", remediation=refusal.remediation, critical=True,
    )  # fmt: skip


class MarkDeleted(Function[NoParameters]):
    """Notes that the person's accounts are deleted."""

    name = "contact.mark_deleted"
    summary = "Note that the person's accounts are deleted, if every step before says so"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "note that the accounts are deleted"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Note it once. Skipped when something is left."""
        steps = [s for s in context.finished_steps() if s.in_child]
        if not steps or any(s.state not in (StepState.SUCCEEDED, StepState.SKIPPED) for s in steps):
            return Outcome.skipped("something was not deleted")
        with context.installation.database.session() as session:
            row = offboarding(session, context)
            row.deleted_at = row.deleted_at or utcnow()
            days = effective_values(session, context.places).get(BACKUP_DAYS) or ""
            if days.isdigit() and int(days):
                row.data_until = row.deleted_at + timedelta(days=int(days))
            session.add(row)
            return Outcome.succeeded(deleted_at=_shown(row.deleted_at))


class EndForwarding(Function[NoParameters]):
    """Notes that the forwarding of the person's mail has ended."""

    name = "contact.forwarding_ended"
    summary = "Note that the forwarding of the person's mail has ended, if every step before says so"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "note that forwarding has ended"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Note it once. Skipped when a step failed, so that the monitor finds it again."""
        steps = [s for s in context.finished_steps() if s.in_child]
        if not steps or any(s.state not in (StepState.SUCCEEDED, StepState.SKIPPED) for s in steps):
            return Outcome.skipped("forwarding was not ended")
        with context.installation.database.session() as session:
            row = offboarding(session, context)
            row.forwarding_ended_at = row.forwarding_ended_at or utcnow()
            session.add(row)
            return Outcome.succeeded(forwarding_ended_at=_shown(row.forwarding_ended_at))


def _retention_begins(contact: Contact, now: datetime) -> datetime:
    """Who is offboarded before the last day is kept as long as everybody else: it counts from the termination date."""
    day = contact.termination_date
    return max(now, contacts.day_begins(day)) if day else now


def _shown(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat()
