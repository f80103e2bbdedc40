"""`exeunt task`: what people must do because no system can."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table
from agent.errors import UsageError
from agent.inventory import lookup
from agent.inventory.contacts import find_person
from agent.inventory.lookup import place_id
from agent.model.base import utcnow
from agent.model.places import Client
from agent.services import manual_tasks


@click.group("task", cls=Group)
def task() -> None:
    """Tasks for people: keys, badges, exit interviews."""


@command(
    task, "list", "exeunt task list", "exeunt task list --client contoso --overdue", "exeunt task list --state done --json"
)  # fmt: skip
@click.option("--client", help="Only of this client: slug, name or id.")
@click.option("--contact", help="Only about this person: e-mail address, id or external id.")
@click.option(
    "--state", type=click.Choice(manual_tasks.STATES), default="open", show_default=True, help="In this state."
)
@click.option("--overdue", is_flag=True, help="Only open ones whose day is over.")
@limit_option()
@json_option
@pass_caller
def list_tasks(
    caller: Caller, client: str | None, contact: str | None, state: str, overdue: bool, limit: int, as_json: bool
) -> None:
    """Show tasks, the most urgent first."""
    with caller.installation.database.reading() as session:
        client_id = place_id(lookup.find(session, Client, client)) if client else None
        found = manual_tasks.list_tasks(
            session, client_id=client_id, state=state, limit=limit,
            contact_id=place_id(find_person(session, client_id, contact)) if contact else None,
            overdue_on=caller.settings.day_of(utcnow()) if overdue else None,
        )  # fmt: skip
    if as_json:
        show_json(found)
    else:
        columns = ("id", "title", "owner", "due", "state", "blocks deletion", "note")
        show_table(
            columns,
            ((t.id, t.title, t.owner, t.due, t.state, t.blocks_deletion, t.note) for t in found),
            empty="no tasks",
        )


@command(
    task, "add", 'exeunt task add "Collect the keys" --contact john@contoso.example --owner Facilities --due 2030-01-31',
    'exeunt task add "Export the mailbox to the vault" --contact john@contoso.example --backup',
)  # fmt: skip
@click.argument("title")
@click.option("--contact", help="About this person: e-mail address, id or external id.")
@click.option("--client", help="The client; needed where nobody is named.")
@click.option(
    "--matter", type=click.Choice(manual_tasks.MATTERS), default="other", show_default=True, help="What it is about."
)
@click.option("--owner", default="", help="Who shall do it.")
@click.option("--due", help="YYYY-MM-DD.")
@click.option(
    "--backup", is_flag=True, help="A backup made by hand: no account of the person is deleted before it is done."
)
@pass_caller
def add(
    caller: Caller,
    title: str,
    contact: str | None,
    client: str | None,
    matter: str,
    owner: str,
    due: str | None,
    backup: bool,
) -> None:
    """Add a task."""
    if contact is None and client is None:
        raise UsageError("say whom it is about with --contact, or which client with --client")
    with caller.installation.database.session() as session:
        client_id = place_id(lookup.find(session, Client, client)) if client else None
        person = find_person(session, client_id, contact) if contact else None
        made = manual_tasks.create(
            session, client_id=person.client_id if person else client_id or 0, title=title, author=caller.actor,
            contact_id=place_id(person) if person else None, matter="backup" if backup else matter, owner=owner, due=due,
            blocks_deletion=backup,
        )  # fmt: skip
    say(f"task {made.id}: {made.title}")


@command(task, "done", "exeunt task done 7", 'exeunt task done 7 8 --note "handed over at the front desk"')
@click.argument("task_ids", metavar="ID...", nargs=-1, type=int, required=True)
@click.option("--note", default="", help="What was done.")
@pass_caller
def done(caller: Caller, task_ids: tuple[int, ...], note: str) -> None:
    """Note that tasks are done; all of them or none."""
    with caller.installation.database.session() as session:
        for task_id in task_ids:
            manual_tasks.close(session, task_id, actor=caller.actor, note=note)
    say(f"done: {', '.join(map(str, task_ids))}")


@command(task, "cancel", 'exeunt task cancel 7 --note "there are no keys"')
@click.argument("task_ids", metavar="ID...", nargs=-1, type=int, required=True)
@click.option("--note", default="", help="Why.")
@pass_caller
def cancel(caller: Caller, task_ids: tuple[int, ...], note: str) -> None:
    """Note that tasks are not needed; one that a deletion waits for cannot be cancelled."""
    with caller.installation.database.session() as session:
        for task_id in task_ids:
            manual_tasks.close(session, task_id, actor=caller.actor, note=note, state="cancelled")
    say(f"cancelled: {', '.join(map(str, task_ids))}")
