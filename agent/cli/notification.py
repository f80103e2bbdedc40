"""`exeunt notification`: mail that was sent, waits, or was kept as failed."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_details, show_json, show_table
from agent.errors import NotFound
from agent.inventory import lookup
from agent.model.places import Client
from agent.model.tickets import Notification
from agent.services import mail


@click.group("notification", cls=Group)
def notification() -> None:
    """Mail that was sent, waits or was kept as failed."""


@command(notification, "list", "exeunt notification list", "exeunt notification list --state failed --json")
@click.option("--client", help="Only about this client: slug, name or id.")
@click.option("--state", type=click.Choice(["sending", "sent", "failed", "unknown"]), help="Only in this state.")
@limit_option()
@json_option
@pass_caller
def list_mail(caller: Caller, client: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """Show mail, the newest first, with the error of what could not be sent."""
    with caller.installation.database.reading() as session:
        client_id = lookup.find(session, Client, client).client_id if client else None
        found = mail.list_mail(session, client_id=client_id, state=state, limit=limit)
    if as_json:
        show_json([m.model_dump(exclude={"claim"}) for m in found])
        return
    show_table(
        ("id", "state", "recipient", "subject", "attempts", "created", "error"),
        ((m.id, m.state, m.recipient, m.subject, m.attempts, m.created_at, m.error) for m in found),
        empty="no mail",
    )


@command(notification, "show", "exeunt notification show 3")
@click.argument("mail_id", metavar="ID", type=int)
@json_option
@pass_caller
def show(caller: Caller, mail_id: int, as_json: bool) -> None:
    """Show one mail with its text."""
    with caller.installation.database.reading() as session:
        found = session.get(Notification, mail_id)
    if found is None:
        raise NotFound(f"there is no mail {mail_id}")
    values = found.model_dump(exclude={"claim", "key"})
    if as_json:
        show_json(values)
    else:
        show_details(values)


@command(notification, "resend", "exeunt notification resend 3", "exeunt notification resend 3 --to ops@example.net")
@click.argument("mail_id", metavar="ID", type=int)
@click.option("--to", "recipient", help="Another recipient.")
@pass_caller
def resend(caller: Caller, mail_id: int, recipient: str | None) -> None:
    """Queue a failed mail again; a worker sends it. What may have arrived is sent a second time on your word only."""
    with caller.installation.database.session() as session:
        mail.resend(session, mail_id, recipient=recipient)
    say(f"mail {mail_id} waits to be sent")


@command(notification, "deliver", "exeunt notification deliver")
@pass_caller
def deliver(caller: Caller) -> None:
    """Send now what is due, as a worker does by itself."""
    done = mail.deliver(caller.installation)
    say(f"{len(done.sent)} sent, {len(done.waiting)} wait, {len(done.failed)} failed, {len(done.unknown)} unknown")
    if done.failed or done.unknown:
        raise SystemExit(1)
