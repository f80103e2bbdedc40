"""`exeunt edf`: extra data fields, their values with where they come from, defaults, and what is flagged."""

from __future__ import annotations

from typing import Any

import click
from sqlmodel import Session, col, select

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table, warn
from agent.cli.places import LEVELS, one_place, place_options
from agent.errors import UsageError
from agent.inventory import extra_fields, field_values, flags, lookup
from agent.inventory.lookup import place_id
from agent.inventory.places import online
from agent.model.fields import ExtraField, ExtraFieldData, FieldType, Form
from agent.model.places import Computer
from agent.services.credentials import secret_from

_TYPES = [t.name.lower() for t in FieldType]
_LEVEL = click.Choice(list(LEVELS))


@click.group("edf", cls=Group)
def edf() -> None:
    """Extra data fields: flags and choices of a place."""


@command(edf, "list", "exeunt edf list", "exeunt edf list --level client --json")
@click.option("--level", type=_LEVEL, help="Only of this level.")
@json_option
@pass_caller
def list_fields(caller: Caller, level: str | None, as_json: bool) -> None:
    """Show the fields with level, type, section, options and default."""
    with caller.installation.database.reading() as session:
        found = extra_fields.fields(session, LEVELS[level] if level else None)
        defaults = dict(
            session.exec(
                select(ExtraFieldData.extra_field_id, ExtraFieldData.value).where(ExtraFieldData.id == 0)
            ).all()
        )
    rows = [_field(f, defaults.get(f.id or 0)) for f in found]
    if as_json:
        show_json(rows)
        return
    columns = ("level", "name", "type", "section", "options", "default", "destructive")
    show_table(columns, ([r[c] for c in columns] for r in rows), empty="no fields")


def _field(field: ExtraField, default: str | None) -> dict[str, Any]:
    secret = field.ftype == FieldType.SECRET
    return {
        "level": Form(field.form).name.lower(), "name": field.name, "type": FieldType(field.ftype).name.lower(),
        "section": field.section, "options": extra_fields.options(field), "tooltip": extra_fields.tooltip(field),
        "default": "***" if secret and default is not None else default, "destructive": field.is_destructive,
        "guid": field.ltguid,
    }  # fmt: skip


@command(
    edf, "define", 'exeunt edf define "Contract End" --level client --type date --section Contract',
    'exeunt edf define "Backup Kept" --level computer --type dropdown --option Yes --option No',
)  # fmt: skip
@click.argument("name")
@click.option("--level", type=_LEVEL, required=True, help="Which kind of place has it.")
@click.option("--type", "kind", type=click.Choice(_TYPES), default="text", show_default=True, help="What it holds.")
@click.option("--section", default="", help="The tab it stands on.")
@click.option("--option", "options", multiple=True, help="An option of a dropdown; repeat it for each.")
@click.option("--tooltip", default="", help="The explanation shown with it.")
@click.option("--guid", help="A GUID of your own, so that it is the same field elsewhere.")
@click.option("--destructive", is_flag=True, help="A checkbox that sets off something destructive.")
@pass_caller
def define(
    caller: Caller, name: str, level: str, kind: str, section: str, options: tuple[str, ...], tooltip: str, guid: str | None,
    destructive: bool,
) -> None:  # fmt: skip
    """Define a field on a level; the level's view gets a column of its name."""
    with caller.installation.database.session() as session:
        made = extra_fields.define(
            session, form=LEVELS[level], name=name, actor=caller.actor, type=FieldType[kind.upper()], section=section,
            options=options, tooltip=tooltip, guid=guid, destructive=destructive,
        )  # fmt: skip
    say(f"the {level} field {made.name!r} is defined ({made.ltguid})")


@command(edf, "remove", 'exeunt edf remove "Contract End" --level client')
@click.argument("name")
@click.option("--level", type=_LEVEL, required=True, help="Which kind of place has it.")
@click.option("--with-values", is_flag=True, help="Also when places have values of it.")
@pass_caller
def remove(caller: Caller, name: str, level: str, with_values: bool) -> None:
    """Remove a field of your own; those that come with Exeunt stay."""
    with caller.installation.database.session() as session:
        field = extra_fields.get_field(session, LEVELS[level], name)
        extra_fields.remove(session, field, actor=caller.actor, with_values=with_values)
    say(f"the {level} field {name!r} is removed")


@command(
    edf, "set", 'exeunt edf set "Offboard Computer" 1 --computer "Contoso/HQ/PC1"',
    'exeunt edf set "Failed Uninstall Process" "Ticket + Halt" --client contoso',
    'exeunt edf set "Uninstall Passphrase" --secret-from env:PASSPHRASE --client contoso',
)  # fmt: skip
@click.argument("name")
@click.argument("value", required=False)
@click.option(
    "--secret-from", metavar="SOURCE", help="For a secret field: env:NAME or file:PATH. Left out, it is asked for."
)
@place_options()
@pass_caller
def set_value(caller: Caller, name: str, value: str | None, secret_from: str | None, **places: str | None) -> None:
    """Set a field of one place. A secret is never taken as an argument, where others could see it."""
    with caller.installation.database.session() as session:
        form, place = one_place(session, **places)
        field = extra_fields.get_field(session, form, name)
        text = _value(field, value, secret_from)
        secrets = caller.installation.secrets if field.ftype == FieldType.SECRET else None
        stored = field_values.set_value(
            session, form, place_id(place), field.name, text, actor=caller.actor, secrets=secrets
        )
        where = lookup.path(session, place)
        if field.is_destructive and stored == "1" and form in (Form.CLIENT, Form.LOCATION):
            warn(f"while {field.name!r} stays set, a computer that is added to {where} later is offboarded too")
    say(f"{where}: {field.name} = {stored}")


