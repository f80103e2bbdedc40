"""`exeunt run`: list, show, watch, cancel, resume, retry, rollback, approve, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from sqlmodel import col, func, select

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import clean, say, show_json, show_table, tell
from agent.cli.progress import execute, follow
from agent.errors import Conflict
from agent.inventory import lookup
from agent.model.base import utcnow
from agent.model.places import Client, Computer
from agent.model.runs import Plan, RunState, RunStep, ScriptRun
from agent.reporting.run_report import run_document, text_lines
from agent.running import verbs

#: States of a finished run that are no success.
NOT_DONE = (RunState.PARTIAL, RunState.FAILED, RunState.CANCELLED, RunState.UNKNOWN)
_COLUMNS = ("id", "script", "client", "target", "state", "queue", "started by", "created", "finished", "plan")


@click.group("run", cls=Group)
def run() -> None:
    """Script runs: follow, approve, cancel, try again."""


@command(run, "list", "exeunt run list", "exeunt run list --state held", "exeunt run list --client contoso --json")
@click.option("--client", help="Only of this client: slug, name or id.")
@click.option("--computer", help="Only on this computer: id, external id or path of names.")
@click.option("--state", type=click.Choice([s.value for s in RunState]), help="Only in this state.")
@click.option("--plan", help="Only of this plan.")
@limit_option()
@json_option
@pass_caller
def list_runs(
    caller: Caller, client: str | None, computer: str | None, state: str | None, plan: str | None, limit: int, as_json: bool
) -> None:  # fmt: skip
    """Show runs, the newest first: user, times, script, target, state."""
    database = caller.installation.database
    with database.reading() as session:
        query = (
            select(ScriptRun, Client.name, Computer.last_contact)
            .join(Client, col(Client.client_id) == ScriptRun.client_id)
            .outerjoin(
                Computer, (col(Computer.computer_id) == ScriptRun.target_id) & (ScriptRun.target_kind == "computer")
            )
            .where(col(ScriptRun.parent_id).is_(None))
            .order_by(col(ScriptRun.created_at).desc(), col(ScriptRun.id))
            .limit(limit)
        )
        if client is not None:
            query = query.where(ScriptRun.client_id == lookup.find(session, Client, client).client_id)
        if computer is not None:
            found = lookup.find(session, Computer, computer)
            query = query.where(ScriptRun.target_kind == "computer", ScriptRun.target_id == found.computer_id)
        if state is not None:
            query = query.where(ScriptRun.state == state)
        if plan is not None:
            query = query.where(ScriptRun.plan_id == plan)
        rows = [_row(caller, *found) for found in session.exec(query)]
    if as_json:
        show_json(rows)
    else:
        show_table(_COLUMNS, ([r[c.replace(" ", "_")] for c in _COLUMNS] for r in rows), empty="no runs")


def _row(caller: Caller, found: ScriptRun, client: str, contact: Any) -> dict[str, Any]:
    return {
        "id": found.id, "script": found.script, "client": client, "target": found.target_name, "state": found.state,
        "queue": queue_word(caller, found, contact), "started_by": found.started_by, "created": found.created_at,
        "started": found.started_at, "finished": found.finished_at, "plan": found.plan_id, "retry_of": found.retry_of,
    }  # fmt: skip


def queue_word(caller: Caller, found: ScriptRun, contact: Any) -> str | None:
    """ConnectWise Automate's word for a run in the queue: executing, waiting, pending (offline) or fizzled (facts 11.6).

    Between two attempts a run is under way and does not execute.
    """
    now = utcnow()
    if found.state == RunState.RUNNING and (found.not_before is None or found.not_before <= now):
        return "executing"
    if found.state in (RunState.QUEUED, RunState.RUNNING):
        seconds = caller.installation.settings.online_seconds
        online = found.target_kind != "computer" or (contact and (now - contact).total_seconds() <= seconds)
        return "waiting" if online else "pending"
    return "fizzled" if (found.result or {}).get("fizzled") else None


@command(run, "show", "exeunt run show 4f2a9c0d11e2b3a7", "exeunt run show 4f2a --json")
@click.argument("run_id", metavar="ID")
@json_option
@pass_caller
def show(caller: Caller, run_id: str, as_json: bool) -> None:
    """Show what a run did, step by step. ID may be the beginning of the id."""
    with caller.installation.database.reading() as session:
        document = run_document(session, verbs.find_run(session, run_id).id)
    if as_json:
        show_json(document)
    else:
        say("\n".join(text_lines(document)))


@command(run, "watch", "exeunt run watch", "exeunt run watch 4f2a9c0d11e2b3a7")
@click.argument("run_ids", metavar="[ID]...", nargs=-1)
@pass_caller
def watch(caller: Caller, run_ids: tuple[str, ...]) -> None:
    """Follow runs until they are over; without an ID all that are queued or under way. Exit code 1 when one was no success."""
    with caller.installation.database.reading() as session:
        ids = [verbs.find_run(session, given).id for given in run_ids]
        if not run_ids:
            active = col(ScriptRun.state).in_((RunState.QUEUED, RunState.RUNNING))
            ids = list(session.exec(select(ScriptRun.id).where(col(ScriptRun.parent_id).is_(None), active)))
    if not ids:
        say("(no run is queued or under way)")
    runs = follow(caller.installation, ids)
    if any(r.state in NOT_DONE for r in runs):
        sys.exit(1)


@command(run, "cancel", 'exeunt run cancel 4f2a9c0d11e2b3a7 --reason "wrong client"')
@click.argument("run_id", metavar="ID")
@click.option("--reason", help="Why; kept in the audit trail.")
@pass_caller
def cancel(caller: Caller, run_id: str, reason: str | None) -> None:
    """Cancel a run, or a whole plan by its id. A step that is under way is not interrupted."""
    with caller.engine() as port:
        say(verbs.cancel(caller.installation, port, run_id, actor=caller.actor, reason=reason))


@command(run, "resume", "exeunt run resume 4f2a9c0d11e2b3a7")
@click.argument("run_id", metavar="ID")
@pass_caller
def resume(caller: Caller, run_id: str) -> None:
    """Let a run that waits (offline, retry later) go on now."""
    with caller.engine() as port:
        say(f"run {verbs.resume(caller.installation, port, run_id, actor=caller.actor)} goes on")


@command(run, "retry", "exeunt run retry 4f2a9c0d11e2b3a7", "exeunt run retry 4f2a --wait")
@click.argument("run_id", metavar="ID")
@click.option("--reason", help="Why; kept in the audit trail.")
@click.option("--wait", is_flag=True, help="Wait for the end.")
@pass_caller
def retry(caller: Caller, run_id: str, reason: str | None, wait: bool) -> None:
    """Run the same script on the same target once more; what is verified gone is left alone."""
    stored = verbs.retry(caller.installation, run_id, actor=caller.actor, reason=reason)
    with caller.engine() as port:
        ids = verbs.release(caller.installation, port, stored.id, actor=caller.actor)
    _started(caller, ids, wait)


@command(
    run, "rollback", 'exeunt run rollback 4f2a9c0d11e2b3a7 --reason "wrong person" --dry-run',
    'exeunt run rollback 4f2a --reason "she stays" --wait',
)  # fmt: skip
@click.argument("run_id", metavar="ID")
@click.option("--reason", required=True, help="Why; kept in the audit trail.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be put back and what cannot be; nothing is stored or started."
)
@click.option("--wait", is_flag=True, help="Wait for the end.")
@pass_caller
def rollback(caller: Caller, run_id: str, reason: str, dry_run: bool, wait: bool) -> None:
    """Put a person's accounts back as they were before a run that is over and kept snapshots of them."""
    from agent.running.rollback import draft_rollback, store_rollback

    found = draft_rollback(caller.installation, run_id, actor=caller.actor, reason=reason)
    say(clean(f"{found.account} goes back to how it was at {found.taken_at}"))
    for drafted in found.draft.targets:
        for step in drafted.run.steps():
            say(clean(f"  {step.name}: {step.options['preview']}"))
    for left in found.cannot_be_restored:
        tell(clean(f"cannot be restored: {left}"))
    if dry_run:
        return
    stored = store_rollback(caller.installation, found, actor=caller.actor, reason=reason)
    with caller.engine() as port:
        ids = verbs.release(caller.installation, port, stored.id, actor=caller.actor)
    _started(caller, ids, wait)


