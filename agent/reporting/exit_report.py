"""The exit report of a person: one document, exactly in the sections and field names of seed 002 ("Returned Data").

`exit_report.schema.json` describes it and every document is checked against it before anybody gets it. Times are those of
the steps, counts are counted, and what was not measured is null. Beyond the seed there are the section `verification`, the
payroll's notification, the reason of each notification that was not sent, the legal hold and the exit interview.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from agent.errors import Conflict, ExeuntError, NotFound, UsageError
from agent.functions import exit_people as people
from agent.functions.base import FinishedStep
from agent.functions.exit_facts import Facts, came_off, gather, row_of, second
from agent.functions.exit_table import CONTACT_THERE, TABLE
from agent.installation import Installation
from agent.model.administration import AuditEntry
from agent.model.contacts import ManualTask
from agent.model.places import Client, Contact, Equipment, Location
from agent.model.runs import RunState, RunStep, ScriptRun, StepState
from agent.reporting.exit_failures import error_fields
from agent.reporting.exit_notifications import notifications, ticket_of_offboarding
from agent.reporting.exit_summary import completion, estimated_completion, saving, summary
from agent.running.tree import RunTree, load_tree
from agent.services.tickets import storable

#: The action of the audit trail that says that a report was written.
ACTION = "report.write"
#: The formats, the first for people first.
FORMATS_FOR_PEOPLE = ("pdf", "html", "json")
#: The function that asks for the return of equipment.
RETURN_LIST = "assets.create_return_list"
#: The function that sets devices back to how they left the factory.
WIPE = "m365.wipe_devices"


class ReportFault(ExeuntError):
    """A report does not fit its own schema: a fault of Exeunt or of a function's result. Nothing was written."""


@dataclass(frozen=True)
class _Subject:
    """Whom the report is about, as the store knows it now."""

    tree: RunTree
    contact: Contact | None
    places: Mapping[str, Mapping[str, Any] | None]
    inputs: Mapping[str, Any]
    equipment: list[Equipment]
    tasks: list[ManualTask]
    facts: Facts
    info: Mapping[str, Any]
    kept: people.Retention


def exit_document(
    installation: Installation, session: Session, run_id: str, *, location: str | None = None
) -> dict[str, Any]:
    """The report of a finished run on a contact, as plain JSON. `location`: where it is about to be stored; None: where
    it was stored last, if it was.

    Raises NotFound; UsageError when the run is not about a person; Conflict while it goes on; ReportFault.
    """
    subject = _subject(session, finished_run(session, run_id))
    location = location or _stored(session, run_id)
    document = _filled(_schema(), _sections(installation, session, subject, location))
    skipped = _skipped(subject.tree)
    more = error_fields(subject.facts, subject.tree, document) | ({"skipped_steps": skipped} if skipped else {})
    plain: dict[str, Any] = _plain(document | more)
    check(plain)
    return plain


def offboarding_id(run: ScriptRun) -> str:
    """`OFFBOARD-2026-3F9A...`: made from the run, so it is the same whenever it is asked for."""
    return f"OFFBOARD-{run.created_at:%Y}-{run.id.upper()}"


def finished_run(session: Session, run_id: str) -> ScriptRun:
    """The root run of a report. Raises NotFound, UsageError, Conflict."""
    run = session.get(ScriptRun, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id!r}")
    if run.parent_id is not None:
        raise UsageError(f"run {run_id} is a part of another run: ask for the report of that one")
    if run.target_kind != "contact":
        raise UsageError(f"run {run_id} is about a {run.target_kind}: `exeunt run show {run_id}` reports it")
    if run.finished_at is None:
        raise Conflict(f"run {run_id} is {run.state}: its exit report is made when it is over")
    return run


def check(document: Mapping[str, Any]) -> None:
    """Raises ReportFault with the first place where a document does not fit the schema."""
    fault = next(iter(sorted(_validator().iter_errors(document), key=lambda e: list(map(str, e.absolute_path)))), None)
    if fault is not None:
        where = "/".join(map(str, fault.absolute_path)) or "the document"
        raise ReportFault(f"the exit report does not fit its schema at {where}: {fault.message[:300]}")


def finished_steps(tree: RunTree) -> list[FinishedStep]:
    """The finished steps; one that the run did not come to is cancelled, with the reason in its error."""
    finished = [s for s in tree.steps if s.state not in (StepState.WAITING, StepState.RUNNING)]
    return [_reached(tree, step, seen) for step, seen in zip(finished, tree.finished(), strict=True)]


