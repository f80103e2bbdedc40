"""`exeunt inventory`: add, set, move, retire, remove."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.inventory_group import inventory
from agent.cli.lazy import command
from agent.cli.output import say, show_json
from agent.cli.places import one_place, place_options
from agent.errors import UsageError
from agent.inventory import contacts, lookup, places, removal
from agent.inventory.columns import PLATFORMS, TRANSPORTS
from agent.inventory.local_facts import register
from agent.inventory.lookup import place_id
from agent.model.fields import Form
from agent.model.places import Client, Computer, Contact, Location

_external_id = click.option("--external-id", help="Its id elsewhere, such as in your PSA; else one is made.")
_location = click.option("--location", required=True, help="`Client/Location`, or the location's id.")


@command(
    inventory,
    "add-client",
    "exeunt inventory add-client Contoso",
    'exeunt inventory add-client "Contoso, Ltd." --slug contoso',
)
@click.argument("name")
@click.option("--slug", help="Names its folder of scripts: a-z, 0-9 and `-`; else it is made from the name.")
@_external_id
@pass_caller
def add_client(caller: Caller, name: str, slug: str | None, external_id: str | None) -> None:
    """Add a client."""
    with caller.installation.database.session() as session:
        made = places.add_client(session, name=name, actor=caller.actor, external_id=external_id, slug=slug)
    say(f"client {made.client_id}: {made.name} (slug {made.slug})")


@command(inventory, "add-location", "exeunt inventory add-location HQ --client contoso")
@click.argument("name")
@click.option("--client", required=True, help="The client: slug, name or id.")
@_external_id
@pass_caller
def add_location(caller: Caller, name: str, client: str, external_id: str | None) -> None:
    """Add a location of a client."""
    with caller.installation.database.session() as session:
        owner = lookup.find(session, Client, client)
        made = places.add_location(
            session, client_id=place_id(owner), name=name, actor=caller.actor, external_id=external_id
        )
        where = lookup.path(session, made)
    say(f"location {made.location_id}: {where}")


@command(
    inventory, "add-computer", "exeunt inventory add-computer PC1 --location Contoso/HQ --platform windows",
    "exeunt inventory add-computer web1 --location Contoso/HQ --platform linux --transport ssh --address 192.0.2.7 "
    "--credential 3 --server",
)  # fmt: skip
@click.argument("name")
@_location
@_external_id
@click.option(
    "--platform", type=click.Choice(PLATFORMS), default="windows", show_default=True, help="Which bodies run on it."
)
@click.option("--os", "os_name", default="", help="Its operating system, for people.")
@click.option("--transport", type=click.Choice([t for t in TRANSPORTS if t]), help="How it is reached.")
@click.option("--address", default="", help="Host name or address.")
@click.option("--port", type=click.IntRange(1, 65535), help="Else the transport's usual one.")
@click.option(
    "--credential", "credential_id", type=int, help="Id of the credential to use; else the nearest that fits."
)
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the transport. May be repeated."
)
@click.option("--server", is_flag=True, help="It is a server: offboarded only after an explicit opt-in.")
@click.option("--probe", is_flag=True, help="It is a probe agent: offboarded only after an explicit opt-in.")
@pass_caller
def add_computer(
    caller: Caller, name: str, location: str, external_id: str | None, server: bool, probe: bool, options: tuple[str, ...],
    os_name: str, transport: str | None, **attributes: Any,
) -> None:  # fmt: skip
    """Add a computer at a location."""
    given = {n: v for n, v in attributes.items() if v is not None}
    if options:
        given["transport_options"] = json.dumps(_pairs(options))
    with caller.installation.database.session() as session:
        where = lookup.find(session, Location, location)
        made = places.add_computer(
            session, location_id=place_id(where), name=name, actor=caller.actor, external_id=external_id,
            is_server=server, is_probe=probe, os=os_name, transport=transport or "", **given,
        )  # fmt: skip
        path = lookup.path(session, made)
    say(f"computer {made.computer_id}: {path}")


def _pairs(given: tuple[str, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} is no setting: write KEY=VALUE")
        try:
            result[name] = json.loads(text)
        except json.JSONDecodeError:
            result[name] = text
    return result


@command(
    inventory, "add-contact", 'exeunt inventory add-contact "Ada Byron" --client contoso --email ada@contoso.example'
)
@click.argument("name")
@click.option("--client", required=True, help="The client: slug, name or id.")
@click.option("--location", help="One of the client's locations.")
@click.option("--email", default="", help="The person's address.")
@_external_id
@pass_caller
def add_contact(
    caller: Caller, name: str, client: str, location: str | None, email: str, external_id: str | None
) -> None:
    """Add a person at a client."""
    with caller.installation.database.session() as session:
        made = places.add_contact(
            session, client_id=place_id(lookup.find(session, Client, client)), name=name, actor=caller.actor, email=email,
            location_id=place_id(lookup.find(session, Location, location)) if location else None, external_id=external_id,
        )  # fmt: skip
        path = lookup.path(session, made)
    say(f"contact {made.contact_id}: {path}")


@command(inventory, "add-local", "exeunt inventory add-local --location Contoso/HQ")
@_location
@click.option("--suffix", default="", help="Goes into its external id, to register this machine more than once.")
@pass_caller
def add_local(caller: Caller, location: str, suffix: str) -> None:
    """Register this machine with its real facts, or bring them up to date; it is reached without any network."""
    with caller.installation.database.session() as session:
        where = lookup.find(session, Location, location)
        made = register(session, location_id=place_id(where), actor=caller.actor, suffix=suffix)
        path = lookup.path(session, made)
    say(f"computer {made.computer_id}: {path}, {made.os}")


@command(
    inventory, "set", "exeunt inventory set --computer Contoso/HQ/PC1 transport=winrm address=192.0.2.7",
    'exeunt inventory set --client contoso name="Contoso GmbH"',
)  # fmt: skip
@click.argument("values", nargs=-1, required=True, metavar="COLUMN=VALUE...")
@place_options()
@pass_caller
def set_columns(caller: Caller, values: tuple[str, ...], **given: str | None) -> None:
    """Change columns of a place; old and new values go into the audit trail."""
    changes: dict[str, str] = {}
    for pair in values:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} changes nothing: write COLUMN=VALUE")
        changes[name] = text
    with caller.installation.database.session() as session:
        _, place = one_place(session, **given)
        places.change(session, place, actor=caller.actor, **changes)
        path = lookup.path(session, place)
    say(f"{path}: {', '.join(changes)} stored")


@command(
    inventory, "move", "exeunt inventory move --computer Contoso/HQ/PC1 --to Contoso/Branch",
    'exeunt inventory move --contact "Contoso/Jane Doe" --to Contoso/Branch',
)  # fmt: skip
@place_options(Form.COMPUTER, Form.CONTACT)
@click.option("--to", "location", required=True, help="The new location: `Client/Location` or id.")
@click.option("--allow-move", is_flag=True, help="A computer also to a location of another client.")
@pass_caller
def move(caller: Caller, location: str, allow_move: bool, **given: str | None) -> None:
    """Put a computer at another location, or a person at another one of the same client."""
    with caller.installation.database.session() as session:
        _, place = one_place(session, **given)
        where = place_id(lookup.find(session, Location, location))
        if isinstance(place, Contact):
            contacts.move(session, place, where, actor=caller.actor)
            done = f"contact {place.contact_id}: {place.name} is at {location}"
        else:
            assert isinstance(place, Computer)
            places.move(session, place, where, actor=caller.actor, allow_move=allow_move)
            done = f"computer {place.computer_id}: {lookup.path(session, place)}"
    say(done)


@command(inventory, "retire", "exeunt inventory retire --computer Contoso/HQ/PC1")
@place_options(Form.COMPUTER)
@click.option("--undo", is_flag=True, help="Take it back into service.")
@pass_caller
def retire(caller: Caller, undo: bool, **given: str | None) -> None:
    """Mark a computer as retired: it is kept, and no run touches it. Nothing is removed from it."""
    with caller.installation.database.session() as session:
        _, place = one_place(session, **given)
        assert isinstance(place, Computer)
        (places.unretire if undo else places.retire)(session, place, actor=caller.actor)
        path = lookup.path(session, place)
    say(f"{path} is " + ("in service" if undo else "retired"))


@command(
    inventory, "remove", "exeunt inventory remove --computer Contoso/HQ/PC1 --yes",
    "exeunt inventory remove --client id:7 --yes --json",
)  # fmt: skip
@place_options()
@click.option("--yes", is_flag=True, help="Remove it without a question.")
@json_option
@pass_caller
def remove(caller: Caller, yes: bool, as_json: bool, **given: str | None) -> None:
    """Remove a place that was added by mistake. Refused where it has a history or something hangs on it."""
    installation = caller.installation
    with installation.database.reading() as session:
        form, place = one_place(session, **given)
        removal.refuse_kept(installation, session, place)
        number, where = place_id(place), lookup.path(session, place)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("nobody can be asked here: give --yes to remove it without a question")
        click.confirm(f"Remove the {form.name.lower()} {where} (id {number})?", abort=True, err=True)
    with installation.database.session() as session:
        place = lookup.get(session, lookup.MODELS[form], number)
        gone = removal.remove(installation, session, place, actor=caller.actor)
    if as_json:
        show_json(asdict(gone))
    else:
        say(f"{gone.kind} {gone.id} is removed: {gone.path}")
