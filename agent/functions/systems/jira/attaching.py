"""The exit report at the offboarding's ticket. It is written when the run is over, so it is attached by a run of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from sqlmodel import Session, col, select

from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.base import Context, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.confirming import settled
from agent.functions.systems.jira.site import API, SERVICE, IssueKey, issue_path
from agent.functions.systems.jira.tickets import JiraTicketFunction
from agent.inventory import retention
from agent.model.administration import AuditEntry
from agent.services.rest.client import Call, RestClient, Upload


class AttachParameters(BaseParameters):
    """Which report, and where to."""

    issue: IssueKey
    #: Empty: PDF, or HTML where no PDF was written.
    format: Literal["", "pdf", "html", "json"] = ""


class AttachReport(JiraTicketFunction):
    """Attaches the exit report of the person's last offboarding, as it was written, once."""

    name = "jira.attach_report"
    summary = (
        "Attach the exit report of the person's last offboarding; it is written when the offboarding's run is over"
    )
    Parameters = AttachParameters
    rights = "Browse Projects, Create Attachments"
    impact = "The ticket lacks the exit report, which is stored where the console shows it."

    def preview(self, parameters: AttachParameters) -> str:
        """The call that would be made."""
        return f"POST {API}/issue/{parameters.issue}/attachments with the exit report"

    def act(self, client: RestClient, context: Context, parameters: AttachParameters) -> Outcome:
        """Attach it unless a file of that name is there."""
        file = _report(context, parameters.format)
        if file.name in _attached(client, parameters.issue):
            return Outcome.succeeded(outcome="already", ticket=parameters.issue, file=file.name)
        kinds = {"pdf": "application/pdf", "html": "text/html", "json": "application/json"}
        upload = Upload("file", file.name, file.read_bytes(), kinds[file.suffix.removeprefix(".")])
        headers = {"X-Atlassian-Token": "no-check"}
        client.send(Call("POST", issue_path(parameters.issue, "attachments"), upload=upload, headers=headers))
        settled(lambda: _attached(client, parameters.issue), lambda names: file.name in names, service=SERVICE.name)
        return Outcome.succeeded(outcome="created", ticket=parameters.issue, file=file.name)

    def is_so(self, client: RestClient, context: Context, parameters: AttachParameters) -> bool:
        """Whether a file of that name is there."""
        return _report(context, parameters.format).name in _attached(client, parameters.issue)


def _attached(client: RestClient, issue: str) -> list[str]:
    found = client.object(Call("GET", issue_path(issue), {"fields": "attachment"}))
    return [str(a.get("filename")) for a in (found.get("fields") or {}).get("attachment") or []]


def _report(context: Context, wanted: str) -> Path:
    """The file of the report, as the audit trail has its place and digest. Raises StepError when there is none."""
    with context.installation.database.reading() as session:
        entry = _written(session, context.target_id) if context.target_kind == "contact" else None
    digests = dict(entry.details.get("sha256") or {}) if entry else {}
    by_format = {Path(name).suffix.removeprefix("."): Path(name).name for name in digests}
    chosen = next((f for f in ([wanted] if wanted else ["pdf", "html"]) if f in by_format), None)
    if entry is not None and chosen is not None:
        file = Path(str(entry.details.get("folder")), by_format[chosen])
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digests[file.name]:
            raise _no_report(f"{file} is missing or was changed after it was written", "report_changed")
        return file
    raise _no_report("there is no exit report yet" + (f" as {wanted}" if wanted else ""), "no_report")


def _written(session: Session, contact_id: int) -> AuditEntry | None:
    row = retention.last_offboarding(session, contact_id)
    query = select(AuditEntry).where(
        AuditEntry.action == "report.write", AuditEntry.object_kind == "run", AuditEntry.object_id == (row.run_id if row else "")
    )  # fmt: skip
    return session.exec(query.order_by(col(AuditEntry.sequence).desc())).first()


def _no_report(message: str, code: str) -> StepError:
    return StepError(
        message, type=INTEGRATION_ERROR, code=code, impact="The ticket lacks the exit report.",
        remediation="It is written when the offboarding's run is over: exeunt offboard report ID; then run this again.",
    )  # fmt: skip
