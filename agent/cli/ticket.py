"""`exeunt ticket`: list, show, comment, close."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_details, show_json, show_table
from agent.inventory import lookup
from agent.model.places import Client, Computer
from agent.services import tickets


@click.group("ticket", cls=Group)
def ticket() -> None:
    """Tickets with their comments."""


@command(ticket, "list", "exeunt ticket list", "exeunt ticket list --status open --client contoso --json")
@click.option("--client", help="Only of this client: slug, name or id.")
@click.option("--computer", help="Only about this computer: id, external id or path of names.")
@click.option("--run", "run_id", help="Only those that this run opened.")
@click.option("--status", type=click.Choice(["open", "closed"]), help="Only in this state.")
@limit_option()
@json_option
@pass_caller
def list_tickets(
    caller: Caller, client: str | None, computer: str | None, run_id: str | None, status: str | None, limit: int, as_json: bool
) -> None:  # fmt: skip
    """Show tickets, the newest first."""
    with caller.installation.database.reading() as session:
        found = tickets.list_tickets(
            session,
            client_id=lookup.find(session, Client, client).client_id if client else None,
            computer_id=lookup.find(session, Computer, computer).computer_id if computer else None,
            run_id=run_id,
            status=status,
            limit=limit,
        )
        names = {c.client_id: c.name for c in lookup.clients(session)}
    if as_json:
        show_json(found)
        return
    show_table(
        ("id", "status", "client", "subject", "category", "created", "run"),
        ((t.id, t.status, names.get(t.client_id), t.subject, t.category, t.created_at, t.run_id) for t in found),
        empty="no tickets",
    )


@command(ticket, "show", "exeunt ticket show 7", "exeunt ticket show 7 --json")
@click.argument("ticket_id", metavar="ID", type=int)
@json_option
@pass_caller
def show(caller: Caller, ticket_id: int, as_json: bool) -> None:
    """Show a ticket with its comments."""
    with caller.installation.database.reading() as session:
        found = tickets.show(session, ticket_id)
    if as_json:
        show_json({**found.ticket.model_dump(), "comments": [c.model_dump() for c in found.comments]})
        return
    it = found.ticket
    show_details(
        {"ticket": it.id, "subject": it.subject, "status": it.status, "category": it.category, "priority": it.priority,
         "created": it.created_at, "by": it.created_by, "run": it.run_id, "closed": it.closed_at, "body": it.body}
    )  # fmt: skip
    for comment in found.comments:
        say("")
        show_details({"comment": comment.created_at, "by": comment.author, "text": comment.text})


@command(ticket, "comment", 'exeunt ticket comment 7 "Rebooted; trying again tonight."')
@click.argument("ticket_id", metavar="ID", type=int)
@click.argument("text")
@pass_caller
def comment(caller: Caller, ticket_id: int, text: str) -> None:
    """Add a comment to a ticket."""
    with caller.installation.database.session() as session:
        tickets.add_comment(session, ticket_id, author=caller.actor, text=text)
    say(f"ticket {ticket_id} has a new comment")


@command(ticket, "close", 'exeunt ticket close 7 --comment "Removed by hand."')
@click.argument("ticket_id", metavar="ID", type=int)
@click.option("--comment", "text", help="A last comment.")
@pass_caller
def close(caller: Caller, ticket_id: int, text: str | None) -> None:
    """Close a ticket."""
    with caller.installation.database.session() as session:
        tickets.close(session, ticket_id, author=caller.actor, comment=text)
    say(f"ticket {ticket_id} is closed")
