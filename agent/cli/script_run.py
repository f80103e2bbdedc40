"""`exeunt script test` and `exeunt script run`: start a script on one place by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import command
from agent.cli.monitor_run import step_line
from agent.cli.output import clean, say, show_json, tell
from agent.cli.places import one_place, place_options
from agent.cli.progress import execute, progress
from agent.cli.run import NOT_DONE
from agent.cli.script_group import WRAPPER, script
from agent.errors import Conflict, UsageError
from agent.inventory.lookup import place_id
from agent.reporting.run_report import run_document, text_lines
from agent.running import verbs
from agent.running.planning import DraftPlan, draft_plan, store_plan
from agent.running.previews import planned
from agent.running.requests import PlanOrigin, RunRequest


@command(
    script, "test", 'exeunt script test "Remove Application" --computer Contoso/HQ/PC1 --param "Name=7-Zip" --dry-run',
    'exeunt script test "Remove Application" --computer Contoso/HQ/PC1 --param "Name=7-Zip"',
)  # fmt: skip
@click.argument("name")
@place_options()
@click.option("--param", "parameters", multiple=True, metavar="KEY=VALUE", help="A parameter. May be repeated.")
@click.option("--dry-run", is_flag=True, help="Show the steps with their parameters; nothing is started.")
@click.option("--yes", is_flag=True, help="Start it without a question.")
@json_option
@pass_caller
def test(
    caller: Caller,
    name: str,
    parameters: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **places: str | None,
) -> None:
    """Run a script on one place now, wait for the end and show the report. Exit code 1 when it was no success."""
    _start(caller, name, parameters, places, dry_run=dry_run, yes=yes, wait=True, as_json=as_json, reason="script test")


@command(
    script, "run", f'exeunt script run "{WRAPPER}" --computer Contoso/HQ/PC1 --yes --wait',
    'exeunt script run "Remove Application" --computer 7 --param "Name=7-Zip" --yes --json',
)  # fmt: skip
@click.argument("name")
@place_options()
@click.option("--param", "parameters", multiple=True, metavar="KEY=VALUE", help="A parameter. May be repeated.")
@click.option("--reason", help="Why; kept in the audit trail.")
@click.option("--yes", is_flag=True, help="Start it without a question.")
@click.option("--wait", is_flag=True, help="Wait for the end.")
@json_option
@pass_caller
def run(
    caller: Caller, name: str, parameters: tuple[str, ...], reason: str | None, yes: bool, wait: bool, as_json: bool,
    **places: str | None,
) -> None:  # fmt: skip
    """Start a script on one place by hand. One that belongs to a monitor, or to other scripts, refuses."""
    _start(caller, name, parameters, places, dry_run=False, yes=yes, wait=wait, as_json=as_json, reason=reason)


def _start(
    caller: Caller, name: str, parameters: tuple[str, ...], places: dict[str, str | None], *, dry_run: bool, yes: bool,
    wait: bool, as_json: bool, reason: str | None,
) -> None:  # fmt: skip
    installation = caller.installation
    with installation.database.reading() as session:
        form, place = one_place(session, **places)
    request = RunRequest(name, form.name.lower(), place_id(place), _parameters(parameters))
    draft = draft_plan(installation, [request], PlanOrigin(caller.actor, reason=reason))
    if not draft.targets:
        raise Conflict(f"{place.name}: {draft.skipped[0]['reason']}")
    if dry_run:
        show_json(planned(draft)) if as_json else _show_steps(draft)
        return
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("nobody can be asked here: give --yes to start it without a question")
        _show_steps(draft)
        click.confirm("Start this?", abort=True, err=True)
    stored = store_plan(installation, draft)
    with caller.engine() as port:
        ids = verbs.release(installation, port, stored.id, actor=caller.actor)
    _follow(caller, ids, wait, as_json)


def _parameters(given: tuple[str, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} is no parameter: write KEY=VALUE")
        if name in result:
            raise UsageError(f"the parameter {name!r} is given twice")
        result[name] = value
    return result


def _show_steps(draft: DraftPlan) -> None:
    for target in planned(draft):
        say(clean(f"{target['script']} on {target['computer']} ({target['client']})"))
        for number, step in enumerate(target["steps"], 1):
            say("  " + step_line(number, step))


def _follow(caller: Caller, ids: Sequence[str], wait: bool, as_json: bool) -> None:
    runs = execute(caller.installation, ids) if wait else progress(caller.installation, ids)
    with caller.installation.database.reading() as session:
        documents = [run_document(session, run_id) for run_id in ids]
    if as_json:
        show_json(documents)
    for document in documents if not as_json else ():
        say("\n".join(text_lines(document)) if wait else f"run {document['id']} {document['state']}")
    if any(r.state in NOT_DONE for r in runs):
        sys.exit(1)
    if not wait:
        tell("a worker executes it: `exeunt worker`; follow it with `exeunt run watch`")