@command(
    run, "approve", 'exeunt run approve 9be10c77aa01d2f4 --reason "offboarding agreed in ticket 4711"',
    'exeunt run approve 9be10c77aa01d2f4 --reason "contract ended" --confirm-client contoso --wait',
)  # fmt: skip
@click.argument("plan_or_run", metavar="ID")
@click.option("--reason", required=True, help="Why; kept in the audit trail.")
@click.option("--confirm-client", "clients", multiple=True, metavar="SLUG",
              help="Confirm by name that this whole client is to be offboarded. May be repeated.")  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait for the end.")
@pass_caller
def approve(caller: Caller, plan_or_run: str, reason: str, clients: tuple[str, ...], wait: bool) -> None:
    """Approve what a guardrail holds, by the plan's or a run's id. Exactly the stored plan is started."""
    with caller.engine() as port:
        ids = verbs.approve(
            caller.installation, port, plan_or_run, actor=caller.actor, reason=reason, confirmed_clients=clients
        )
    _started(caller, ids, wait)


def _started(caller: Caller, ids: list[str], wait: bool) -> None:
    for run_id in ids:
        say(f"run {run_id} queued")
    if not wait:
        tell("a worker executes it: `exeunt worker`, or give --wait")
        return
    if any(r.state in NOT_DONE for r in execute(caller.installation, ids)):
        sys.exit(1)


