"""`exeunt inventory`: import, export, list, show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from sqlmodel import Session

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.inventory_group import inventory
from agent.cli.lazy import command
from agent.cli.output import plain, say, show_details, show_json, show_table
from agent.cli.places import one_place, place_options
from agent.errors import UsageError
from agent.inventory import field_values, flags, lookup
from agent.inventory.lookup import place_id
from agent.inventory.places import online
from agent.inventory.transfer import export_file, import_file
from agent.inventory.transfer_kinds import KINDS
from agent.model.fields import Form
from agent.model.places import Client, Computer, Location

_COLUMNS = {
    "clients": ("client_id", "name", "slug", "external_id"),
    "locations": ("location_id", "path", "external_id"),
    "computers": (
        "computer_id",
        "path",
        "platform",
        "os",
        "online",
        "last_contact",
        "transport",
        "address",
        "retired_at",
    ),
    "contacts": ("contact_id", "path", "email", "external_id"),
}


@command(
    inventory, "import", "exeunt inventory import clients.csv locations.csv computers.csv",
    "exeunt inventory import --kind computers --dry-run export-of-monday.json",
)  # fmt: skip
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--kind", type=click.Choice(list(KINDS)), help="What is in it, when the file's name does not say it.")
@click.option("--dry-run", is_flag=True, help="Only say what would become of the rows.")
@click.option("--allow-move", is_flag=True, help="Computers and contacts may get to another client.")
@pass_caller
def import_(caller: Caller, files: tuple[Path, ...], kind: str | None, dry_run: bool, allow_move: bool) -> None:
    """Import CSV or JSON files: rows are stored or brought up to date by their external id.

    All files or nothing: a bad line is told with its number and column. The kind is told by the file's name
    (clients.csv) or by --kind. A column `field:NAME` sets that extra data field.
    A contact that was added by hand gets the external id of the line with its e-mail address, UPN or employee id.
    """
    with caller.installation.database.session() as session:
        for file in files:
            found = kind or next((k for k in KINDS if file.stem.lower().startswith(k)), None)
            if found is None:
                raise UsageError(f"{file}: say what is in it with --kind, one of {', '.join(KINDS)}")
            counts = import_file(session, found, file, actor=caller.actor, dry_run=dry_run, allow_move=allow_move)
            joined = f", {counts.joined} joined" if counts.joined else ""
            say(f"{file}: {counts.created} created, {counts.changed} changed, {counts.unchanged} as they were{joined}")
            for told in counts.joins:
                say(f"  {plain(told)}")
    if dry_run:
        say("nothing was stored")


@command(
    inventory,
    "export",
    "exeunt inventory export computers.csv",
    "exeunt inventory export clients.json --client contoso",
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--kind", type=click.Choice(list(KINDS)), help="What to write, when the file's name does not say it.")
@click.option("--client", help="Only of this client: slug, name or id.")
@pass_caller
def export(caller: Caller, file: Path, kind: str | None, client: str | None) -> None:
    """Write all rows of a kind to a .csv or .json file that `import` reads. Secrets are left out."""
    found = kind or next((k for k in KINDS if file.stem.lower().startswith(k)), None)
    if found is None:
        raise UsageError(f"{file}: say what to write with --kind, one of {', '.join(KINDS)}")
    with caller.installation.database.reading() as session:
        client_id = lookup.find(session, Client, client).client_id if client else None
        number = export_file(session, found, file, client_id=client_id)
    say(f"{file}: {number} {found}")


@command(
    inventory,
    "list",
    "exeunt inventory list",
    "exeunt inventory list clients --json",
    "exeunt inventory list --client contoso",
)
@click.argument("kind", type=click.Choice(list(_COLUMNS)), default="computers")
@click.option("--client", help="Only of this client: slug, name or id.")
@click.option("--location", help="Only of this location: `Client/Location` or id.")
@click.option("--retired", is_flag=True, help="Only computers that are retired.")
@click.option("--after", type=int, default=0, help="Computers and contacts: go on after this id.")
@limit_option(1000)
@json_option
@pass_caller
def list_places(
    caller: Caller, kind: str, client: str | None, location: str | None, retired: bool, after: int, limit: int, as_json: bool
) -> None:  # fmt: skip
    """Show clients, locations, computers (the default) or contacts."""
    with caller.installation.database.reading() as session:
        client_id = lookup.find(session, Client, client).client_id if client else None
        location_id = lookup.find(session, Location, location).location_id if location else None
        found: list[Any]
        if kind == "clients":
            found = lookup.clients(session)
        elif kind == "locations":
            found = lookup.locations(session, client_id=client_id)
        elif kind == "contacts":
            found = lookup.contacts(session, client_id=client_id, after_id=after, limit=limit)
        else:
            found = lookup.computers(
                session, client_id=client_id, location_id=location_id, retired=retired, after_id=after, limit=limit
            )
        rows = [_row(caller, session, place) for place in found]
    if as_json:
        show_json(rows)
    else:
        columns = _COLUMNS[kind]
        titles = [c.replace("_", " ") for c in columns]
        show_table(titles, ([r[c] for c in columns] for r in rows), empty=f"no {kind}")


def _row(caller: Caller, session: Session, place: Any) -> dict[str, Any]:
    row = {"path": lookup.path(session, place), **{name: getattr(place, name) for name in type(place).model_fields}}
    if isinstance(place, Computer):
        row["online"] = online(place, caller.installation.settings.online_seconds)
    return row


@command(
    inventory,
    "show",
    "exeunt inventory show --computer Contoso/HQ/PC1",
    "exeunt inventory show --client contoso --json",
)
@place_options()
@json_option
@pass_caller
def show(caller: Caller, as_json: bool, **places: str | None) -> None:
    """Show everything about one place: its columns, its extra data fields, and the flags that reach it."""
    with caller.installation.database.reading() as session:
        form, place = one_place(session, **places)
        row = _row(caller, session, place)
        values = field_values.values_of(session, form, place_id(place))
        if form is Form.COMPUTER:
            row["flagged_by"] = flags.flags(session, [place_id(place)]).get(place_id(place), [])
    if as_json:
        show_json({**row, "fields": {n: plain(v) for n, v in values.items()}})
        return
    show_details({n.replace("_", " "): v for n, v in row.items()})
    say("")
    show_table(("field", "value", "from"), ((n, v.value, v.origin) for n, v in values.items()))
