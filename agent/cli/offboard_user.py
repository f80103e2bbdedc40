"""`exeunt offboard user`: plan or start the offboarding of one person or several, with every input as an option."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.lazy import Command
from agent.cli.monitor_run import HELD
from agent.cli.output import cell, clean, counted, say, show_json, tell, warn
from agent.cli.progress import execute, progress
from agent.cli.run import NOT_DONE
from agent.content.user_inputs import INPUTS, Input
from agent.errors import UsageError
from agent.running import user_offboardings as offboardings
from agent.running.input_layers import DEFAULT, Resolved
from agent.running.offboarding_bulk import read_requests
from agent.running.offboarding_start import plan_and_start
from agent.running.planning import DraftPlan, StoredPlan, draft_plan
from agent.running.previews import planned
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.user_offboardings import Checked, Planned, Request

#: Names of options that are shorter than the input's own name.
_SHORT = {"termination_type": ("--type",), "manager_email": ("--manager",)}


def input_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """One option per input, in the order of the phases."""
    for item in reversed(INPUTS.values()):
        if item.name != "employee_email":
            function = _option(item)(function)
    return function


def _option(item: Input) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    name = f"--{item.name.replace('_', '-')}"
    text = item.description + (f" [client field {item.field}]" if item.field else "")
    if item.kind == "checkbox":
        usual = "yes" if item.default else "no"
        return click.option(f"{name}/--no-{name[2:]}", item.name, default=None, help=f"{text}. [default: {usual}]")
    kind: Any = click.Choice([o for o in item.options if o]) if item.options else str
    shown = "" if item.default in ("", (), None) else f" [default: {item.default}]"
    return click.option(name, *_SHORT.get(item.name, ()), item.name, type=kind, help=f"{text}.{shown}")


@dataclass(frozen=True)
class How:
    """How it is to be done."""

    dry_run: bool
    yes: bool
    wait: bool
    replace: bool
    as_json: bool


@click.command(
    "user", cls=Command, context_settings={"max_content_width": 120},
    examples=(
        "exeunt offboard user john@contoso.example --client contoso --type voluntary --dry-run",
        "exeunt offboard user john@contoso.example --type voluntary --date 2030-01-31T17:00 --yes",
        "exeunt offboard user john@contoso.example --type involuntary --immediate-disable --yes --wait",
        "exeunt offboard user --from leavers.csv --client contoso --template Leavers --yes",
    ),
)  # fmt: skip
@click.argument("people", metavar="[EMAIL]...", nargs=-1)
@click.option("--client", help="Their client: slug, name or id. Needed where an address is not unique.")
@click.option(
    "--date",
    "at",
    help="2030-01-31 (their termination date) or 2030-01-31T17:00 (exact time). Default: the contact's termination date, else now.",
)
@click.option("--template", help="Name of a template of options.")
@click.option("--from", "file", type=click.Path(path_type=Path, dir_okay=False),
              help="A CSV or JSON file with a column `email`, and a column for each input that differs.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Replace an offboarding that is planned already.")
@click.option("--dry-run", is_flag=True, help="Show inputs and steps; nothing is stored or started.")
@click.option("--yes", is_flag=True, help="Plan or start it without a question.")
@click.option("--wait", is_flag=True, help="Wait for the end of what is started now.")
@json_option
@input_options
@pass_caller
def user(
    caller: Caller, people: tuple[str, ...], client: str | None, at: str | None, template: str | None, file: Path | None,
    replace: bool, dry_run: bool, yes: bool, wait: bool, as_json: bool, **inputs: Any,
) -> None:  # fmt: skip
    """Offboard people: start now, or plan it for a date. Every input can be given; the rest comes from the contact, the
    templates, the client's fields and the defaults. Three people or more are planned, and the monitor starts them.
    """
    if bool(people) == bool(file):
        raise UsageError("name the people, or a file with --from")
    how = How(dry_run, yes, wait, replace, as_json)
    common = Request("", client, {n: v for n, v in inputs.items() if v is not None}, template, at)
    with caller.installation.database.reading() as session:
        if file is not None:
            requests = read_requests(session, file, common, actor=caller.actor)
        else:
            requests = [Request(p, client, common.given, template, at) for p in people]
        checked = [offboardings.check(session, r, actor=caller.actor) for r in requests]
    _nobody_twice(checked)
    if dry_run or not yes:
        shown = [_preview(caller, c.contact.contact_id or 0, c.resolved) for c in checked]
        _show(checked, shown, how)
    if dry_run:
        return
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("nobody can be asked here: look at it with --dry-run, then give --yes")
        click.confirm(f"Offboard {counted(len(checked), 'person') if len(checked) == 1 else f'{len(checked)} people'}?",
                      abort=True, err=True)  # fmt: skip
    sys.exit(_go(caller, requests, how))


def _nobody_twice(checked: Sequence[Checked]) -> None:
    seen: set[int | None] = set()
    for one in checked:
        if one.contact.contact_id in seen:
            raise UsageError(f"{one.contact.email} is named twice")
        seen.add(one.contact.contact_id)


def _preview(caller: Caller, contact_id: int, resolved: Resolved) -> DraftPlan:
    """The steps as they would be planned with these inputs."""
    request = RunRequest(offboardings.WRAPPER, "contact", contact_id, resolved.parameters(), levels=("planned",))
    return draft_plan(caller.installation, [request], PlanOrigin(caller.actor))


def _show(checked: Sequence[Checked], drafts: Sequence[DraftPlan], how: How) -> None:
    if how.as_json:
        show_json([_checked_document(c, d) for c, d in zip(checked, drafts, strict=True)])
        return
    for one, draft in zip(checked, drafts, strict=True):
        contact, resolved = one.contact, one.resolved
        say(clean(f"{contact.name} <{contact.email}>: " + _begins(one)))
        for name, found in resolved.document().items():
            if found["source"] != DEFAULT:
                say(clean(f"    {name} = {found['value'] or '(none)'}  [{found['source']}]"))
        for target in planned(draft):
            for number, step in enumerate(target["steps"], 1):
                say(clean(f"  {number:>3}. {step['name']}: {step['preview']}"))
        for left in draft.skipped:
            warn(clean(f"{contact.name}: it could not be started now: {left['reason']}"))
        for hold in draft.holds:
            tell(clean(f"held: {hold['reason']} (guardrail: {hold['guardrail']})"))


def _begins(checked: Checked) -> str:
    if checked.begins_now:
        return "begins now"
    return f"at {cell(checked.at)} UTC" if checked.at else f"on {checked.resolved.values.termination_date}"


def _checked_document(checked: Checked, draft: DraftPlan) -> dict[str, Any]:
    resolved = checked.resolved
    return {
        "contact": checked.contact.name, "email": checked.contact.email, "scheduled_for": checked.at,
        "begins_now": checked.begins_now, "inputs": resolved.document(), "warnings": list(resolved.warnings),
        "planned": planned(draft), "skipped": list(draft.skipped), "holds": list(draft.holds),
    }  # fmt: skip


def _go(caller: Caller, requests: Sequence[Request], how: How) -> int:
    """Plan all or none; then start those that begin now, if they are few. The exit code."""
    with caller.engine() as port:
        done = plan_and_start(
            caller.installation, port, requests, actor=caller.actor, replace=how.replace,
            settle=(lambda stored: _settle(caller, stored)) if how.wait else None,
        )  # fmt: skip
    report: dict[str, Any] = {
        "planned": [_document(p) for p in done.planned],
        "runs": [r for found, stored in done.started for r in _runs(caller, stored, found, wait=how.wait)],
        "security_runs": [r for found, stored in done.security for r in _runs(caller, stored, found, wait=False)],
        "holds": [{**h, "plan": stored.id} for _, stored in done.started for h in stored.holds],
        "errors": [{"person": f.contact.email, "offboarding": f.row.id, "error": e} for f, e in done.errors],
    }
    show_json(report) if how.as_json else _tell(report)
    if report["errors"]:
        return 1
    if report["holds"]:
        return HELD
    return 1 if any(r["state"] in NOT_DONE for r in (*report["runs"], *report["security_runs"])) else 0


def _settle(caller: Caller, stored: StoredPlan) -> None:
    if not stored.holds:
        execute(caller.installation, stored.run_ids)


def _runs(caller: Caller, stored: StoredPlan, found: Planned, *, wait: bool) -> list[dict[str, Any]]:
    shown = execute if wait and not stored.holds else progress
    runs = shown(caller.installation, stored.run_ids)
    return [{"id": r.id, "person": found.contact.email, "state": r.state} for r in runs]


def _document(found: Planned) -> dict[str, Any]:
    return {
        "id": found.row.id, "contact": found.contact.name, "email": found.contact.email, "scheduled_for": found.due,
        "begins_now": found.begins_now,
        "reference": found.row.reference, "warnings": list(found.resolved.warnings),
        "inputs": found.resolved.document(),
    }  # fmt: skip


def _tell(report: dict[str, Any]) -> None:
    for found in report["planned"]:
        when = "begins now" if found["begins_now"] else f"due {cell(found['scheduled_for'])} UTC"
        say(clean(f"offboarding {found['id']}: {found['contact']} <{found['email']}>, {when}"))
    for run in (*report["security_runs"], *report["runs"]):
        say(clean(f"run {run['id']}: {run['person']} {run['state']}"))
    for hold in report["holds"]:
        tell(clean(f"held: {hold['reason']} (guardrail: {hold['guardrail']}). To go on: "
                   f"exeunt run approve {hold['plan']} --reason TEXT"))  # fmt: skip
    for error in report["errors"]:
        tell(clean(f"{error['person']}: planned, but not started: {error['error']}"))
    if not report["runs"] and not report["errors"]:
        tell("the monitor `User Offboarding` starts what is planned: `exeunt worker`")
