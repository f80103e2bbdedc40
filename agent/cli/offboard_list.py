"""`exeunt offboard`: list, show, run-now, delete, inputs."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click
from sqlmodel import col, select

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Command
from agent.cli.monitor_run import HELD
from agent.cli.output import clean, counted, say, show_details, show_json, show_table, tell
from agent.cli.progress import execute, progress
from agent.cli.run import NOT_DONE
from agent.content.user_inputs import INPUTS, parameter
from agent.errors import UsageError
from agent.inventory import lookup
from agent.inventory.contacts import equipment_of
from agent.model.administration import AuditEntry
from agent.model.base import utcnow
from agent.model.places import Client
from agent.reporting.run_report import run_document, text_lines
from agent.running import user_offboardings as offboardings
from agent.running.previews import planned
from agent.services import manual_tasks

STATES = ("Planned", "Running", "Completed", "Failed")
_UNITS = ((86400 * 365, "year"), (86400 * 30, "month"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def relative(moment: datetime | None, *, now: datetime | None = None) -> str:
    """`in 3 days`, `2 hours ago`, `now`; `No Data` without a time (seed 003)."""
    if moment is None:
        return "No Data"
    seconds = (moment - (now or utcnow())).total_seconds()
    for length, unit in _UNITS:
        number = int(abs(seconds) // length)
        if number:
            amount = counted(number, unit)
            return f"in {amount}" if seconds > 0 else f"{amount} ago"
    return "now"


@click.command(
    "list", cls=Command,
    examples=("exeunt offboard list", "exeunt offboard list --client contoso --state Failed", "exeunt offboard list --json"),
)  # fmt: skip
@click.option("--client", help="Only of this client: slug, name or id.")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only in this state.")
@click.option("--all", "with_removed", is_flag=True, help="Also those that were taken off the list.")
@limit_option()
@json_option
@pass_caller
def list_(caller: Caller, client: str | None, state: str | None, with_removed: bool, limit: int, as_json: bool) -> None:
    """Show offboardings of people, the newest first."""
    with caller.installation.database.reading() as session:
        client_id = lookup.find(session, Client, client).client_id if client else None
        rows = offboardings.listed(session, client_id=client_id, state=state, with_removed=with_removed, limit=limit)
    if as_json:
        show_json(rows)
        return
    show_table(
        ("id", "Tenant", "Username", "State", "Scheduled", "Executed", "Reference"),
        (
            (r.id, r.tenant, r.username, r.state, relative(r.scheduled_for), relative(r.executed_at), r.reference)
            for r in rows
        ),
        empty="no offboardings",
    )


@click.command(
    "show", cls=Command, examples=("exeunt offboard show 4f2a9c0d11e2b3a7", "exeunt offboard show 4f2a --json")
)
@click.argument("row_id", metavar="ID")
@json_option
@pass_caller
def show(caller: Caller, row_id: str, as_json: bool) -> None:
    """Show one offboarding: its inputs with their sources, the steps, tasks, equipment, and who did what."""
    with caller.installation.database.reading() as session:
        row = offboardings.find_row(session, row_id)
        line = next(
            x for x in offboardings.listed(session, contact_id=row.contact_id, with_removed=True) if x.id == row.id
        )
        inputs = row.resolved or offboardings.inputs_now(session, row).document()
        run = run_document(session, row.run_id) if row.run_id else None
        tasks = manual_tasks.list_tasks(session, contact_id=row.contact_id)
        equipment = equipment_of(session, contact_id=row.contact_id)
        logs = session.exec(
            select(AuditEntry)
            .where(AuditEntry.object_kind == "offboarding", AuditEntry.object_id == row.id)
            .order_by(col(AuditEntry.sequence))
        ).all()
    if as_json:
        show_json({
            **{n: getattr(line, n) for n in line.__dataclass_fields__}, "template": row.template, "inputs": inputs,
            "security_plan_id": row.security_plan_id, "closed_at": row.closed_at, "deleted_at": row.deleted_at,
            "forwarding_until": row.forwarding_until, "run": run, "tasks": tasks, "equipment": equipment,
            "logs": [{"at": e.at, "actor": e.actor, "action": e.action} for e in logs],
        })  # fmt: skip
        return
    show_details({
        "id": row.id, "Tenant": line.tenant, "Username": line.username, "State": line.state,
        "Scheduled": relative(line.scheduled_for), "Executed": relative(line.executed_at), "Reference": row.reference,
        "Requested by": row.requested_by, "Template": row.template, "Retention until": row.retention_until,
        "Forwarding until": row.forwarding_until, "Deleted": row.deleted_at,
    })  # fmt: skip
    say("\nInputs")
    show_table(("input", "value", "source"), ((n, d["value"], d["source"]) for n, d in inputs.items()))
    if run is not None:
        say("\n" + "\n".join(text_lines(run)))
    say("\nTasks for people")
    show_table(("id", "title", "owner", "due", "state"), ((t.id, t.title, t.owner, t.due, t.state) for t in tasks))
    say("\nEquipment")
    show_table(
        ("id", "name", "serial", "due", "state"),
        ((e.equipment_id, e.name, e.serial, e.due, e.state) for e in equipment),
    )
    say("\nLog")
    show_table(("at", "who", "what"), ((e.at, e.actor, e.action) for e in logs))


@click.command(
    "run-now", cls=Command,
    examples=("exeunt offboard run-now 4f2a9c0d11e2b3a7", "exeunt offboard run-now 4f2a 77ab --yes --wait"),
)  # fmt: skip
@click.argument("row_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", help="Why; kept in the audit trail.")
@click.option("--yes", is_flag=True, help="Start it without a question.")
@click.option("--wait", is_flag=True, help="Wait for the end.")
@json_option
@pass_caller
def run_now(caller: Caller, row_ids: tuple[str, ...], reason: str | None, yes: bool, wait: bool, as_json: bool) -> None:
    """Start offboardings now, whatever date they were planned for; one that is over runs again."""
    draft = offboardings.draft_now(caller.installation, row_ids, actor=caller.actor, reason=reason)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("nobody can be asked here: give --yes to start it without a question")
        for target in planned(draft):
            say(clean(f"{target['computer']} ({target['client']}): {counted(len(target['steps']), 'step')}"))
        click.confirm("Start this?", abort=True, err=True)
    with caller.engine() as port:
        stored = offboardings.start(caller.installation, port, draft, actor=caller.actor)
    waits = wait and not stored.holds
    runs = execute(caller.installation, stored.run_ids) if waits else progress(caller.installation, stored.run_ids)
    if as_json:
        show_json({
            "runs": [{"id": r.id, "person": r.target, "state": r.state} for r in runs],
            "skipped": list(stored.skipped), "holds": list(stored.holds), "plan": stored.id,
        })  # fmt: skip
    else:
        show_table(("run", "person", "state"), ((r.id, r.name, r.state) for r in runs))
        for left in stored.skipped:
            tell(clean(f"not started: {left['computer']}: {left['reason']}"))
        for hold in stored.holds:
            tell(clean(f"held: {hold['reason']}. To go on: exeunt run approve {stored.id} --reason TEXT"))
    if stored.holds:
        sys.exit(HELD)
    if stored.skipped or any(r.state in NOT_DONE for r in runs):
        sys.exit(1)


@click.command(
    "delete", cls=Command,
    examples=("exeunt offboard delete 4f2a9c0d11e2b3a7 --yes", "exeunt offboard delete 4f2a 77ab --yes"),
)  # fmt: skip
@click.argument("row_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Without a question.")
@pass_caller
def delete(caller: Caller, row_ids: tuple[str, ...], yes: bool) -> None:
    """Take offboardings off the list: a planned one will not start. What was done stays on record."""
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody can be asked here: give --yes to delete without a question")
        click.confirm(f"Delete {counted(len(row_ids), 'offboarding')}?", abort=True, err=True)
    with caller.installation.database.session() as session:
        gone = offboardings.remove(session, row_ids, actor=caller.actor)
    say(f"deleted: {', '.join(gone)}")


@click.command("inputs", cls=Command, examples=("exeunt offboard inputs", "exeunt offboard inputs --json"))
@json_option
def inputs(as_json: bool) -> None:
    """Show every input of an offboarding: type, default, the client's field, and the Offboarding Wizard's word for it."""
    rows: list[dict[str, Any]] = [
        {
            "name": i.name, "type": i.kind, "options": list(i.options), "required": i.required,
            "default": parameter(i.default), "client_field": i.field, "wizard": i.cipp, "description": i.description,
        }
        for i in INPUTS.values()
    ]  # fmt: skip
    if as_json:
        show_json(rows)
    else:
        columns = ("name", "type", "default", "client_field", "wizard", "description")
        show_table(columns, ([r[c] for c in columns] for r in rows))