def _reached(tree: RunTree, step: RunStep, seen: FinishedStep) -> FinishedStep:
    """A step as the report takes it: was it reached, and if not, who or what ended the run before it?"""
    if seen.state == StepState.SKIPPED:
        stopper = tree.stopped_by(step)
        if stopper is None:
            return seen
        error = {
            "message": f"it was not reached: {stopper.name!r} is {stopper.state}",
            "remediation": "Mend what stopped the run, then retry it",
        }  # fmt: skip
        return replace(seen, state=StepState.CANCELLED, result={}, error=error)
    if seen.state != StepState.CANCELLED:
        return seen
    why = _ended_by(tree.root)
    if not step.attempts:
        return replace(seen, error={"message": f"it was not reached: {why}"})
    # Its worker may have died in the middle of it, or an attempt had failed and another one was due.
    error = {
        "type": "cancelled", "message": f"it had begun, and was not seen to be done before the end: {why}",
        "remediation": "Look at the system, then start the offboarding again",
    }  # fmt: skip
    return replace(seen, state=StepState.UNKNOWN, error=error)


def _skipped(tree: RunTree) -> list[dict[str, str]]:
    """Steps of the client's child scripts that looked and found nothing to do, with the reason.

    What a condition, such as an input, left out was never begun and is not told; nor is what the phases do themselves, such
    as messages: their section says why one was not sent.
    """
    finished = [s for s in tree.steps if s.state not in (StepState.WAITING, StepState.RUNNING)]
    return [
        {"step": row_of(seen, TABLE).step, "reason": str(seen.result["reason"])}
        for step, seen in zip(finished, finished_steps(tree), strict=True)
        if seen.state == StepState.SKIPPED and step.attempts and tree.runs[step.run_id].role == "child"
        and seen.result.get("reason")
    ]  # fmt: skip


def _ended_by(root: ScriptRun) -> str:
    """Why a run ended before its last step."""
    result = root.result or {}
    left_out = result.get("left_out") or result.get("fizzled")
    if left_out:
        return str(left_out)
    return f"the run was cancelled by {root.cancelled_by}" if root.cancelled_by else "the run was cancelled"


def _subject(session: Session, run: ScriptRun) -> _Subject:
    tree = load_tree(session, run.id)
    contact = session.get(Contact, run.target_id)
    if contact is not None and contact.client_id != run.client_id:
        # The person belongs to another client by now, who has nothing to do with this run.
        contact = None
    client = session.get(Client, run.client_id)
    location = session.get(Location, contact.location_id) if contact is not None and contact.location_id else None
    places = {
        "client": client.model_dump() if client else None, "location": location.model_dump() if location else None,
        "contact": contact.model_dump() if contact else None,
    }  # fmt: skip
    inputs = people.inputs_of(session, run)
    info = people.employee_info(session, contact, run.target_name, inputs)
    return _Subject(
        tree, contact, places, inputs, people.equipment_of(session, run.target_id) if contact else [],
        people.tasks_of(session, run), gather(finished_steps(tree), TABLE), info,
        people.retention(session, places, run.id, inputs),
    )  # fmt: skip


def _sections(installation: Installation, session: Session, subject: _Subject, location: str | None) -> dict[str, Any]:
    facts, root, info = subject.facts, subject.tree.root, subject.info
    sections = facts.sections
    sections["success"] = root.state == RunState.SUCCEEDED
    sections["offboarding_id"] = offboarding_id(root)
    sections["employee_info"] = dict(info)
    sections["assets_tracking"] = people.assets(
        subject.equipment, subject.tasks, _return_tickets(subject.tree), facts.deactivated, _wiped(subject.tree)
    )  # fmt: skip
    if any((s.function or "").startswith("ad.") for s in subject.tree.steps):
        directory = sections.setdefault("account_actions", {}).setdefault("active_directory", {})
        directory["scheduled_deletion_date"] = subject.kept.deletion_on
    groups = sections.setdefault("group_memberships_removed", {})
    groups["total_permissions_revoked"] = facts.permissions_revoked
    sections["notifications_sent"] = notifications(session, root.id, subject.tree.finished())
    psa = sections.setdefault("psa_updates", {})
    here = {"contact_id": subject.contact.external_id if subject.contact else None, **psa.get("contact_record", {})}
    # What the PSA itself says of the person counts before what the inventory does.
    psa["contact_record"] = here | psa.pop(CONTACT_THERE, {})
    psa["offboarding_ticket"] = ticket_of_offboarding(session, root, subject.tree.finished())
    sections["compliance_documentation"] = _compliance(session, subject, location)
    sections["verification"] = facts.checks
    sections["summary"] = summary(
        facts, pending=len(people.pending_return(subject.equipment)),
        saved=saving(installation, session, facts.get("licenses_reclaimed")),
        percentage=completion(finished_steps(subject.tree)),
        expected=estimated_completion(subject.equipment, _open(subject.tasks)), tasks=len(_open(subject.tasks)),
    )  # fmt: skip
    sections["audit_trail"] = _audit_trail(subject)
    return sections


