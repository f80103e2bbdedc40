"""`exeunt offboard template`: named templates of options, and who uses them."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import counted, say, show_json, show_table
from agent.inventory import lookup
from agent.inventory.lookup import place_id
from agent.model.places import Client
from agent.running import offboarding_templates as templates


@click.group("template", cls=Group)
def template() -> None:
    """Named templates of options for offboardings of people."""


@command(template, "list", "exeunt offboard template list", "exeunt offboard template list --json")
@json_option
@pass_caller
def list_templates(caller: Caller, as_json: bool) -> None:
    """Show the templates with their options and who uses them."""
    with caller.installation.database.reading() as session:
        slugs = {str(c.client_id): c.slug for c in lookup.clients(session)}
        rows = [
            {
                "name": t.name, "description": t.description, "options": t.options,
                "clients": [slugs.get(u.key, u.key) for u in uses if u.kind == "client"],
                "users": [u.key for u in uses if u.kind == "user"],
                "everyone": any(u.kind == "everyone" for u in uses),
            }
            for t, uses in templates.templates(session)
        ]  # fmt: skip
    if as_json:
        show_json(rows)
    else:
        columns = ("name", "options", "clients", "users", "everyone")
        show_table(columns, ([r[c] for c in columns] for r in rows), empty="no templates")


@command(
    template, "save", "exeunt offboard template save Leavers convert_mailbox_to_shared=1 forwarding_duration_days=30",
    'exeunt offboard template save Quiet notify_security_team=no "out_of_office=I have left the company." --description "No mail"',
)  # fmt: skip
@click.argument("name")
@click.argument("options", metavar="INPUT=VALUE...", nargs=-1)
@click.option("--description", help="What it is for.")
@pass_caller
def save(caller: Caller, name: str, options: tuple[str, ...], description: str | None) -> None:
    """Store a template, or replace all its options."""
    with caller.installation.database.session() as session:
        made = templates.save(
            session, name, templates.read_options(options), actor=caller.actor, description=description
        )
        number = len(made.options)
    say(f"template {name!r}: {counted(number, 'option')}")


@command(template, "delete", "exeunt offboard template delete Leavers")
@click.argument("name")
@pass_caller
def delete(caller: Caller, name: str) -> None:
    """Remove a template that nobody uses."""
    with caller.installation.database.session() as session:
        templates.remove(session, name, actor=caller.actor)
    say(f"template {name!r} is removed")


_clients = click.option("--client", "clients", multiple=True, help="A client: slug, name or id. May be repeated.")
_all = click.option("--all-clients", is_flag=True, help="Every client.")
_users = click.option("--for-user", "users", multiple=True, help="A user, for what the user plans. May be repeated.")
_everyone = click.option("--everyone", is_flag=True, help="Everybody, where nothing else says more.")


@command(
    template, "assign", "exeunt offboard template assign Leavers --client contoso --client fabrikam",
    "exeunt offboard template assign Leavers --all-clients", "exeunt offboard template assign Mine --for-user ann",
)  # fmt: skip
@click.argument("name")
@_clients
@_all
@_users
@_everyone
@pass_caller
def assign(
    caller: Caller, name: str, clients: tuple[str, ...], all_clients: bool, users: tuple[str, ...], everyone: bool
) -> None:
    """Let clients, users or everybody use a template without naming it."""
    with caller.installation.database.session() as session:
        found = lookup.clients(session) if all_clients else [lookup.find(session, Client, c) for c in clients]
        number = templates.assign(
            session, name, actor=caller.actor, client_ids=[place_id(c) for c in found], users=users, everyone=everyone
        )
    say(f"template {name!r}: {counted(number, 'assignment')} changed")


@command(template, "unassign", "exeunt offboard template unassign --client contoso")
@_clients
@_all
@_users
@_everyone
@pass_caller
def unassign(
    caller: Caller, clients: tuple[str, ...], all_clients: bool, users: tuple[str, ...], everyone: bool
) -> None:
    """Let clients, users or everybody use no template."""
    with caller.installation.database.session() as session:
        found = lookup.clients(session) if all_clients else [lookup.find(session, Client, c) for c in clients]
        number = templates.unassign(
            session, actor=caller.actor, client_ids=[place_id(c) for c in found], users=users, everyone=everyone
        )
    say(f"{counted(number, 'assignment')} removed")
