"""`exeunt script`: list, show, check, duplicate, use, drift, outcomes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.content import show_faults
from agent.cli.lazy import command
from agent.cli.output import say, show_details, show_json, show_table, tell
from agent.cli.script_group import TEMPLATE, WRAPPER, script
from agent.content import duplication
from agent.content.definitions import Role
from agent.content.loaded import LoadedScript
from agent.content.reading import PARTNER
from agent.inventory import lookup
from agent.model.places import Client
from agent.running import script_verbs
from agent.running.checking import check

_client_option = click.option(
    "--client", required=True, help="The client's slug, or `partner` for the partner default."
)


@command(script, "list", "exeunt script list", "exeunt script list --role child --json")
@click.option("--role", type=click.Choice([r.value for r in Role]), help="Only of this role.")
@click.option("--client", help="Only those of this client: its slug, or `partner`.")
@json_option
@pass_caller
def list_scripts(caller: Caller, role: str | None, client: str | None, as_json: bool) -> None:
    """Show all scripts: shared ones, then each client's duplicates, and which wrappers use them."""
    content = caller.installation.content
    used = {
        (slug, name): wrapper
        for slug, listing in content.client_lists().items()
        for wrapper, names in listing.definition.scripts.items()
        for name in names
    }
    rows = [
        {"name": s.name, "role": s.definition.role, "target": s.definition.target, "client": s.client,
         "used_by": used.get((s.client or "", s.name)) or used.get((s.client or "", s.key)), "file": s.file}
        for s in content.scripts()
        if role in (None, s.definition.role.value) and client in (None, s.client)
    ]  # fmt: skip
    if as_json:
        show_json(rows)
    else:
        show_table(("name", "role", "target", "client", "used by", "file"), (tuple(r.values()) for r in rows))


@command(
    script,
    "show",
    f'exeunt script show "{WRAPPER}"',
    'exeunt script show "Offboarding Scripts - Contoso" --client contoso --json',
)
@click.argument("name")
@click.option("--client", help="As this client's runs would find it: its slug.")
@json_option
@pass_caller
def show(caller: Caller, name: str, client: str | None, as_json: bool) -> None:
    """Show a script: parameters, steps, digest, file."""
    found = caller.installation.content.script(name, client)
    if as_json:
        show_json({**found.content(), "digest": found.digest, "client": found.client, "file": found.file})
        return
    definition = found.definition
    show_details(
        {"name": found.name, "role": definition.role, "target": definition.target, "client": found.client,
         "description": definition.description, "file": found.file, "digest": found.digest}
    )  # fmt: skip
    if definition.parameters:
        say("")
        rows = ((n, p.type, p.required, p.default, p.description) for n, p in definition.parameters.items())
        show_table(("parameter", "type", "required", "default", "description"), rows)
    if definition.steps:
        say("")
        rows_ = ((n, s.name, _does(s), s.with_, s.on_failure) for n, s in enumerate(definition.steps, 1))
        show_table(("no", "step", "does", "with", "on failure"), rows_)


def _does(step: Any) -> str:
    for kind in ("function", "script", "children", "fallback"):
        value = getattr(step, kind)
        if value:
            return f"{kind} {value}"
    return "-"


@command(script, "check", "exeunt script check", 'exeunt script check "Offboarding Scripts - Contoso" --json')
@click.argument("name", required=False)
@json_option
@pass_caller
def check_scripts(caller: Caller, name: str | None, as_json: bool) -> None:
    """Find every fault of all scripts, or of one: file, line and reason."""
    content = caller.installation.content
    faults = [f for f in check(content) if "scripts" in f.file]
    if name is not None:
        folders = {str(s.file.parent) for s in content.scripts() if name in (s.name, s.key)}
        faults = [f for f in faults if any(f.file.startswith(folder) for folder in folders)]
        if not folders:
            content.script(name)  # raises what is wrong with it, or that it does not exist
    show_faults(faults, as_json)