def _compliance(session: Session, subject: _Subject, location: str | None) -> dict[str, Any]:
    root = subject.tree.root
    started = session.exec(
        select(AuditEntry)
        .where(AuditEntry.object_kind == "run", AuditEntry.object_id == root.id, AuditEntry.action == "run.start")
        .order_by("sequence")
    ).first()
    return {
        "offboarding_report_generated": location is not None,
        "report_location": location,
        "data_retention_policy_applied": subject.kept.days is not None,
        "retention_period_days": subject.kept.days,
        "scheduled_deletion_date": subject.kept.deletion_on,
        "audit_trail_created": started is not None,
        # As `exeunt audit verify --noted` takes it: the chain up to the entry that says that the run began.
        "audit_trail_id": f"{started.sequence}:{started.digest}" if started else None,
        "legal_hold": subject.kept.legal_hold,
        "exit_interview_completed": _exit_interview(subject),
    }


def _stored(session: Session, run_id: str) -> str | None:
    """Where the report lies that was written last, in the first format for people; None when none was."""
    written = select(AuditEntry).where(
        AuditEntry.object_kind == "run", AuditEntry.object_id == run_id, AuditEntry.action == ACTION
    )
    entry = session.exec(written.order_by(col(AuditEntry.sequence).desc())).first()
    if entry is None:
        return None
    names = sorted(entry.details["sha256"], key=lambda name: FORMATS_FOR_PEOPLE.index(name.rpartition(".")[2]))
    return str(Path(entry.details["folder"]) / names[0])


def _audit_trail(subject: _Subject) -> dict[str, Any]:
    root, facts = subject.tree.root, subject.facts
    assert root.finished_at is not None
    return {
        "workflow_run_id": root.id,
        "initiated_by": root.started_by,
        "initiated_timestamp": second(root.created_at),
        "completed_timestamp": second(root.finished_at),
        "total_duration_minutes": round((root.finished_at - root.created_at).total_seconds() / 60, 1),
        "all_critical_steps_successful": not any(
            [f.failure.critical for f in facts.failed] + [n.critical for n in facts.not_reached]
        ),
        "manual_follow_up_required": bool(
            facts.failed or facts.not_reached or people.pending_return(subject.equipment) or _open(subject.tasks)
        ),
    }


def _return_tickets(tree: RunTree) -> dict[int, str]:
    """Id of a thing -> the ticket that asks for its return."""
    return {
        thing["id"]: str(step.result["ticket"])
        for step in tree.finished() if step.function == RETURN_LIST and step.result.get("ticket") is not None
        for thing in step.result.get("equipment") or ()
    }  # fmt: skip


def _wiped(tree: RunTree) -> dict[str, str | None]:
    """Serial number or IMEI of a device (small letters) -> when its wipe was asked for; None: before this run."""
    found: dict[str, str | None] = {}
    for step in tree.finished():
        for device in (step.result.get("devices") or ()) if step.function == WIPE else ():
            if came_off(device):
                numbers = (str(device.get(n) or "").strip().casefold() for n in ("serial", "imei"))
                moment = second(step.finished_at) if device.get("outcome") == "accepted" else None
                found |= {number: moment for number in numbers if number}
    return found


def _open(tasks: Iterable[ManualTask]) -> list[ManualTask]:
    return [t for t in tasks if t.state == "open"]


def _exit_interview(subject: _Subject) -> bool | None:
    """What the task about it says, else what the run was given."""
    told = [t.state == "done" for t in subject.tasks if t.matter == "exit_interview" and t.state != "cancelled"]
    if told:
        return all(told)
    given = str(subject.inputs.get("exit_interview_completed")).lower()
    return {"true": True, "1": True, "false": False, "0": False}.get(given)


def _filled(schema: Mapping[str, Any], found: Any) -> dict[str, Any]:
    """What was found in the order of the schema; a field that it requires and nobody measured is null."""
    found = found or {}
    properties: Mapping[str, Any] = schema["properties"]
    document = {}
    for name in schema["required"]:
        inner = properties[name]
        if inner.get("type") == "object" and "required" in inner:
            document[name] = _filled(inner, found.get(name))
        else:
            document[name] = found.get(name, {} if inner.get("type") == "object" else None)
    return document | {k: v for k, v in found.items() if k not in document}


def _plain(found: Any) -> Any:
    """Text as every file can hold it. Names such as `password_reset` say that nothing here is masked by its name: only
    fields of the table get in, and no function puts a secret into its result.
    """
    if isinstance(found, Mapping):
        return {k: _plain(v) for k, v in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(v) for v in found]
    return storable(found) if isinstance(found, str) else found


@cache
def _schema() -> dict[str, Any]:
    text = files("agent.reporting").joinpath("exit_report.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def _validator() -> Any:
    # Loaded with the first report only: it takes a while, and most commands make none.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_schema())
