"""`ticket.create`, `ticket.comment` and `mail.send`: steps that tell people something. Each does it once per step."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from agent.errors import StepError
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.services import mail, tickets
from agent.services.smtp import addresses


def target_key(context: Context, matter: str) -> str:
    """Key of a ticket about a matter of this target, such as `offboarding:computer:7`."""
    return f"{matter}:{context.target_kind}:{context.target_id}"


def about_target(context: Context) -> dict[str, Any]:
    """The columns that tie a ticket to the target of a run."""
    location = context.places.get("location")
    kinds = {"location": "location_id", "computer": "computer_id", "contact": "contact_id"}
    about: dict[str, Any] = {"client_id": context.client_id, "run_id": context.root_id}
    if location is not None:
        about["location_id"] = location["location_id"]
    if context.target_kind in kinds:
        about[kinds[context.target_kind]] = context.target_id
    return about


class TicketCreateParameters(BaseParameters):
    """A ticket. `matter` keeps tickets about one target apart: one is open per target and matter."""

    subject: str = Field(min_length=1)
    body: str = Field(min_length=1)
    matter: str | None = None
    category: str | None = None
    priority: str | None = None


class TicketCreate(Function[TicketCreateParameters]):
    """Opens a ticket about the target, or comments the one that is open for the same matter."""

    name = "ticket.create"
    summary = "Open a ticket about the target, or comment the one that is open for the same matter"
    Parameters = TicketCreateParameters
    repeatable = True

    def preview(self, parameters: TicketCreateParameters) -> str:
        """What would be done."""
        return f"open a ticket {tickets.one_line(parameters.subject)!r}, or comment the open one"

    def do(self, context: Context, parameters: TicketCreateParameters) -> Outcome:
        """Open or comment; the same step does it once."""
        matter = parameters.matter or tickets.one_line(parameters.subject)
        with context.installation.database.session() as session:
            ticket = tickets.open_or_comment(
                session, key=target_key(context, f"step:{matter}"), origin=f"step:{context.step_id}",
                subject=parameters.subject, body=parameters.body, author=context.root_script,
                category=parameters.category, priority=parameters.priority, **about_target(context),
            )  # fmt: skip
        return Outcome.succeeded(ticket=ticket.id)


class TicketCommentParameters(BaseParameters):
    """A comment. `matter` is that of the ticket; without it the offboarding's own ticket is meant."""

    text: str = Field(min_length=1)
    matter: str | None = None


class TicketComment(Function[TicketCommentParameters]):
    """Comments the open ticket about the target."""

    name = "ticket.comment"
    summary = "Comment the open ticket about the target"
    Parameters = TicketCommentParameters
    repeatable = True

    def preview(self, parameters: TicketCommentParameters) -> str:
        """What would be done."""
        return f"comment the open ticket about {parameters.matter or 'the offboarding'}"

    def do(self, context: Context, parameters: TicketCommentParameters) -> Outcome:
        """Comment once per step. Raises StepError when no such ticket is open."""
        key = target_key(context, f"step:{parameters.matter}" if parameters.matter else "offboarding")
        with context.installation.database.session() as session:
            ticket = tickets.find_open(session, key)
            if ticket is None or ticket.id is None:
                raise StepError(
                    f"no ticket about {parameters.matter or 'the offboarding'} of this {context.target_kind} is open",
                    type="no_open_ticket", remediation="open one by ticket.create with the same `matter`",
                )  # fmt: skip
            tickets.add_comment(
                session, ticket.id, author=context.root_script, text=parameters.text, run_id=context.root_id,
                origin=f"step:{context.step_id}", client_id=context.client_id,
            )  # fmt: skip
        return Outcome.succeeded(ticket=ticket.id)


class MailSendParameters(BaseParameters):
    """A mail; `to` and `cc` are addresses divided by commas."""

    to: str = Field(min_length=1)
    cc: str = ""
    subject: str = Field(min_length=1)
    body: str = Field(min_length=1)

    @field_validator("to", "cc")
    @classmethod
    def _addresses(cls, value: str) -> str:
        addresses(value)
        return value


class MailSend(Function[MailSendParameters]):
    """Stores a mail, which the worker then sends."""

    name = "mail.send"
    summary = "Send a mail; it is stored first and kept when it cannot be sent"
    Parameters = MailSendParameters
    repeatable = True

    def preview(self, parameters: MailSendParameters) -> str:
        """What would be done."""
        return f"send a mail {tickets.one_line(parameters.subject)!r} to {parameters.to}"

    def do(self, context: Context, parameters: MailSendParameters) -> Outcome:
        """Store it once per step; delivery has a state of its own."""
        with context.installation.database.session() as session:
            queued = mail.queue_mail(
                session, key=f"step:{context.step_id}", client_id=context.client_id, run_id=context.root_id,
                recipient=parameters.to, cc=parameters.cc, subject=parameters.subject, body=parameters.body,
            )  # fmt: skip
        return Outcome.succeeded(mail=queued.id)