def _value(field: ExtraField, value: str | None, source: str | None) -> str:
    if field.ftype == FieldType.SECRET:
        if value is not None:
            raise UsageError(
                f"{field.name!r} is a secret: leave the value out, or give --secret-from env:NAME or file:PATH"
            )
        return secret_from(source) if source else str(click.prompt(field.name, hide_input=True, err=True))
    if source is not None:
        raise UsageError(f"{field.name!r} is no secret: give its value as the second argument")
    if value is None:
        raise UsageError(f"which value? exeunt edf set {field.name!r} VALUE ...")
    return value


@command(edf, "get", 'exeunt edf get --computer "Contoso/HQ/PC1"', 'exeunt edf get "Offboard Client" --client contoso')
@click.argument("name", required=False)
@place_options()
@json_option
@pass_caller
def get_values(caller: Caller, name: str | None, as_json: bool, **places: str | None) -> None:
    """Show what counts for a place and where it comes from: its own value, the field's default, or nothing."""
    with caller.installation.database.reading() as session:
        form, place = one_place(session, **places)
        found = field_values.values_of(session, form, place_id(place))
        if name is not None:
            field = extra_fields.get_field(session, form, name)
            found = {field.name: found[field.name]}
    if as_json:
        show_json([{"field": n, "value": v.value, "origin": v.origin, "is_set": v.is_set} for n, v in found.items()])
    else:
        show_table(("field", "value", "from"), ((n, v.value, v.origin) for n, v in found.items()))


@command(edf, "clear", 'exeunt edf clear "Offboard Computer" --computer "Contoso/HQ/PC1"')
@click.argument("name")
@place_options()
@pass_caller
def clear(caller: Caller, name: str, **places: str | None) -> None:
    """Remove a place's own value, so that the default counts."""
    with caller.installation.database.session() as session:
        form, place = one_place(session, **places)
        gone = field_values.clear_value(session, form, place_id(place), name, actor=caller.actor)
        where = lookup.path(session, place)
    say(f"{where}: {name} " + ("is cleared" if gone else "had no value of its own"))


@command(
    edf, "default", 'exeunt edf default "Failed Uninstall Process" "Ticket + Halt" --level client',
    'exeunt edf default "Offboard Computer" --clear --level computer',
)  # fmt: skip
@click.argument("name")
@click.argument("value", required=False)
@click.option("--level", type=_LEVEL, required=True, help="Which kind of place has it.")
@click.option("--clear", "clearing", is_flag=True, help="Remove the default.")
@click.option(
    "--flag-every-place", is_flag=True, help="Allow the default of an offboarding flag, which flags all places."
)
@pass_caller
def default(caller: Caller, name: str, value: str | None, level: str, clearing: bool, flag_every_place: bool) -> None:
    """Set or clear the default of a field: what counts for every place without a value of its own."""
    if clearing == (value is not None):
        raise UsageError("give either a value or --clear")
    with caller.installation.database.session() as session:
        if value is None:
            field_values.clear_default(session, LEVELS[level], name, actor=caller.actor)
            say(f"the {level} field {name!r} has no default")
            return
        stored = field_values.set_default(
            session, LEVELS[level], name, value, actor=caller.actor, allow_destructive_default=flag_every_place
        )
    say(f"the default of the {level} field {name!r} is {stored}")


@command(edf, "flags", "exeunt edf flags", "exeunt edf flags --json")
@limit_option(1000)
@json_option
@pass_caller
def show_flags(caller: Caller, limit: int, as_json: bool) -> None:
    """Show every offboarding flag that is set, and the computers that it reaches: online, offline, excluded."""
    installation = caller.installation
    with installation.database.reading() as session:
        standing = flags.standing_flags(session)
        rows = []
        for computer in _reached(session, limit):
            levels = flags.flags(session, [place_id(computer)]).get(place_id(computer), [])
            excluded = flags.levels_set(session, flags.EXCLUDE, [place_id(computer)]).get(place_id(computer), [])
            rows.append(
                {
                    "computer": lookup.path(session, computer), "id": computer.computer_id, "levels": levels,
                    "online": online(computer, installation.settings.online_seconds), "excluded": excluded,
                    "last_contact": computer.last_contact,
                }
            )  # fmt: skip
    if as_json:
        show_json({"standing": standing, "computers": rows})
        return
    for flag in standing:
        warn(flag.warning)
    columns = ("computer", "id", "levels", "online", "excluded", "last contact")
    show_table(columns, ([r[c.replace(" ", "_")] for c in columns] for r in rows), empty="no computer is flagged")


def _reached(session: Session, limit: int) -> list[Computer]:
    """Computers that an offboarding flag reaches, by id; a default that is set reaches all."""
    flagged = flags.FieldSets(session).flagged_ids(col(Computer.retired_at).is_(None))
    query = select(Computer).where(col(Computer.computer_id).in_(flagged))
    return list(session.exec(query.order_by(col(Computer.computer_id)).limit(limit)))
