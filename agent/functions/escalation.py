"""`offboarding.escalate`: a ticket of high priority when an offboarding left something that cannot wait (seed 002)."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from agent.functions import exit_facts
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.exit_table import TABLE
from agent.functions.tickets import about_target, target_key
from agent.services import mail, properties, tickets
from agent.services.smtp import addresses

ESCALATE = "offboarding.escalate"


class EscalateParameters(BaseParameters):
    """To whom, and from when on."""

    #: Addresses divided by commas; empty: the default address of offboardings, else who started the run.
    to: str = ""
    #: critical: a critical step was not done, or data is at risk; any: whatever was not done.
    on: Literal["critical", "any"] = "critical"

    @field_validator("to")
    @classmethod
    def _addresses(cls, value: str) -> str:
        addresses(value)
        return value


class Escalate(Function[EscalateParameters]):
    """Opens the ticket, or comments the open one of this person; tells by mail where there is an address."""

    name = ESCALATE
    summary = "Open a ticket of high priority when something critical was not done or data is at risk"
    Parameters = EscalateParameters
    repeatable = True

    def preview(self, parameters: EscalateParameters) -> str:
        """What would be done."""
        what = "anything was not done" if parameters.on == "any" else "a critical step was not done or data is at risk"
        return f"if {what}: open a ticket of high priority for {parameters.to or 'the default address'}"

    def do(self, context: Context, parameters: EscalateParameters) -> Outcome:
        """Once per run. Skipped when there is nothing to escalate."""
        facts = exit_facts.gather(context.finished_steps(), TABLE)
        critical = [f for f in facts.failed if f.failure.critical]
        urgent = bool(critical) or facts.data_at_risk
        if not facts.failed or (parameters.on == "critical" and not urgent):
            return Outcome.skipped("nothing has to be escalated")
        first = (critical or facts.failed)[0]
        reason = tickets.one_line(f"{first.label}: {first.failure.message}")[:500]
        to = parameters.to or context.system_property(properties.EMAIL_ADDRESS) or context.started_by
        name = tickets.one_line(str((context.places.get(context.target_kind) or {}).get("name", context.target_id)))
        subject = f"Offboarding needs attention - {name}({context.target_id})"
        body = _body(context, facts, name)
        priority = "High" if urgent else "Normal"
        with context.installation.database.session() as session:
            ticket = tickets.open_or_comment(
                session, key=target_key(context, "escalation"), origin=f"{ESCALATE}:run:{context.root_id}",
                subject=subject, body=body, author=context.root_script, priority=priority,
                category=context.system_property(properties.TICKET_CATEGORY), **about_target(context),
            )  # fmt: skip
            told = None
            if "@" in to:
                told = mail.queue_mail(
                    session, key=f"{ESCALATE}:run:{context.root_id}", client_id=context.client_id,
                    run_id=context.root_id, recipient=to, subject=subject, body=body,
                ).id  # fmt: skip
        return Outcome.succeeded(
            escalated_to=to, escalation_ticket=ticket.external_id or str(ticket.id), priority=priority, reason=reason,
            mail=told,
        )  # fmt: skip


def _body(context: Context, facts: exit_facts.Facts, name: str) -> str:
    lines = [f"The offboarding of {name} left something undone.", ""]
    for failed in facts.failed:
        said = failed.failure
        lines.append(f"  - {tickets.one_line(failed.label)}{' (critical)' if said.critical else ''}")
        lines += [f"      {tickets.one_line(text)[:1000]}" for text in (said.message, said.impact, said.remediation)]
    if facts.data_at_risk:
        lines += ["", "Data is at risk: do not delete the account until it is secured."]
    lines += ["", f"Run {context.root_id}, started by {tickets.one_line(context.started_by)}."]
    return "\n".join(lines) + "\n"