@command(run, "report", "exeunt run report 4f2a9c0d11e2b3a7", "exeunt run report 4f2a --format html --output run.html")
@click.argument("run_id", metavar="ID")
@click.option("--format", "form", type=click.Choice(["text", "html", "json"]), default="text", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file, mode 0600.")
@pass_caller
def report(caller: Caller, run_id: str, form: str, output: Path | None) -> None:
    """The report of one run, for people or programs."""
    with caller.installation.database.reading() as session:
        document = run_document(session, verbs.find_run(session, run_id).id)
    if output is None and form == "json":
        show_json(document)
        return
    text = _rendered(document, form)
    if output is None:
        say(text)
        return
    from agent.reporting.evidence import write_report

    write_report(output, text + "\n")
    say(f"{output} is written")


def _rendered(document: dict[str, Any], form: str) -> str:
    if form == "html":
        from agent.reporting.html import run_html

        return run_html(document)
    if form == "json":
        import json

        return json.dumps(document, ensure_ascii=False, indent=2)
    return "\n".join(text_lines(document))


@command(run, "plans", "exeunt run plans", "exeunt run plans --state held --json")
@click.option("--state", type=click.Choice(["planned", "held", "released", "cancelled"]), help="Only in this state.")
@limit_option(50)
@json_option
@pass_caller
def plans(caller: Caller, state: str | None, limit: int, as_json: bool) -> None:
    """Show plans, the newest first: what a monitor or a person was about to start, and what holds it."""
    with caller.installation.database.reading() as session:
        query = select(Plan).order_by(col(Plan.created_at).desc()).limit(limit)
        if state is not None:
            query = query.where(Plan.state == state)
        found = list(session.exec(query))
        counts = dict(
            session.exec(
                select(ScriptRun.plan_id, func.count())
                .where(col(ScriptRun.plan_id).in_([p.id for p in found]), col(ScriptRun.parent_id).is_(None))
                .group_by(col(ScriptRun.plan_id))
            ).all()
        )
    if as_json:
        show_json([{**p.model_dump(), "runs": counts.get(p.id, 0)} for p in found])
        return
    show_table(
        ("id", "monitor", "state", "runs", "left out", "held by", "created by", "created"),
        (
            (p.id, p.monitor, p.state, counts.get(p.id, 0), len(p.skipped), [h["guardrail"] for h in p.holds],
             p.created_by, p.created_at)
            for p in found
        ),
        empty="no plans",
    )  # fmt: skip


@command(run, "output", "exeunt run output 4f2a9c0d11e2b3a7", "exeunt run output 4f2a --step Remove")
@click.argument("run_id", metavar="ID")
@click.option("--step", help="Only of the step of this name.")
@json_option
@pass_caller
def output(caller: Caller, run_id: str, step: str | None, as_json: bool) -> None:
    """Show what the scripts of a run wrote, both streams apart; secrets are masked."""
    with caller.installation.database.reading() as session:
        root = verbs.find_run(session, run_id)
        query = select(RunStep).where(RunStep.root_id == root.id, col(RunStep.output).is_not(None))
        steps = [s for s in session.exec(query.order_by(col(RunStep.ordinal))) if s.output and step in (None, s.name)]
    if as_json:
        show_json([{"step": s.name, "output": s.output} for s in steps])
        return
    if not steps:
        raise Conflict(f"run {root.id} has no output" + (f" of a step {step!r}" if step else ""))
    for found in steps:
        for body in (found.output or {}).get("bodies", ()):
            _show_body(found.name, body)


def _show_body(step: str, body: dict[str, Any]) -> None:
    code = body.get("exit_code")
    say(clean(f"== {step}: {body['body']} of {body['script']}, exit code {'unknown' if code is None else code}"))
    for stream in ("stdout", "stderr"):
        kept = body.get(stream) or {}
        if kept.get("bytes"):
            more = f", all of it in {kept['file']}" if kept.get("file") else ""
            say(f"-- {stream} ({kept['bytes']} bytes{more})\n{kept['text'].rstrip()}")
