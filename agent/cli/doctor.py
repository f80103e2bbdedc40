"""`exeunt doctor`: what is missing or wrong, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator

import click
from sqlalchemy.exc import DBAPIError

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.doctor_checks import FIRST, LATER, Check, Finding
from agent.cli.lazy import Command
from agent.cli.output import counted, say, show_json, show_table
from agent.database import explain
from agent.errors import ExeuntError


@click.command("doctor", cls=Command, examples=("exeunt doctor", "exeunt doctor --json"))
@json_option
@pass_caller
def doctor(caller: Caller, as_json: bool) -> None:
    """Find what is missing or wrong, and how to mend it. Nothing is changed. Exit code 1 when there is a fault."""
    found = [f for check in FIRST for f in _asked(check, caller)]
    if not any(f.state == "fault" and f.check == "workspace" for f in found):
        found += [f for check in LATER for f in _asked(check, caller)]
    if as_json:
        show_json(found)
    else:
        show_table(
            ("check", "state", "what", "how to mend it"),
            ((f.check, f.state, f.what, f.mend if f.state != "ok" else None) for f in found),
        )
        faults, warnings = (sum(f.state == s for f in found) for s in ("fault", "warning"))
        say(f"\n{counted(faults, 'fault')}, {counted(warnings, 'warning')}")
    if any(f.state == "fault" for f in found):
        raise SystemExit(1)


def _asked(check: Check, caller: Caller) -> Iterator[Finding]:
    """The findings of a check; an error that it meets is one."""
    try:
        yield from check(caller)
    except ExeuntError as error:
        yield Finding(check.__name__, "fault", str(error))
    except DBAPIError as error:
        yield Finding(check.__name__, "fault", str(explain(error, caller.settings)))
