"""`exeunt audit`: read, verify, export the audit trail."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from sqlmodel import col, select

from agent import audit as trail
from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import plain, say, show_json, show_table, tell
from agent.errors import UsageError
from agent.inventory import lookup
from agent.model.administration import AuditEntry
from agent.model.places import Client


@click.group("audit", cls=Group)
def audit() -> None:
    """The audit trail: read, verify, export."""


@command(
    audit, "list", "exeunt audit list", "exeunt audit list --action 'edf.*' --since 2026-01-01 --json",
    "exeunt audit list --actor alice --client contoso",
)  # fmt: skip
@click.option("--actor", help="Only what this user did.")
@click.option("--action", help="Only this action; a `*` at its end stands for the rest.")
@click.option("--client", help="Only about this client: slug, name or id.")
@click.option("--object", "object_", help="Only about this object: KIND:ID, such as run:4f2a9c0d11e2b3a7.")
@click.option("--since", help="From this time on (UTC): YYYY-MM-DD or YYYY-MM-DDTHH:MM.")
@click.option("--until", help="Before this time (UTC).")
@limit_option()
@json_option
@pass_caller
def list_entries(
    caller: Caller, actor: str | None, action: str | None, client: str | None, object_: str | None, since: str | None,
    until: str | None, limit: int, as_json: bool,
) -> None:  # fmt: skip
    """Show entries, the newest first: who did what, when, with old and new values."""
    kind, _, identity = (object_ or "").partition(":")
    with caller.installation.database.session() as session:
        found = trail.entries(
            session, actor=actor, action=action, limit=limit, since=_moment(since), until=_moment(until),
            object_kind=kind or None, object_id=identity or None,
            client_id=lookup.find(session, Client, client).client_id if client else None,
        )  # fmt: skip
    if as_json:
        show_json(found)
        return
    show_table(
        ("no", "at", "actor", "action", "object", "details"),
        ((e.sequence, e.at, e.actor, e.action, f"{e.object_kind}:{e.object_id}", e.details) for e in found),
        empty="no entries",
    )


def _moment(text: str | None) -> datetime | None:
    """A time that was given as an option; without a zone it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time: write YYYY-MM-DD or YYYY-MM-DDTHH:MM") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@command(audit, "verify", "exeunt audit verify", "exeunt audit verify --noted 128:9b3f...")
@click.option("--noted", metavar="COUNT:DIGEST", help="The end of the trail as you noted it elsewhere before.")
@json_option
@pass_caller
def verify(caller: Caller, noted: str | None, as_json: bool) -> None:
    """Find entries that were changed, removed or inserted. Note the printed end elsewhere, and give it the next time."""
    kept = trail.Head.parse(noted) if noted is not None else None
    from agent.reporting.audit_trail import verify as find_faults

    found = find_faults(caller.installation.database, noted=kept)
    faults, head = found.faults, found.head
    if as_json:
        show_json({"ok": not faults, "entries": head.count, "head": str(head), "faults": list(faults)})
    else:
        for fault in faults:
            tell(f"fault: {fault}")
        say(f"{head.count} entries, {'no faults' if not faults else f'{len(faults)} faults'}; the end is {head}")
    if faults:
        raise SystemExit(1)


@command(audit, "export", "exeunt audit export audit.jsonl")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@pass_caller
def export(caller: Caller, file: Path) -> None:
    """Write all entries as one JSON object per line, mode 0600; nothing is overwritten."""
    if file.exists():
        raise UsageError(f"{file} exists already: name a new file")
    from agent.reporting.evidence import write_report

    lines: list[str] = []
    head = trail.Head(0, trail.GENESIS)
    with caller.installation.database.session() as session:
        trail.seal_changes(session)
    with caller.installation.database.reading() as session:
        for entry in session.exec(
            select(AuditEntry).order_by(col(AuditEntry.sequence)).execution_options(yield_per=1000)
        ):
            lines.append(_line(entry))
            head = trail.Head(entry.sequence, entry.digest)
    write_report(file, "\n".join(lines) + "\n")
    say(f"{file}: {head.count} entries; the end is {head}")


def _line(entry: Any) -> str:
    return json.dumps(plain(entry), ensure_ascii=True, sort_keys=True)
