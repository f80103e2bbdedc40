"""`exeunt report`: evidence per client, and what was left over."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table, warn
from agent.inventory import lookup
from agent.inventory.flags import standing_flags
from agent.model.places import Client
from agent.reporting import leftovers as left
from agent.reporting.evidence import evidence_document, write_evidence


@click.group("report", cls=Group)
def report() -> None:
    """Evidence per client, and what was left over."""


@command(report, "evidence", "exeunt report evidence contoso", "exeunt report evidence contoso --json")
@click.argument("client")
@json_option
@pass_caller
def evidence(caller: Caller, client: str, as_json: bool) -> None:
    """Write a client's evidence as HTML and JSON into the workspace, its digests into the audit trail.

    With --json the document is printed and nothing is written.
    """
    installation = caller.installation
    with installation.database.reading() as session:
        client_id = lookup.place_id(lookup.find(session, Client, client))
    if as_json:
        with installation.database.session() as session:
            show_json(evidence_document(session, installation.settings, client_id))
        return
    written = write_evidence(installation, client_id, actor=caller.actor)
    for path in (written.html, written.json):
        say(f"{path}  sha256 {written.digests[path.name]}")


@command(report, "leftovers", "exeunt report leftovers", "exeunt report leftovers --client contoso --json")
@click.option("--client", help="Only of this client: slug, name or id.")
@json_option
@pass_caller
def leftovers(caller: Caller, client: str | None, as_json: bool) -> None:
    """Show flagged computers that stay offline, and flags that stay set. Nothing is forced."""
    with caller.installation.database.reading() as session:
        client_id = lookup.place_id(lookup.find(session, Client, client)) if client else None
        offline = left.leftovers(session, caller.installation.settings, client_id=client_id)
        standing = standing_flags(session, client_id=client_id)
    if as_json:
        show_json({"offline": offline, "standing_flags": standing})
        return
    for flag in standing:
        warn(flag.warning)
    show_table(
        ("computer", "id", "client", "location", "last contact", "state"),
        ((x.name, x.computer_id, x.client, x.location, x.last_contact, x.state) for x in offline),
        empty="no flagged computer is offline",
    )
