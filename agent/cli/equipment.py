"""`exeunt equipment`: what people have and must give back. Import it with `exeunt inventory import equipment.csv`."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table
from agent.inventory import contacts, lookup
from agent.inventory.columns import checked
from agent.inventory.contacts import find_person
from agent.inventory.lookup import place_id
from agent.model.places import EQUIPMENT_STATES, Client, Equipment


@click.group("equipment", cls=Group)
def equipment() -> None:
    """What people have and must give back."""


@command(
    equipment,
    "list",
    "exeunt equipment list --contact john@contoso.example",
    "exeunt equipment list --client contoso --json",
)
@click.option("--client", help="Only of this client: slug, name or id.")
@click.option("--contact", help="Only of this person: e-mail address, id or external id.")
@click.option("--state", type=click.Choice(EQUIPMENT_STATES), help="Only in this state.")
@json_option
@pass_caller
def list_equipment(caller: Caller, client: str | None, contact: str | None, state: str | None, as_json: bool) -> None:
    """Show equipment by person."""
    with caller.installation.database.reading() as session:
        client_id = place_id(lookup.find(session, Client, client)) if client else None
        contact_id = place_id(find_person(session, client_id, contact)) if contact else None
        found = contacts.equipment_of(session, contact_id=contact_id, client_id=client_id)
    found = [e for e in found if state in (None, e.state)]
    if as_json:
        show_json(found)
    else:
        columns = ("id", "contact", "name", "kind", "serial", "quantity", "state", "due", "value")
        rows = (
            (e.equipment_id, e.contact_id, e.name, e.kind, e.serial, e.quantity, e.state, e.due, e.value) for e in found
        )
        show_table(columns, rows, empty="no equipment")


@command(
    equipment, "assign", 'exeunt equipment assign "Dell Latitude 7450" --contact john@contoso.example --kind laptop --serial ABC1',
    "exeunt equipment assign Keys --contact john@contoso.example --kind keys --quantity 3",
)  # fmt: skip
@click.argument("name")
@click.option("--contact", required=True, help="The person: e-mail address, id or external id.")
@click.option("--client", help="The person's client, where the address is not unique.")
@click.option("--kind", default="", help="laptop, phone, badge, keys, parking pass, credit card ...")
@click.option("--serial", default="", help="Serial number.")
@click.option("--asset-tag", default="", help="Number in the asset inventory.")
@click.option("--quantity", default="1", show_default=True, help="How many.")
@click.option("--due", default="", help="To be given back until YYYY-MM-DD.")
@click.option("--value", default="", help="What it is worth, such as 1200.50.")
@pass_caller
def assign(caller: Caller, name: str, contact: str, client: str | None, **attributes: str) -> None:
    """Note that a person has something."""
    values = checked(Equipment, {"name": name, **attributes})
    with caller.installation.database.session() as session:
        client_id = place_id(lookup.find(session, Client, client)) if client else None
        person = find_person(session, client_id, contact)
        made = contacts.assign(session, person, values.pop("name"), actor=caller.actor, **values)
    say(f"equipment {made.equipment_id}: {made.name} of {person.name}")


@command(
    equipment, "set", "exeunt equipment set 7 returned", 'exeunt equipment set 7 damaged --note "screen is broken"'
)
@click.argument("equipment_id", metavar="ID", type=int)
@click.argument("state", type=click.Choice(EQUIPMENT_STATES))
@click.option("--note", default="", help="In which condition, or what is known.")
@pass_caller
def set_state(caller: Caller, equipment_id: int, state: str, note: str) -> None:
    """Note that something was returned, is missing, or came back damaged."""
    with caller.installation.database.session() as session:
        item = contacts.give_back(session, equipment_id, state, actor=caller.actor, note=note)
    say(f"equipment {item.equipment_id}: {item.name} is {item.state}")
