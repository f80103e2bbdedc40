"""`exeunt worker`: execute runs, tick the monitors, send mail, look for computers; until it is told to stop."""

from __future__ import annotations

import click

from agent.cli.caller import Caller, pass_caller
from agent.cli.lazy import Command
from agent.cli.output import tell
from agent.cli.working import Duties, stop_on_signals, working


@click.command(
    "worker", cls=Command, examples=("exeunt worker", "exeunt --workspace /var/lib/exeunt worker --no-probe")
)
@click.option("--no-monitors", is_flag=True, help="Do not tick the monitors; another worker does.")
@click.option("--no-probe", is_flag=True, help="Do not look for computers from here.")
@click.option("--no-mail", is_flag=True, help="Do not send mail from here.")
@pass_caller
def worker(caller: Caller, no_monitors: bool, no_probe: bool, no_mail: bool) -> None:
    """Execute runs and tick the monitors until SIGTERM or SIGINT; then what is under way is brought to an end.

    A second signal ends it at once: what was under way is taken up by the next worker, nothing is done twice unseen.
    """
    caller.quiet = False
    stop = stop_on_signals()
    with working(caller.installation, Duties(monitors=not no_monitors, probe=not no_probe, mail=not no_mail)):
        tell("the worker is ready; Ctrl-C or SIGTERM stops it")
        while not stop.wait(3600):
            pass
