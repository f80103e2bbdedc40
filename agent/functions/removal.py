"""What the functions that remove something share: the ticket about a removal that failed."""

from __future__ import annotations

from agent.functions.base import BodyResult, Context
from agent.functions.tickets import about_target, target_key
from agent.services import properties, tickets

#: Characters of a method's output that are kept in the result and in the ticket.
LOG_CHARACTERS = 4000


def target_name(context: Context) -> str:
    """Name of the target, for people."""
    place = context.places.get(context.target_kind) or {}
    return str(place.get("name", context.target_id))


def log_of(title: str, result: BodyResult) -> str:
    """What a body said, under a title."""
    text = "\n".join(part.strip() for part in (result.stdout, result.stderr) if part.strip())
    return f"--- {title} (exit code {result.execution.exit_code})\n{text}\n"


def failure_ticket(context: Context, matter: str, *, subject: str, body: str, log: str = "") -> int | None:
    """Open a ticket, or comment the open one of this matter and target; the log becomes a comment. Once per step."""
    with context.installation.database.session() as session:
        ticket = tickets.open_or_comment(
            session, key=target_key(context, matter), origin=f"{context.step_id}:{matter}", subject=subject, body=body,
            author=context.root_script, category=context.system_property(properties.TICKET_CATEGORY),
            **about_target(context),
        )  # fmt: skip
        assert ticket.id is not None
        if log:
            tickets.add_comment(
                session, ticket.id, author=context.root_script, text=log, run_id=context.root_id,
                origin=f"{context.step_id}:{matter}:log", client_id=context.client_id,
            )  # fmt: skip
        return ticket.id
