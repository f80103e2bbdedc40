"""`exeunt package`: the store, what is applied for whom, and its order. Each change is shown before it is made."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import command
from agent.cli.output import say, show_details, show_json, show_table, warn
from agent.cli.package_group import carry_out, confirming, package
from agent.content.reading import PARTNER
from agent.errors import UsageError
from agent.inventory import lookup
from agent.model.places import Client
from agent.packages import applying, ordering, store

_client = click.option(
    "--client", required=True, help="The client's slug, name or id, or `partner` for the default of all."
)


@command(package, "list", "exeunt package list", "exeunt package list --client contoso --json")
@click.option("--client", help="What is applied for this client, in its order, with its drift.")
@json_option
@pass_caller
def list_packages(caller: Caller, client: str | None, as_json: bool) -> None:
    """Show the store, or what is applied for a client: version, place in the order, drift."""
    if client is None:
        found = store.in_store(caller.installation)
        if as_json:
            show_json(found)
            return
        rows = ((p.name, p.version, p.revocation, p.shipped, ", ".join(p.applied), p.description) for p in found)
        show_table(("package", "version", "revocation", "shipped", "applied for", "description"), rows)
        return
    slug = slug_of(caller, client)
    applied = store.applied(caller.installation, slug)
    for fault in store.order_faults(caller.installation, slug):
        warn(fault)
    if as_json:
        show_json(applied)
        return
    lines = ((a.number, a.name, a.version, a.applied_at, a.applied_by, "; ".join(a.drift)) for a in applied)
    show_table(("no", "package", "version", "applied", "by", "drift"), lines, empty=f"no package is applied for {slug}")


def slug_of(caller: Caller, client: str) -> str:
    """The slug of a client, or `partner`. Raises NotFound."""
    if client == PARTNER:
        return PARTNER
    with caller.installation.database.reading() as session:
        return lookup.find(session, Client, client).slug


@command(package, "show", 'exeunt package show "Microsoft 365"', "exeunt package show microsoft_365 --json")
@click.argument("name")
@json_option
@pass_caller
def show(caller: Caller, name: str, as_json: bool) -> None:
    """Show a package: what it brings, its criteria, and every step of its scripts."""
    content = caller.installation.content
    found = content.package(name)
    definition = found.definition
    steps = store.review(content, found)
    if as_json:
        show_json({**definition.model_dump(mode="json", by_alias=True), "digest": found.digest, "steps": steps})
        return
    show_details(
        {"name": found.name, "version": found.version, "description": definition.description,
         "publisher": definition.publisher, "revocation": definition.revocation.value, "digest": found.digest,
         "fields": [f"{f.level} {f.name} ({f.type})" for f in definition.fields],
         "credentials": [f"{c.kind}: {', '.join([*c.settings, *c.secrets])}" for c in definition.credentials],
         "properties": [p.name for p in definition.properties], "monitors": list(definition.monitors),
         "criteria": [str(c) for c in definition.criteria], "documentation": found.file.parent / definition.documentation}
    )  # fmt: skip
    say("")
    show_table(
        ("script", "listed for", "step", "does"), ((s["script"], s["wrapper"], s["step"], s["does"]) for s in steps)
    )


@command(
    package, "apply", 'exeunt package apply "Microsoft 365" --client contoso --dry-run',
    'exeunt package apply "Active Directory" --client contoso --position 1 --yes',
)  # fmt: skip
@click.argument("name")
@_client
@click.option("--position", type=int, help="Its place in the client's order, from 1; else by danger.")
@click.option("--phase", type=int, help="Its scripts of the phases 1 to 7 join this phase instead of their own.")
@confirming
@pass_caller
def apply(
    caller: Caller, name: str, client: str, position: int | None, phase: int | None, dry_run: bool, yes: bool
) -> None:
    """Apply a package for a client: fields, empty credentials, properties, monitors, lists. All or nothing."""
    planned = applying.plan_apply(caller.installation, name, client, actor=caller.actor, phase=phase, position=position)
    carry_out(caller, planned, dry_run=dry_run, yes=yes)


@command(package, "remove", 'exeunt package remove "Microsoft 365" --client contoso --dry-run')
@click.argument("name")
@_client
@confirming
@pass_caller
def remove(caller: Caller, name: str, client: str, dry_run: bool, yes: bool) -> None:
    """Take a package from a client. Fields with their values, properties and entered credentials stay."""
    planned = applying.plan_remove(caller.installation, name, client, actor=caller.actor)
    carry_out(caller, planned, dry_run=dry_run, yes=yes)


@command(
    package, "order", "exeunt package order --client contoso",
    'exeunt package order "Active Directory" --to 1 --client contoso --yes',
    'exeunt package order --set "Active Directory" --set "Microsoft 365" --client contoso --dry-run',
    "exeunt package order --by-danger --client contoso --dry-run",
)  # fmt: skip
@click.argument("name", required=False)
@_client
@click.option("--to", type=int, help="The new place of the package NAME, from 1.")
@click.option("--set", "whole", multiple=True, metavar="NAME", help="The whole order; repeat it for each package.")
@click.option("--by-danger", is_flag=True, help="Remote access first, then administrators, ..., collaboration last.")
@click.option("--from-numbers", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Take over a numbered sequence: lines such as `1 Jira`. A gap or a double is named and refused.")  # fmt: skip
@confirming
@json_option
@pass_caller
def order(
    caller: Caller, name: str | None, client: str, to: int | None, whole: tuple[str, ...], by_danger: bool,
    from_numbers: Path | None, dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show or change the order of a client's packages. It is a list: it has no gap and no double."""
    installation = caller.installation
    slug, now = applying.current_order(installation, client)
    ways = sum((name is not None, bool(whole), by_danger, from_numbers is not None))
    if ways > 1 or (name is None) != (to is None):
        raise UsageError("say one of: NAME with --to, --set, --by-danger, --from-numbers")
    if not ways:
        for fault in store.order_faults(installation, slug):
            warn(fault)
        if as_json:
            show_json(now)
        else:
            show_table(("no", "package"), enumerate(now, 1), empty=f"no package is applied for {slug}")
        return
    wanted = _wanted(caller, now, name, to, whole, from_numbers)
    carry_out(caller, applying.plan_order(installation, client, wanted), dry_run=dry_run, yes=yes)


