"""`exeunt offboard preflight`: everything that may go wrong with an offboarding, before anything changes."""

from __future__ import annotations

import sys
from typing import Any

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Command
from agent.cli.offboard_user import input_options
from agent.cli.output import clean, counted, say, show_json
from agent.running import preflight as looking
from agent.running.user_offboardings import Request


@click.command(
    "preflight", cls=Command, context_settings={"max_content_width": 120},
    examples=(
        "exeunt offboard preflight john@contoso.example --client contoso --type voluntary",
        "exeunt offboard preflight john@contoso.example --template Leavers --json",
    ),
)  # fmt: skip
@click.argument("person", metavar="EMAIL")
@click.option("--client", help="Their client: slug, name or id. Needed where an address is not unique.")
@click.option("--date", "at", help="When it shall begin, as for `exeunt offboard user`.")
@click.option("--template", help="Name of a template of options.")
@json_option
@input_options
@pass_caller
def preflight(
    caller: Caller, person: str, client: str | None, at: str | None, template: str | None, as_json: bool, **inputs: Any
) -> None:
    """Ask the records and the systems what would hinder an offboarding; nothing is changed, planned or stored.

    It tells of inputs, the contact, child scripts, guardrails, and of each system that the planned steps use: account,
    state, groups, licences, roles, mailbox, and the rights that the functions declare. Exit code 1: an error was found.
    """
    given = {n: v for n, v in inputs.items() if v is not None}
    found = looking.preflight(caller.installation, Request(person, client, given, template, at), actor=caller.actor)
    if as_json:
        show_json({"person": found.person, "email": found.email, "client": found.client, "errors": found.errors,
                   "findings": list(found.findings)})  # fmt: skip
    else:
        for finding in found.findings:
            say(clean(f"{finding.severity:<7}  {finding.subject}: {finding.message}"))
            if finding.remediation:
                say(clean(f"         -> {finding.remediation}"))
        warnings = sum(f.severity == "warning" for f in found.findings)
        say(clean(f"{found.person} <{found.email}> of {found.client}: {counted(found.errors, 'error')}, "
                  f"{counted(warnings, 'warning')}"))  # fmt: skip
    sys.exit(1 if found.errors else 0)
