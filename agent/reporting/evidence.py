"""The evidence of a client's offboarding: who asked, who approved, and what became of each computer (CWA-86).

Written to a file it is sealed: the SHA-256 digests of the files stand in the audit trail, whose end stands in the report.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from agent import audit
from agent.errors import NotFound, StoreError
from agent.installation import Installation
from agent.inventory.flags import FieldSets, standing_flags
from agent.model.administration import AuditEntry
from agent.model.base import utcnow
from agent.model.fields import ExtraField
from agent.model.places import Client, Computer, Location
from agent.model.runs import Plan, RunStep, ScriptRun, StepState
from agent.reporting.html import evidence_html
from agent.reporting.leftovers import leftovers
from agent.reporting.run_report import iso
from agent.settings import Settings

#: What may be asked of the database in one list.
_CHUNK = 500
#: Plans that are searched for computers that were left out.
_RECENT_PLANS = 1000
_LISTS = ("success", "failure", "reboot_needed", "unknown")


@dataclass(frozen=True)
class Written:
    """Where a report was written, and the digest of each file that the audit trail holds."""

    html: Path
    json: Path
    digests: Mapping[str, str]


@dataclass
class _History:
    """What is known about one computer."""

    runs: list[ScriptRun] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


def evidence_document(
    session: Session, settings: Settings, client_id: int, *, now: datetime | None = None
) -> dict[str, Any]:
    """The evidence as plain JSON. The session must be one that may write: logged changes are sealed first.

    Raises NotFound.
    """
    now = now or utcnow()
    client = session.get(Client, client_id)
    if client is None:
        raise NotFound(f"there is no client {client_id}")
    head = audit.seal_changes(session)
    plans = _plans(session, client_id)
    computers = list(_computers(session, settings, client_id, plans, now))
    return {
        "client": {"id": client.client_id, "name": client.name, "slug": client.slug},
        "generated_at": iso(now),
        "audit_trail": str(head),
        "counts": dict(sorted(Counter(c["state"] for c in computers).items())),
        "warnings": [f.warning for f in standing_flags(session, client_id=client_id)],
        "asked": list(_asked(session, client_id)),
        "plans": [_plan_of(plan) for plan in plans],
        "computers": computers,
    }


def write_evidence(installation: Installation, client_id: int, *, actor: str, now: datetime | None = None) -> Written:
    """Write the evidence as HTML and JSON under `<workspace>/reports/` and record their digests.

    Raises NotFound, StoreError when the files cannot be written.
    """
    now = now or utcnow()
    with installation.database.session() as session:
        document = evidence_document(session, installation.settings, client_id, now=now)
        folder = installation.settings.workspace / "reports"
        stem = f"evidence-{document['client']['slug']}-{now:%Y%m%dT%H%M%S%fZ}"
        texts = {
            f"{stem}.html": evidence_html(document),
            f"{stem}.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        }
        digests = {name: write_report(folder / name, text) for name, text in texts.items()}
        audit.record(
            session, actor=actor, action="report.write", object_kind="client", object_id=client_id,
            client_id=client_id, details={"sha256": digests},
        )  # fmt: skip
    return Written(folder / f"{stem}.html", folder / f"{stem}.json", digests)


def write_report(path: Path, content: str | bytes) -> str:
    """Write a report whole or not at all, readable for its owner only; its SHA-256, hexadecimal. Raises StoreError."""
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".report-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"the report {path} cannot be written: {error.strerror}") from error
    return hashlib.sha256(data).hexdigest()


def _asked(session: Session, client_id: int) -> Iterator[dict[str, Any]]:
    """Changes of the offboarding fields of this client and of everything under it, oldest first."""
    fields = select(ExtraField.id).where(
        col(ExtraField.section).in_(("Offboarding", "Exclusions")) | col(ExtraField.is_destructive)
    )
    wanted = set(session.exec(fields))
    query = select(AuditEntry).where(AuditEntry.client_id == client_id, AuditEntry.action == "edf.change")
    for row in session.exec(query.order_by(col(AuditEntry.sequence))):
        if row.details.get("field_id") in wanted:
            yield {
                "at": row.details.get("changed_at"), "by": row.actor, "level": row.object_kind,
                "place": row.details.get("entity_name"), "place_id": row.object_id, "field": row.details.get("field"),
                "old": row.details.get("old"), "new": row.details.get("new"), "audit_entry": row.sequence,
            }  # fmt: skip


def _plans(session: Session, client_id: int) -> list[Plan]:
    """Plans that hold an offboarding of this client or left one of its computers out, oldest first."""
    with_runs = select(ScriptRun.plan_id).where(
        ScriptRun.client_id == client_id, col(ScriptRun.exclusive), col(ScriptRun.parent_id).is_(None)
    )
    found = {p.id: p for p in session.exec(select(Plan).where(col(Plan.id).in_(with_runs)))}
    own = set(session.exec(select(Computer.computer_id).where(Computer.client_id == client_id)))
    for plan in session.exec(select(Plan).order_by(col(Plan.created_at).desc()).limit(_RECENT_PLANS)):
        if any(s["id"] in own for s in _computers_in(plan.skipped)):
            found[plan.id] = plan
    return sorted(found.values(), key=lambda p: p.created_at)


def _computers_in(skipped: list[Any]) -> list[dict[str, Any]]:
    """The computers among what a plan left out; a contact's id may be the same number."""
    return [s for s in skipped if s.get("kind", "computer") == "computer" and s.get("id") is not None]