def _wanted(
    caller: Caller, now: list[str], name: str | None, to: int | None, whole: tuple[str, ...], numbers: Path | None
) -> list[str]:
    if name is not None and to is not None:
        return ordering.moved(now, caller.installation.content.package(name).name, to)
    if whole:
        return list(whole)
    if numbers is not None:
        return ordering.from_numbers(numbers.read_text(encoding="utf-8"))
    return ordering.by_danger([caller.installation.content.package(n) for n in now])


@command(package, "check", "exeunt package check", "exeunt package check microsoft_365 --json")
@click.argument("name", required=False)
@json_option
@pass_caller
def check(caller: Caller, name: str | None, as_json: bool) -> None:
    """Find what is wrong with packages: files, functions, kinds, and with the clients' orders."""
    content = caller.installation.content
    found = [content.package(name)] if name else content.packages()
    faults: list[dict[str, str | None]] = [
        {"package": p.name, "fault": fault} for p in found for fault in store.check(content, p)
    ]
    if name is None:
        broken = (f for f in content.faults() if "package" in str(f.file))
        faults += [{"package": None, "fault": str(fault)} for fault in broken]
        for slug in content.client_lists():
            faults += [
                {"package": f"order of {slug}", "fault": f} for f in store.order_faults(caller.installation, slug)
            ]
    if as_json:
        show_json(faults)
    else:
        show_table(("package", "fault"), (tuple(f.values()) for f in faults), empty="nothing is wrong")
    sys.exit(1 if faults else 0)
