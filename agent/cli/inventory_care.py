"""`exeunt inventory`: probe, maintenance, no-alerts, groups, software."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.inventory_group import inventory
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table
from agent.cli.places import one_place, place_options
from agent.errors import UsageError
from agent.inventory import groups, lookup, software
from agent.inventory.contact import probe_contacts
from agent.inventory.lookup import place_id
from agent.model.fields import Form
from agent.model.places import Client, Computer
from agent.transports.base import Identification


@command(inventory, "probe", "exeunt inventory probe", "exeunt inventory probe --client contoso --timeout 2 --json")
@click.option("--client", help="Only computers of this client: slug, name or id.")
@click.option("--computer", help="Only this computer: path of names, id or external id.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 60), default=5.0, show_default=True, help="Seconds for one computer."
)
@json_option
@pass_caller
def probe(caller: Caller, client: str | None, computer: str | None, timeout: float, as_json: bool) -> None:
    """Look from outside which computers are there, many at once; who answers was in contact now."""
    installation = caller.installation
    with installation.database.reading() as session:
        client_id = lookup.find(session, Client, client).client_id if client else None
        only = [place_id(lookup.find(session, Computer, computer))] if computer else None
    found: dict[int, Identification] = {}
    probe_contacts(
        installation, timeout=timeout, client_id=client_id, computer_ids=only, report=lambda i, answer: found.update({i: answer})
    )  # fmt: skip
    with installation.database.reading() as session:
        rows = [
            {"computer": lookup.path(session, lookup.get(session, Computer, i)), "id": i, "reachable": f.reachable,
             "seconds": round(f.seconds, 3), "detail": f.detail}
            for i, f in sorted(found.items())
        ]  # fmt: skip
    if as_json:
        show_json(rows)
    else:
        columns = ("computer", "id", "reachable", "seconds", "detail")
        show_table(columns, ([r[c] for c in columns] for r in rows), empty="no computer has a transport")


@command(
    inventory, "maintenance", "exeunt inventory maintenance --computer Contoso/HQ/PC1 --minutes 120",
    "exeunt inventory maintenance --computer Contoso/HQ/PC1 --off",
)  # fmt: skip
@place_options(Form.COMPUTER)
@click.option(
    "--minutes", type=click.IntRange(1, groups.LONGEST_MAINTENANCE),
    help="How long nothing is dispatched to it, from now.",
)  # fmt: skip
@click.option("--off", is_flag=True, help="End it.")
@pass_caller
def maintenance(caller: Caller, minutes: int | None, off: bool, **given: str | None) -> None:
    """Dispatch nothing to a computer for some minutes."""
    if off == (minutes is not None):
        raise UsageError("give either --minutes N or --off")
    with caller.installation.database.session() as session:
        _, place = one_place(session, **given)
        if minutes is None:
            ended = groups.maintenance_off(session, place_id(place), actor=caller.actor)
            said = f"{ended} periods of maintenance ended"
        else:
            groups.maintenance_on(session, place_id(place), minutes=minutes, actor=caller.actor)
            said = f"in maintenance for {minutes} minutes"
        path = lookup.path(session, place)
    say(f"{path}: {said}")


@command(
    inventory, "no-alerts", "exeunt inventory no-alerts --computer Contoso/HQ/PC1 --on",
    "exeunt inventory no-alerts --computer Contoso/HQ/PC1 --window 22:00-06:00",
)  # fmt: skip
@place_options(Form.COMPUTER)
@click.option("--on/--off", "no_alerts", default=None, help="Never alert on it, or do so again.")
@click.option("--window", metavar="HH:MM-HH:MM", help="Alert on it only between these times (EXEUNT_TIME_ZONE).")
@click.option("--clear-window", is_flag=True, help="Alert on it at all times.")
@pass_caller
def no_alerts(
    caller: Caller, no_alerts: bool | None, window: str | None, clear_window: bool, **given: str | None
) -> None:
    """When a computer may be alerted on, and so offboarded: not at all, or only between two times of the day."""
    if no_alerts is None and window is None and not clear_window:
        raise UsageError("say what to change: --on, --off, --window or --clear-window")
    start, _, end = (window or "").partition("-")
    with caller.installation.database.session() as session:
        _, place = one_place(session, **given)
        data = groups.set_alerting(
            session, place_id(place), actor=caller.actor, no_alerts=no_alerts, window=(start, end) if window else None,
            clear_window=clear_window,
        )  # fmt: skip
        path = lookup.path(session, place)
    zone = caller.installation.settings.time_zone
    hours = f", only {data.up_time_start} to {data.up_time_end} {zone}" if data.up_time_start else ""
    say(f"{path}: {'no alerts' if data.no_alerts else 'alerts'}{hours}")


@command(
    inventory,
    "software",
    "exeunt inventory software --computer Contoso/HQ/PC1",
    "exeunt inventory software --computer 7 --json",
)
@place_options(Form.COMPUTER)
@json_option
@pass_caller
def show_software(caller: Caller, as_json: bool, **given: str | None) -> None:
    """Show what was seen on a computer, with the uninstall strings. `exeunt inventory import software.csv` stores it."""
    with caller.installation.database.reading() as session:
        _, place = one_place(session, **given)
        found = software.list_software(session, place_id(place))
    if as_json:
        show_json(found)
        return
    show_table(
        ("name", "version", "publisher", "uninstall string", "seen"),
        ((s.name, s.version, s.publisher, s.uninstall_string, s.seen_at) for s in found),
        empty="nothing was seen",
    )


@inventory.group("group", cls=Group)
def group() -> None:
    """Groups of computers that monitors can be limited to."""


@command(group, "list", "exeunt inventory group list", "exeunt inventory group list --json")
@json_option
@pass_caller
def list_groups(caller: Caller, as_json: bool) -> None:
    """Show all groups with the number of their computers."""
    with caller.installation.database.reading() as session:
        rows = [(g.full_name, len(groups.members(session, g.full_name))) for g in groups.groups(session)]
    if as_json:
        show_json([{"group": name, "computers": number} for name, number in rows])
    else:
        show_table(("group", "computers"), rows, empty="no groups")


@command(group, "show", 'exeunt inventory group show "Pilot"', 'exeunt inventory group show "Pilot" --json')
@click.argument("name")
@json_option
@pass_caller
def show_group(caller: Caller, name: str, as_json: bool) -> None:
    """Show a group's computers."""
    with caller.installation.database.reading() as session:
        ids = groups.members(session, name)
        rows = [(i, lookup.path(session, lookup.get(session, Computer, i))) for i in ids]
    if as_json:
        show_json([{"id": i, "computer": path} for i, path in rows])
    else:
        show_table(("id", "computer"), rows, empty="the group is empty")


