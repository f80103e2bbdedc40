"""Exit reports as files: written whole, for their owner only, with their digests in the audit trail.

The names are made of the client's slug and the offboarding's id, never of what somebody is called, so a name leads nowhere
else; writing again replaces the files. If the process dies between the files and the audit trail, the next round finds no
entry of that run and writes both again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlmodel import Session, col, select

from agent import audit
from agent.installation import Installation
from agent.model.administration import AuditEntry
from agent.model.base import utcnow
from agent.model.places import Client
from agent.model.runs import RunState, ScriptRun
from agent.model.tickets import Notification
from agent.reporting import pdf
from agent.reporting.evidence import write_report
from agent.reporting.exit_report import ACTION, ReportFault, exit_document, finished_run
from agent.reporting.exit_view import View, view_of
from agent.reporting.html import exit_html
from agent.services import tickets

log = structlog.get_logger()
FORMATS = ("json", "html", "pdf")
#: So long a finished run's report waits for the run's mails, so that it tells what became of them.
MAIL_PATIENCE = timedelta(minutes=15)
_ACTOR = "exit report"


@dataclass(frozen=True)
class WrittenExit:
    """The files of a report, by format, and the digest of each as the audit trail holds it."""

    document: Mapping[str, Any]
    files: Mapping[str, Path]
    digests: Mapping[str, str]


def write_exit_report(
    installation: Installation, run_id: str, *, actor: str, formats: Iterable[str] = ("json", "html")
) -> WrittenExit:
    """Write the report of a finished run in these formats.

    Raises what `exit_document` raises; SettingsError for PDF without its library; StoreError when a file cannot be written.
    """
    wanted = [f for f in FORMATS if f in set(formats)]
    settings = installation.settings
    folder = (settings.report_folder or settings.workspace / "reports").absolute()
    with installation.database.reading() as session:
        run = finished_run(session, run_id)
        client = session.get(Client, run.client_id)
        stem = _stem(client.slug if client else str(run.client_id), run)
        names = {f: f"{stem}.{f}" for f in wanted}
        # The location is that of the first format for people.
        location = str(folder / (names.get("pdf") or names.get("html") or names["json"]))
        document = exit_document(installation, session, run_id, location=location)
    view = view_of(document, client.name if client else "")
    files = {f: folder / names[f] for f in wanted}
    contents = {f: _content(f, document, view, settings.pdf_font) for f in wanted}
    digests = {names[f]: write_report(files[f], contents[f]) for f in wanted}
    with installation.database.session() as session:
        audit.record(
            session, actor=actor, action=ACTION, object_kind="run", object_id=run_id, client_id=run.client_id,
            details={"sha256": digests, "folder": str(folder)},
        )  # fmt: skip
    return WrittenExit(document, files, digests)


def write_due(installation: Installation, *, now: datetime | None = None, limit: int = 100) -> list[str]:
    """Write the reports of offboardings of people that are over and have none, oldest first; the ids of their runs.

    Meant to be called regularly. Closes the offboarding's ticket where nothing is left to do.
    """
    now = now or utcnow()
    formats = FORMATS if pdf.available() else ("json", "html")
    with installation.database.reading() as session:
        due = _due(session, now, limit)
    done = []
    for run_id in due:
        try:
            written = write_exit_report(installation, run_id, actor=_ACTOR, formats=formats)
        except ReportFault as error:
            # It must not keep the reports of other people from being written.
            log.error("exit_report_refused", run=run_id, reason=str(error))
            continue
        _close_ticket(installation, run_id, written)
        done.append(run_id)
    return done


def _due(session: Session, now: datetime, limit: int) -> list[str]:
    written = select(AuditEntry.object_id).where(AuditEntry.action == ACTION, AuditEntry.object_kind == "run")
    waiting = select(Notification.run_id).where(Notification.state == "sending", col(Notification.run_id).is_not(None))
    query = (
        select(ScriptRun.id)
        .where(ScriptRun.target_kind == "contact", col(ScriptRun.parent_id).is_(None), col(ScriptRun.exclusive))
        .where(col(ScriptRun.started_at).is_not(None), col(ScriptRun.finished_at).is_not(None))
        .where(col(ScriptRun.id).not_in(written))
        .where(col(ScriptRun.id).not_in(waiting) | (col(ScriptRun.finished_at) <= now - MAIL_PATIENCE))
        .order_by(col(ScriptRun.finished_at))
        .limit(limit)
    )
    return list(session.exec(query))


def _stem(slug: str, run: ScriptRun) -> str:
    # The database lets only letters, digits and hyphens into a slug.
    return f"exit-{slug[:60]}-{run.created_at:%Y}-{run.id}"


def _content(wanted: str, document: Mapping[str, Any], view: View, font: Path | None) -> str | bytes:
    if wanted == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return exit_html(view) if wanted == "html" else pdf.exit_pdf(view, further_font=font)


def _close_ticket(installation: Installation, run_id: str, written: WrittenExit) -> None:
    """The ticket of a full success with nothing left to do by hand is closed; any other is told where the report is."""
    document = written.document
    told = f"The exit report is stored: {document['compliance_documentation']['report_location']}"
    number = document["psa_updates"]["offboarding_ticket"]["ticket_id"]
    if number is None:
        return
    with installation.database.session() as session:
        run = session.get(ScriptRun, run_id)
        assert run is not None, run_id
        ticket = tickets.find_open(session, f"offboarding:contact:{run.target_id}")
        if ticket is None or ticket.id is None or ticket.client_id != run.client_id:
            return
        over = run.state == RunState.SUCCEEDED and not document["audit_trail"]["manual_follow_up_required"]
        tickets.add_comment(session, ticket.id, author=_ACTOR, text=told, run_id=run_id, origin=f"report:{run_id}")
        if over:
            tickets.close(session, ticket.id, author=_ACTOR)
