"""`exeunt content`: check everything, and say where it lies."""

from __future__ import annotations

import click

from agent import shipped
from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import counted, say, show_json, show_table, tell
from agent.content.reading import own_content
from agent.running.checking import Fault, check


@click.group("content", cls=Group)
def content() -> None:
    """Check all scripts, monitors and alert templates."""


@command(content, "check", "exeunt content check", "exeunt content check --json")
@json_option
@pass_caller
def check_all(caller: Caller, as_json: bool) -> None:
    """Find every fault of all files, with file, line and reason; queries are prepared, and no row is read.

    Warnings alone leave the exit code 0.
    """
    from agent.monitoring.checking import check_monitors

    faults = check(caller.installation.content)
    wrong = {fault.file for fault in faults if fault.severity == "error"}
    show_faults([*faults, *check_monitors(caller.installation, but=wrong)], as_json)


def show_faults(faults: list[Fault], as_json: bool) -> None:
    """Print faults, and end with exit code 1 when one of them is an error."""
    if as_json:
        show_json(faults)
    else:
        for fault in faults:
            tell(str(fault))
        errors = sum(f.severity == "error" for f in faults)
        say(f"{counted(errors, 'error')}, {counted(len(faults) - errors, 'warning')}")
    if any(f.severity == "error" for f in faults):
        raise SystemExit(1)


@command(content, "paths", "exeunt content paths", "exeunt content paths --json")
@json_option
@pass_caller
def paths(caller: Caller, as_json: bool) -> None:
    """Show where the shipped content and your own lies."""
    workspace = caller.installation.settings.workspace
    rows: list[dict[str, object]] = [
        {"what": kind, "shipped": shipped.path(kind), "own": own_content(workspace, kind)}
        for kind in ("monitors", "alert_templates", "scripts")
    ]
    rows.append({"what": "clients", "shipped": None, "own": own_content(workspace, "scripts") / "clients"})
    if as_json:
        show_json(rows)
    else:
        show_table(("what", "shipped", "own"), (tuple(r.values()) for r in rows))
        say("\nOwn content comes before shipped content of the same name.")