@command(
    script, "duplicate", f'exeunt script duplicate "{TEMPLATE}" --client contoso',
    f'exeunt script duplicate "{TEMPLATE}" --client partner --name "Offboarding Scripts - Partner"',
)  # fmt: skip
@click.argument("name")
@_client_option
@click.option("--name", "new_name", help="The duplicate's name; else it is made from the old one.")
@pass_caller
def duplicate(caller: Caller, name: str, client: str, new_name: str | None) -> None:
    """Copy a script for one client, to be edited. It runs nowhere until `exeunt script use`; nothing is overwritten."""
    owner = _client(caller, client)
    made = script_verbs.duplicate(caller.installation, name, owner, actor=caller.actor, new_name=new_name)
    say(f"{made.name}\n{made.file}")
    slug = PARTNER if owner is None else owner.slug
    tell(f"edit it, then: exeunt script use {shlex.quote(made.name)} --client {slug}")


def _client(caller: Caller, reference: str) -> Client | None:
    """The client of the inventory; None for the partner default."""
    if reference == PARTNER:
        return None
    with caller.installation.database.reading() as session:
        return lookup.find(session, Client, reference)


@command(
    script, "use", 'exeunt script use "Offboarding Scripts - Contoso" --client contoso',
    'exeunt script use "Leave VPN" --client contoso --position 1',
)  # fmt: skip
@click.argument("name")
@_client_option
@click.option("--wrapper", default=WRAPPER, show_default=True, help="The wrapper that shall run it.")
@click.option("--position", type=click.IntRange(1), help="Its place in the list, from 1; else the last.")
@pass_caller
def use(caller: Caller, name: str, client: str, wrapper: str, position: int | None) -> None:
    """List a script for a client's wrapper: from now on it runs. The order of the list is the order of execution."""
    listing = script_verbs.use(
        caller.installation, name, _client(caller, client), wrapper, actor=caller.actor, position=position
    )
    _show_list(listing.definition.scripts[wrapper])


@command(script, "unuse", 'exeunt script unuse "Offboarding Scripts - Contoso" --client contoso')
@click.argument("name")
@_client_option
@click.option("--wrapper", default=WRAPPER, show_default=True, help="The wrapper that shall no longer run it.")
@pass_caller
def unuse(caller: Caller, name: str, client: str, wrapper: str) -> None:
    """Take a script from a client's list. An emptied list stops the wrapper for this client."""
    listing = script_verbs.unuse(caller.installation, name, _client(caller, client), wrapper, actor=caller.actor)
    _show_list(listing.definition.scripts[wrapper])


def _show_list(names: Sequence[str]) -> None:
    show_table(("no", "script"), enumerate(names, 1), empty="the list is empty: the wrapper refuses to run")


@command(script, "drift", "exeunt script drift", "exeunt script drift --json")
@json_option
@pass_caller
def drift(caller: Caller, as_json: bool) -> None:
    """Show duplicates whose origin has changed or gone since they were copied."""
    found = duplication.drift(caller.installation.content)
    if as_json:
        show_json(
            [
                {"script": d.script.name, "client": d.script.client, "reason": d.reason, "file": d.script.file}
                for d in found
            ]
        )
    else:
        rows = ((d.script.name, d.script.client, d.reason) for d in found)
        show_table(("script", "client", "what"), rows, empty="every duplicate's origin is as it was")


@command(script, "outcomes", "exeunt script outcomes", "exeunt script outcomes --json")
@json_option
@pass_caller
def outcomes(caller: Caller, as_json: bool) -> None:
    """Show what each option of Failed Uninstall Process permits after a failed child script."""
    rows = [_outcome(s) for s in caller.installation.content.scripts() if s.definition.role is Role.FALLBACK]
    if as_json:
        show_json(rows)
        return
    show_table(
        ("option", "ScreenConnect", "Automate agent", "failure ticket", "by the letter", "script"),
        (
            (r["option"] or "(nothing selected)", r["outcome"]["screenconnect"], r["outcome"]["agent"],
             r["outcome"]["failure_ticket"], _letter(r["literal_outcome"]), r["script"])
            for r in rows
        ),
    )  # fmt: skip


def _outcome(found: LoadedScript) -> dict[str, Any]:
    definition = found.definition
    outcome, literal = definition.outcome, definition.literal_outcome
    assert outcome is not None
    return {
        "option": definition.option, "aliases": list(definition.aliases), "script": found.name,
        "outcome": outcome.model_dump(), "literal_outcome": literal.model_dump() if literal else None,
    }  # fmt: skip


def _letter(literal: dict[str, Any] | None) -> str:
    if literal is None:
        return "the same"
    ticket = "ticket" if literal["failure_ticket"] else "no ticket"
    return f"ScreenConnect {literal['screenconnect']}, agent {literal['agent']}, {ticket}"
