"""`exeunt offboard phases`: which child scripts run in each phase for a client."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Command
from agent.cli.output import clean, say, show_json, show_table
from agent.inventory import lookup
from agent.model.places import Client
from agent.packages.phases import phases_of


@click.command(
    "phases", cls=Command,
    examples=("exeunt offboard phases --client contoso", "exeunt offboard phases --client contoso --json"),
)  # fmt: skip
@click.option("--client", required=True, help="Slug, name or id.")
@json_option
@pass_caller
def phases(caller: Caller, client: str, as_json: bool) -> None:
    """Show which child scripts run in each phase of a person's offboarding, in their order, and where they come from.

    In the phases 1 and 2 access is revoked in the order of danger: remote access, administrators, financial systems,
    customer data, business applications, e-mail and collaboration. What is listed against it is named at the end.
    """
    with caller.installation.database.reading() as session:
        slug = lookup.find(session, Client, client).slug
    found = phases_of(caller.installation.content, slug)
    if as_json:
        show_json(found)
        return
    for phase in found.phases:
        say(clean(f"{phase.wrapper.removeprefix('User Offboarding - ')} ({phase.source or 'nothing is listed'})"))
        if phase.missing is not None and phase.number in (1, 8):
            say(clean(f"  {phase.missing}"))
        if phase.scripts:
            show_table(
                ("", "Script", "Package", "Listed by", "Revokes"),
                (
                    (s.position, s.script, f"{s.package} {s.version}" if s.package else "", s.listed_by,
                     f"{s.danger} {s.revokes}" if s.danger else "")
                    for s in phase.scripts
                ),
            )  # fmt: skip
    for violation in found.violations:
        say(clean(f"against the order of danger: {violation}"))
