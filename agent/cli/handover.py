"""`exeunt handover`: see a secret that was handed over by a one-time link, where the console is out of reach."""

from __future__ import annotations

import sys

import click

from agent.cli.caller import Caller, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import tell
from agent.errors import UsageError
from agent.services import handover as handovers


@click.group("handover", cls=Group)
def handover() -> None:
    """Secrets that were handed over by a link that works once."""


@command(handover, "show", "exeunt handover show", "exeunt handover show < link.txt")
@pass_caller
def show(caller: Caller) -> None:
    """Show the secret of a link once and erase it. The link or its token is asked for, or read from standard input."""
    # Never an argument: those stand in the list of processes and in the shell's history.
    given = click.prompt("Link", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline(4096)
    token = str(given).strip().rpartition("/")[2]
    if not token:
        raise UsageError("no link was given: enter it, or give it on standard input")
    secret = handovers.take(caller.installation, token, actor=caller.actor)
    # As it is: what `say` does for safety may change a password.
    click.echo(secret)
    tell("It was shown once and is erased.")
