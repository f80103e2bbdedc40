"""`exeunt template`: alert templates."""

from __future__ import annotations

import click

from agent.alerting.imagining import imagined_actions
from agent.cli.caller import Caller, json_option, pass_caller
from agent.cli.content import show_faults
from agent.cli.lazy import Group, command
from agent.cli.output import say, show_json, show_table
from agent.content.definitions import AlertAction, AlertTemplateDefinition
from agent.inventory import lookup
from agent.model.places import Computer
from agent.running.checking import check


@click.group("template", cls=Group)
def template() -> None:
    """Alert templates: what answers a monitor."""


@command(template, "list", "exeunt template list", "exeunt template list --json")
@json_option
@pass_caller
def list_templates(caller: Caller, as_json: bool) -> None:
    """Show all alert templates and what they do."""
    found = [(t.definition, t.file) for t in caller.installation.content.alert_templates()]
    if as_json:
        show_json([{**d.model_dump(mode="json", by_alias=True, exclude_none=True), "file": f} for d, f in found])
        return
    zone = caller.installation.settings.time_zone
    show_table(
        ("name", "when it fails", "when it succeeds again", "file"),
        ((d.name, _words(d, "failed", zone), _words(d, "success", zone), f) for d, f in found),
        empty="no alert templates",
    )


def _words(definition: AlertTemplateDefinition, status: str, zone: str) -> str:
    actions = (*(definition.failed if status == "failed" else definition.success), *definition.both)
    return "; ".join(_word(a, zone) for a in actions) or "nothing"


def _word(action: AlertAction, zone: str) -> str:
    if action.run_script:
        what = f"run {action.run_script}"
    elif action.create_ticket:
        what = "create a ticket"
    elif action.send_email:
        what = f"send mail to {', '.join(action.to) or 'the default address'}"
    else:
        what = "raise an alert"
    window = action.window
    if window is None:
        return what
    hours = f"{window.from_ or '00:00'}-{window.until or '24:00'} {window.time_zone or zone}"
    return f"{what} ({', '.join((*window.days, hours))})"


@command(
    template, "show", 'exeunt template show "△ Custom - Execute Script - Offboarding Wrapper"',
    'exeunt template show "△ Custom - Execute Script - Offboarding Wrapper" --json',
)  # fmt: skip
@click.argument("name")
@json_option
@pass_caller
def show(caller: Caller, name: str, as_json: bool) -> None:
    """Show one alert template: its actions for FAILED and for SUCCESS."""
    found = caller.installation.content.alert_template(name)
    if as_json:
        data = found.definition.model_dump(mode="json", by_alias=True, exclude_none=True)
        show_json({**data, "file": found.file})
        return
    say(f"{found.name}\n{found.definition.description}\n{found.file}\n")
    zone = caller.installation.settings.time_zone
    rows = [
        (status, n, _word(action, zone))
        for status in ("failed", "success", "both")
        for n, action in enumerate(getattr(found.definition, status), 1)
    ]
    show_table(("status", "no", "action"), rows, empty="it does nothing")


@command(
    template, "render", 'exeunt template render "△ Custom - Ticket Creation - Computer" --monitor Offboarding '
    "--computer Contoso/HQ/PC1",
)  # fmt: skip
@click.argument("name")
@click.option("--monitor", "monitor_name", required=True, help="The monitor that is imagined to fail.")
@click.option("--computer", required=True, help="The computer that is imagined to be found.")
@click.option("--status", type=click.Choice(["FAILED", "SUCCESS"]), default="FAILED", show_default=True)
@click.option("--result", default="1", show_default=True, help="The imagined test value.")
@json_option
@pass_caller
def render(
    caller: Caller, name: str, monitor_name: str, computer: str, status: str, result: str, as_json: bool
) -> None:
    """Show the texts that a template would write about a computer now. Nothing is written or sent."""
    definition = caller.installation.content.alert_template(name).definition
    monitor = caller.installation.content.monitor(monitor_name).definition
    with caller.installation.database.reading() as session:
        found = lookup.find(session, Computer, computer)
        planned = imagined_actions(
            session,
            definition,
            monitor,
            found,
            status="SUCCESS" if status == "SUCCESS" else "FAILED",
            test_value=result,
            zone=caller.installation.settings.zone,
        )
    zone = caller.installation.settings.time_zone
    rows = [
        {"no": p.number + 1, "action": _word(p.action, zone), "subject": p.message.subject if p.message else None,
         "body": p.message.body if p.message else None}
        for p in planned
    ]  # fmt: skip
    if as_json:
        show_json(rows)
        return
    for row in rows:
        say(f"{row['no']}. {row['action']}" + (f"\n   {row['subject']}\n\n{row['body']}\n" if row["subject"] else ""))
    if not rows:
        say(f"nothing is done now about {status}: no action, or outside its days and hours")


@command(template, "check", "exeunt template check", "exeunt template check --json")
@json_option
@pass_caller
def check_templates(caller: Caller, as_json: bool) -> None:
    """Find faults of alert templates: scripts that do not exist, texts that cannot be filled in."""
    show_faults([f for f in check(caller.installation.content) if "alert_templates" in f.file], as_json)
