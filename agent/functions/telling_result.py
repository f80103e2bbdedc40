"""`offboarding.mail_result`, `offboarding.webhook_result`, `offboarding.ticket_result`: the result where somebody asked for it.

They answer the inputs notify_email, notify_webhook and notify_psa (seed 003, "Webhook", "E-mail", "PSA"). Whoever asks and
cannot be told gets a failed step: an offboarding that told nobody is no full success.
"""

from __future__ import annotations

from sqlmodel import Session

from agent.errors import StepError
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.contacts import TICKET
from agent.functions.offboarding import report_text
from agent.functions.results import result_lists
from agent.functions.tickets import about_target, target_key
from agent.inventory import field_values
from agent.inventory.effective import effective_values
from agent.model.fields import Form
from agent.model.tickets import Notification
from agent.services import mail, properties, tickets, webhooks
from agent.services.smtp import addresses

#: The extra field with the addresses that the result goes to; the default address of offboardings stands in for it.
RECIPIENTS = "it_notification_recipients"
TICKET_RESULT = "offboarding.ticket_result"


class NoParameters(BaseParameters):
    """Nothing to choose: the client's fields and the system properties decide."""


class MailResult(Function[NoParameters]):
    """Queues one mail per run with what was done and what was not."""

    name = "offboarding.mail_result"
    summary = f"Mail the result to {RECIPIENTS}, else to {properties.EMAIL_ADDRESS}, else to who started it"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return f"mail the result to {RECIPIENTS}, else {properties.EMAIL_ADDRESS}, else who started it"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Store it once. Raises StepError when nobody is named."""
        subject, body = report_text(context, result_lists(context.finished_steps()))
        with context.installation.database.session() as session:
            recipients = _recipients(session, context)
            if not recipients:
                raise StepError(
                    "nobody is named who gets the result by mail", type="no_recipients", impact="The result was not mailed.",
                    remediation=f"set the client's field {RECIPIENTS}, or {properties.EMAIL_ADDRESS}",
                )  # fmt: skip
            told = _told_by_report(session, context)
            missing = [a for a in recipients if a.casefold() not in told]
            if not missing:
                return Outcome.skipped("offboarding.report mailed the result to the same people")
            queued = mail.queue_mail(
                session, key=f"{self.name}:run:{context.root_id}", client_id=context.client_id, run_id=context.root_id,
                recipient=", ".join(missing), subject=subject, body=body,
            )  # fmt: skip
        return Outcome.succeeded(mail=queued.id)


class WebhookResult(Function[NoParameters]):
    """Sees that somebody is there who will be told; the worker sends the event when the run has its final state."""

    name = "offboarding.webhook_result"
    summary = f"See that a webhook gets the event {webhooks.OFFBOARDING_FINISHED} when the run is over"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return (
            f"send {webhooks.OFFBOARDING_FINISHED} to every webhook that is told of this client, when the run is over"
        )

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Name the targets. Raises StepError when there is none."""
        with context.installation.database.reading() as session:
            names = [t.name for t in webhooks.targets_of(session, context.client_id)]
        if not names:
            raise StepError(
                "no webhook is told of this client", type="no_webhook", impact="The result is sent to no webhook.",
                remediation="exeunt webhook add NAME URL --client CLIENT, then retry the run",
            )  # fmt: skip
        return Outcome.succeeded(event=webhooks.OFFBOARDING_FINISHED, webhooks=names)


class TicketResult(Function[NoParameters]):
    """Gives the text that the planned step after it writes on the PSA's ticket, or opens a ticket here and says why."""

    name = TICKET_RESULT
    summary = "Put the result on the PSA's ticket; where no PSA keeps one, into a ticket here, which says so"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "write the result on the offboarding's ticket in the PSA, or into a ticket here if there is none"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Once per run. Skipped, with the ticket here, when the client's PSA made no ticket in this offboarding."""
        subject, body = report_text(context, result_lists(context.finished_steps()))
        keeper = context.plan.get("ticketing")
        with context.installation.database.session() as session:
            there = effective_values(session, context.places).get(TICKET, "") if keeper else ""
            if there:
                return Outcome.succeeded(text=f"{subject}\n\n{body}", system=keeper, ticket=there)
            why = (
                f"{keeper} made no ticket in this offboarding" if keeper
                else "no package of a PSA is listed for this client"
            )  # fmt: skip
            ticket = tickets.open_or_comment(
                session, key=target_key(context, "offboarding"), origin=f"step:{context.step_id}", subject=subject,
                body=f"{body}\nThis ticket is kept by Exeunt: {why}.\n", author=context.root_script,
                category=context.system_property(properties.TICKET_CATEGORY) or None, **about_target(context),
            )  # fmt: skip
            if keeper:
                return Outcome.skipped(f"{why}; the result is in ticket {ticket.id} of Exeunt")
            field_values.set_value(
                session, Form.CONTACT, context.target_id, TICKET, str(ticket.id), actor=context.root_script
            )
        return Outcome.succeeded(system="Exeunt", ticket=str(ticket.id), reason=why)


def _recipients(session: Session, context: Context) -> list[str]:
    """The first of the places that names somebody."""
    fields = effective_values(session, context.places)
    for given in (fields.get(RECIPIENTS), context.system_property(properties.EMAIL_ADDRESS), context.started_by):
        try:
            found = addresses(given or "")
        except ValueError:
            # Who started it may be a monitor or a name.
            found = []
        if found:
            return found
    return []


def _told_by_report(session: Session, context: Context) -> set[str]:
    """Who got the same text from `offboarding.report` of this run."""
    made = [s.result.get("mail") for s in context.finished_steps() if s.function == "offboarding.report"]
    stored = [session.get(Notification, number) for number in made if isinstance(number, int)]
    return {a.strip().casefold() for n in stored if n is not None for a in n.recipient.split(",")}
