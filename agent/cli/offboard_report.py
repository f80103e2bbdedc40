"""`exeunt offboard report`: the exit report of a person."""

from __future__ import annotations

import re
from pathlib import Path

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Command
from agent.cli.output import say, show_json
from agent.reporting.exit_report import exit_document
from agent.reporting.exit_store import FORMATS, write_exit_report
from agent.running.verbs import find_run


@click.command(
    "report", cls=Command,
    examples=(
        "exeunt offboard report 3f9a", "exeunt offboard report OFFBOARD-2026-3F9A21C0DE5B7788 --format pdf",
        "exeunt offboard report 3f9a --json",
    ),
)  # fmt: skip
@click.argument("given", metavar="ID")
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), default=("json", "html"), show_default=True,
              help="May be given several times.")  # fmt: skip
@json_option
@pass_caller
def report(caller: Caller, given: str, formats: tuple[str, ...], as_json: bool) -> None:
    """Write the exit report of a finished offboarding; ID is that of its run, its beginning, or the offboarding's.

    The files go into the report folder, their digests into the audit trail. With --json the document is printed and
    nothing is written.
    """
    installation = caller.installation
    with installation.database.reading() as session:
        run_id = find_run(session, _run_of(given)).id
        if as_json:
            show_json(exit_document(installation, session, run_id))
            return
    written = write_exit_report(installation, run_id, actor=caller.actor, formats=formats)
    for path in written.files.values():
        say(f"{Path(path)}  sha256 {written.digests[path.name]}")


def _run_of(given: str) -> str:
    """`OFFBOARD-2026-3F9A...` -> `3f9a...`; anything else as it is."""
    found = re.fullmatch(r"OFFBOARD-\d{4}-([0-9A-F]+)", given.strip(), re.IGNORECASE)
    return found[1].lower() if found else given
