"""`exeunt property`: system properties."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table
from agent.errors import NotFound, UsageError
from agent.services import properties as verbs
from agent.services.credentials import secret_from


@click.group("property", cls=Group)
def properties() -> None:
    """System properties: server-wide settings."""


@command(properties, "list", "exeunt property list", "exeunt property list --json")
@json_option
@pass_caller
def list_properties(caller: Caller, as_json: bool) -> None:
    """Show all properties with their values, defaults and meaning. Secrets are not shown."""
    with caller.installation.database.reading() as session:
        found = verbs.list_properties(session)
    if as_json:
        show_json(found)
        return
    show_table(
        ("name", "value", "default", "allowed", "meaning"),
        ((p.name, "(secret)" if p.is_secret and p.is_set else p.value, p.default, p.allowed, p.meaning) for p in found),
    )


@command(properties, "get", "exeunt property get _sysOffboardingAlertType")
@click.argument("name")
@json_option
@pass_caller
def get(caller: Caller, name: str, as_json: bool) -> None:
    """Show one property: its value, or its default while it is not set."""
    with caller.installation.database.reading() as session:
        found = next((p for p in verbs.list_properties(session) if p.name == name), None)
    if found is None:
        raise NotFound(f"there is no property {name!r}; `exeunt property list` shows them")
    if as_json:
        show_json(found)
    else:
        say("(secret)" if found.is_secret else (found.value if found.is_set else found.default) or "")


@command(
    properties, "set", 'exeunt property set _sysOffboardingAlertType "Email, Ticket"',
    "exeunt property set RMMPlus_AccessKey --secret-from env:ACCESS_KEY",
)  # fmt: skip
@click.argument("name")
@click.argument("value", required=False)
@click.option("--secret", is_flag=True, help="Store it encrypted; it is asked for.")
@click.option("--secret-from", "source", metavar="SOURCE", help="Store it encrypted, from env:NAME or file:PATH.")
@pass_caller
def set_property(caller: Caller, name: str, value: str | None, secret: bool, source: str | None) -> None:
    """Set a property. One that is a secret is never taken as an argument, where others could see it."""
    declared = verbs.CATALOGUE.get(name)
    hidden = secret or source is not None or (declared is not None and declared.is_secret)
    if hidden and value is not None:
        raise UsageError(f"{name} is a secret: leave the value out, or give --secret-from env:NAME or file:PATH")
    if hidden:
        value = secret_from(source) if source else click.prompt(name, hide_input=True, err=True)
    if value is None:
        raise UsageError(f"which value? exeunt property set {name} VALUE")
    verbs.set_value(caller.installation, name, value, actor=caller.actor, secret=hidden)
    say(f"{name} is set")


@command(properties, "unset", "exeunt property unset _sysOffboardingAlertType")
@click.argument("name")
@pass_caller
def unset(caller: Caller, name: str) -> None:
    """Forget a property's value, so that its default counts again."""
    verbs.unset(caller.installation, name, actor=caller.actor)
    say(f"{name} is no longer set")