@command(
    group,
    "add",
    'exeunt inventory group add "Pilot"',
    'exeunt inventory group add "Pilot" Contoso/HQ/PC1 Contoso/HQ/PC2',
)
@click.argument("name")
@click.argument("computers", nargs=-1)
@pass_caller
def add_to_group(caller: Caller, name: str, computers: tuple[str, ...]) -> None:
    """Make a group, or put computers into one (it is made when it does not exist)."""
    with caller.installation.database.session() as session:
        if not computers or name not in [g.full_name for g in groups.groups(session)]:
            groups.add_group(session, name, actor=caller.actor)
        ids = [place_id(lookup.find(session, Computer, c)) for c in computers]
        new = groups.add_members(session, name, ids, actor=caller.actor)
    say(f"{name}: {len(new)} computers added")


@command(
    group, "remove", 'exeunt inventory group remove "Pilot"', 'exeunt inventory group remove "Pilot" Contoso/HQ/PC1'
)
@click.argument("name")
@click.argument("computers", nargs=-1)
@pass_caller
def remove_from_group(caller: Caller, name: str, computers: tuple[str, ...]) -> None:
    """Remove a group, or take computers out of it. The computers stay."""
    with caller.installation.database.session() as session:
        if computers:
            ids = [place_id(lookup.find(session, Computer, c)) for c in computers]
            say(f"{name}: {len(groups.remove_members(session, name, ids, actor=caller.actor))} computers taken out")
        else:
            groups.remove_group(session, name, actor=caller.actor)
            say(f"{name} is removed")
