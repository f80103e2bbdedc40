"""The group `exeunt package`, and how each of its changes is shown, asked about and made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from agent.cli.caller import Caller
from agent.cli.lazy import Group
from agent.cli.output import say, warn
from agent.errors import UsageError
from agent.installation import Installation
from agent.packages import changes
from agent.packages.changes import Planned


@click.group("package", cls=Group)
def package() -> None:
    """Packages: one per system, in the client's own order."""


def confirming(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--dry-run` and `--yes`."""
    for option in (
        click.option("--yes", is_flag=True, help="Do it without a question."),
        click.option("--dry-run", is_flag=True, help="Only show what would change."),
    ):
        function = option(function)
    return function


def carry_out(
    caller: Caller, planned: Planned, *, dry_run: bool, yes: bool, installation: Installation | None = None
) -> bool:
    """Show a plan, ask, do it; whether things are now as planned. Raises Conflict for what is refused, UsageError where
    nobody can be asked.
    """
    for text in planned.warnings:
        warn(text)
    planned.refuse()
    if not planned.lines:
        say("nothing to do: everything is as it shall be")
        return True
    for line in planned.lines:
        say(f"  {line}")
    if dry_run:
        say("nothing was changed (--dry-run)")
        return False
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody can be asked here: look at it with --dry-run, then give --yes")
        if not click.confirm("Do this?", err=True):
            say("nothing was changed")
            return False
    change = changes.perform(installation or caller.installation, planned, actor=caller.actor)
    say(f"done (change {change})")
    return True