def _plan_of(plan: Plan) -> dict[str, Any]:
    return {
        "id": plan.id, "monitor": plan.monitor, "state": plan.state, "created_at": iso(plan.created_at),
        "created_by": plan.created_by, "holds": list(plan.holds), "approved_by": plan.approved_by,
        "approved_at": iso(plan.approved_at), "approval_reason": plan.approval_reason,
    }  # fmt: skip


def _computers(
    session: Session, settings: Settings, client_id: int, plans: list[Plan], now: datetime
) -> Iterator[dict[str, Any]]:
    """Each computer of the client that was flagged, run, skipped or retired, by name."""
    histories = _histories(session, client_id, plans)
    offline = {x.computer_id: x.state for x in leftovers(session, settings, client_id=client_id, now=now)}
    flagged = _flagged(session, client_id)
    query = (
        select(Computer, Location)
        .join(Location, col(Location.location_id) == col(Computer.location_id))
        .where(Computer.client_id == client_id)
        .order_by(Computer.name, col(Computer.computer_id))
    )
    for computer, location in session.exec(query):
        assert computer.computer_id is not None
        history = histories.get(computer.computer_id)
        if history is None and computer.computer_id not in flagged and computer.retired_at is None:
            continue
        history = history or _History()
        yield {
            "id": computer.computer_id,
            "name": computer.name,
            "location": location.name,
            "state": _state(computer, history, offline.get(computer.computer_id)),
            "flagged": computer.computer_id in flagged,
            "last_contact": iso(computer.last_contact),
            "retired_at": iso(computer.retired_at),
            **_results(history),
            "skipped": history.skipped[-1] if history.skipped else None,
            "runs": [_run_of(r) for r in history.runs],
        }


def _state(computer: Computer, history: _History, offline: str | None) -> str:
    """The word for a computer: retired, what its last run came to, why it was not reached, skipped or not started."""
    if computer.retired_at is not None:
        return "retired"
    last = history.runs[-1] if history.runs else None
    if last is not None and last.started_at is not None:
        needs_reboot = (last.result or {}).get("reboot_needed") and not (last.result or {}).get("failure")
        return "reboot_needed" if last.state == "partial" and needs_reboot else str(last.state)
    if offline is not None:
        return offline
    if last is not None:
        return str(last.state)
    return "skipped" if history.skipped else "not_started"


def _results(history: _History) -> dict[str, Any]:
    """What was removed in any run, and what the last run that came to an end left."""
    ended = [r for r in history.runs if r.result]
    removed: dict[str, dict[str, Any]] = {}
    for run in ended:
        for label in (run.result or {}).get("success", ()):
            removed.setdefault(label, {"label": label, "at": iso(run.finished_at), "run": run.id})
    last = (ended[-1].result or {}) if ended else {}
    left = {
        name: [{"label": label, "reason": history.reasons.get(label)} for label in last.get(key, ())]
        for name, key in (("failed", "failure"), ("reboot_needed", "reboot_needed"), ("unknown", "unknown"))
    }
    return {"removed": list(removed.values()), **left}


def _run_of(run: ScriptRun) -> dict[str, Any]:
    fallback = run.context.get("fallback") or {}
    return {
        "id": run.id, "script": run.script, "state": str(run.state), "started_by": run.started_by,
        "plan": run.plan_id, "fallback": fallback.get("option"), "created_at": iso(run.created_at),
        "started_at": iso(run.started_at), "finished_at": iso(run.finished_at),
    }  # fmt: skip


def _histories(session: Session, client_id: int, plans: list[Plan]) -> dict[int, _History]:
    found: dict[int, _History] = defaultdict(_History)
    query = select(ScriptRun).where(
        ScriptRun.client_id == client_id, ScriptRun.target_kind == "computer", col(ScriptRun.exclusive),
        col(ScriptRun.parent_id).is_(None),
    )  # fmt: skip
    owner: dict[str, int] = {}
    for run in session.exec(query.order_by(col(ScriptRun.created_at), col(ScriptRun.id))):
        found[run.target_id].runs.append(run)
        owner[run.id] = run.target_id
    last = [h.runs[-1].id for h in found.values() if h.runs[-1].result]
    for root_id, label, reason in _failures(session, last):
        found[owner[root_id]].reasons[label] = reason
    for plan in plans:
        for skipped in _computers_in(plan.skipped):
            why = {"reason": skipped.get("reason"), "at": iso(plan.created_at), "plan": plan.id}
            found[skipped["id"]].skipped.append(why)
    return dict(found)


def _failures(session: Session, root_ids: list[str]) -> Iterator[tuple[str, str, str]]:
    """(root run, label, reason) of steps that did not come off."""
    for chunk in _chunks(root_ids):
        query = select(RunStep).where(
            col(RunStep.root_id).in_(chunk), col(RunStep.state).in_((StepState.FAILED, StepState.UNKNOWN))
        )
        for step in session.exec(query):
            for application in (step.result or {}).get("applications") or ():
                yield step.root_id, application["name"], "; ".join(map(str, application.get("reasons") or ()))
            yield step.root_id, step.options.get("label") or step.name, str((step.error or {}).get("message") or "")


def _flagged(session: Session, client_id: int) -> set[int | None]:
    return set(session.scalars(FieldSets(session).flagged_ids(col(Computer.client_id) == client_id)))


def _chunks(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
