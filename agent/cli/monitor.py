"""`exeunt monitor`: list, show, run, enable, disable, assign a template, preview."""

from __future__ import annotations

import sys
from typing import Any

import click
from sqlmodel import Session

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.monitor_run import Options, run_now
from agent.cli.output import say, show_details, show_json, show_table, warn
from agent.cli.places import LEVELS
from agent.content.durations import in_words
from agent.errors import NotFound, UsageError
from agent.inventory import lookup
from agent.model.monitors import FailingRow
from agent.monitoring import listing
from agent.monitoring.listing import MonitorListing, failing_rows, monitor_row, monitor_rows

_COLUMNS = (
    "name", "enabled", "status", "fail count", "rows", "interval", "alert style", "last scan", "last failed", "next scan",
    "target groups", "alert template", "scripts", "ticket category",
)  # fmt: skip


@click.group("monitor", cls=Group)
def monitor() -> None:
    """Internal monitors: see them, run them now."""


@command(monitor, "list", "exeunt monitor list", "exeunt monitor list --json")
@json_option
@pass_caller
def list_monitors(caller: Caller, as_json: bool) -> None:
    """Show all monitors: status, fail count, interval, style, scans, groups, template, scripts, ticket category."""
    rows = [_row(m) for m in monitor_rows(caller.installation)]
    for fault in caller.installation.content.unreadable_monitors():
        warn(f"a monitor does not run: {fault}")
    if as_json:
        show_json(rows)
    else:
        show_table(_COLUMNS, ([r[c.replace(" ", "_")] for c in _COLUMNS] for r in rows), empty="no monitors")


def _row(found: MonitorListing) -> dict[str, Any]:
    return {**vars(found), "interval": in_words(found.interval)}


@command(monitor, "show", "exeunt monitor show Offboarding", "exeunt monitor show Offboarding --json")
@click.argument("name")
@limit_option()
@json_option
@pass_caller
def show(caller: Caller, name: str, limit: int, as_json: bool) -> None:
    """Show one monitor, its query, and the rows that failed at its last scan."""
    found = caller.installation.content.monitor(name)
    row = _row(monitor_row(caller.installation, name))
    with caller.installation.database.reading() as session:
        failing = [
            {**r.model_dump(), "place": _place(session, r)} for r in failing_rows(session, found.name, limit=limit)
        ]
    check = found.definition.check
    asked = found.sql if found.sql is not None else check.model_dump(exclude_none=True) if check else None
    if as_json:
        show_json({**row, "query": asked, "failing": failing})
        return
    show_details({**{n.replace("_", " "): v for n, v in row.items()}, "query": asked})
    say("")
    columns = ("place", "identity", "test value", "skipped", "since")
    show_table(columns, ([r[c.replace(" ", "_")] for c in columns] for r in failing), empty="no failing rows")


def _place(session: Session, row: FailingRow) -> str:
    try:
        return lookup.path(session, lookup.get(session, lookup.MODELS[LEVELS[row.target_kind]], row.target_id))
    except NotFound:
        return f"({row.target_kind} {row.target_id} is gone)"


@command(
    monitor, "run", "exeunt monitor run Offboarding --dry-run", "exeunt monitor run Offboarding",
    "exeunt monitor run Offboarding --yes --wait --json",
    "exeunt monitor run Offboarding --yes --confirm-client contoso",
    'exeunt monitor run Offboarding --yes --override whole_fleet --reason "the last client leaves"',
)  # fmt: skip
@click.argument("name")
@click.option("--reset", is_flag=True, help="Run Now and Reset: present failures alert again.")
@click.option("--dry-run", is_flag=True, help="Show computers by level and the very steps; change nothing.")
@click.option("--yes", is_flag=True, help="Start it without a question.")
@click.option("--wait", is_flag=True, help="Wait for the end; without a worker it is executed in this process.")
@click.option("--confirm-client", "clients", multiple=True, metavar="SLUG",
              help="Confirm by name that this whole client is to be offboarded. May be repeated.")  # fmt: skip
@click.option(
    "--override", "overrides", multiple=True, metavar="GUARDRAIL", help="Override a guardrail that refuses, by name."
)
@click.option("--reason", help="Why; an override needs it. Kept in the audit trail.")
@json_option
@pass_caller
def run(caller: Caller, name: str, **given: Any) -> None:
    """Run a monitor now: what it finds is answered by its alert template, as one plan that is shown first.

    Exit code 1 when a run was no success (with --wait), 3 when a guardrail holds or refuses the plan, 4 when nothing
    matched.
    """
    sys.exit(run_now(caller, Options(name, **given)))


@command(monitor, "preview", "exeunt monitor preview Offboarding", "exeunt monitor preview Offboarding --json")
@click.argument("name")
@json_option
@pass_caller
def preview(caller: Caller, name: str, as_json: bool) -> None:
    """The same as `run --dry-run`: computers by level and the very steps with their parameters."""
    sys.exit(run_now(caller, Options(name, dry_run=True, as_json=as_json)))


@command(monitor, "enable", "exeunt monitor enable Offboarding")
@click.argument("name")
@pass_caller
def enable(caller: Caller, name: str) -> None:
    """Let a monitor run at its interval."""
    listing.set_enabled(caller.installation, name, True, actor=caller.actor)
    say(f"{name} is enabled")


@command(monitor, "disable", "exeunt monitor disable Offboarding")
@click.argument("name")
@pass_caller
def disable(caller: Caller, name: str) -> None:
    """Stop a monitor from running by itself; `exeunt monitor run` still works."""
    listing.set_enabled(caller.installation, name, False, actor=caller.actor)
    say(f"{name} is disabled")


@command(
    monitor, "assign-template",
    'exeunt monitor assign-template Offboarding "△ Custom - Execute Script - Offboarding Wrapper"',
    "exeunt monitor assign-template Offboarding --default",
)  # fmt: skip
@click.argument("name")
@click.argument("template", required=False)
@click.option("--default", "default", is_flag=True, help="Back to the template that the monitor's file names.")
@pass_caller
def assign_template(caller: Caller, name: str, template: str | None, default: bool) -> None:
    """Let another alert template answer a monitor, without changing its file."""
    if default == (template is not None):
        raise UsageError("give either a template's name or --default")
    listing.assign_template(caller.installation, name, template, actor=caller.actor)
    say(f"{name} is answered by " + (template or "the template of its file"))
