"""The report of one run: one document, shown as JSON, as text or as HTML (DESIGN 3, last line).

The document is what `exeunt run show ID --json` prints; `run_report.schema.json` describes it and a test holds the two
together. Text that came from machines and people is cleaned where it is shown, never where it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, or_, select

from agent.audit import mask
from agent.errors import NotFound
from agent.functions.results import ABSENT, UNVERIFIED, absent_names, cautions, unverified
from agent.model.monitors import Alert
from agent.model.places import Client
from agent.model.runs import Plan, RunStep, ScriptRun, StepState
from agent.model.tickets import Notification, Ticket, TicketComment
from agent.reporting.words import moment_text, one_line, state_word, titles_of, unapplied
from agent.running.conditions import only_if
from agent.running.tree import RunTree, load_tree

_STEP_ERROR = ("type", "code", "message", "impact", "remediation", "critical")


def run_document(session: Session, run_id: str) -> dict[str, Any]:
    """Everything about a run as plain JSON: times as ISO 8601 in UTC, secrets masked. Raises NotFound.

    For a run inside another one it is that part of the tree; lists, tickets and fallback are those of the whole.
    """
    run = session.get(ScriptRun, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id!r}")
    root = run
    while root.parent_id is not None:
        above = session.get(ScriptRun, root.parent_id)
        assert above is not None, root.parent_id
        root = above
    tree = load_tree(session, root.id)
    steps = tree.steps if run is root else tree.steps_under(tree.runs[run.id])
    context, result = root.context, root.result or {}
    return {
        "id": run.id,
        "script": run.script,
        "target": {"kind": run.target_kind, "id": run.target_id, "name": run.target_name},
        "client": _client(session, root.client_id),
        "state": str(run.state),
        "started_by": root.started_by,
        "reason": root.reason,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "waits_until": iso(root.not_before) if root.finished_at is None else None,
        "steps": [_step(tree, s) for s in steps],
        **tree.lists(),
        "levels": list(context.get("levels") or ()),
        "children": context.get("children"),
        "fallback": _fallback(tree),
        "outcome": result.get("outcome"),
        "fizzled": result.get("fizzled"),
        "left_out": result.get("left_out"),
        "cancelled_by": root.cancelled_by,
        "retry_of": root.retry_of,
        "plan": _plan(session, root.plan_id),
        "alert": _alert(session, root.alert_id),
        "tickets": _tickets(session, root.id),
        "mail": _mail(session, root.id),
    }


def text_lines(document: Mapping[str, Any]) -> list[str]:
    """The report for a terminal: plain lines without control characters, at any width."""
    target, client = document["target"], document["client"]
    lines = [
        one_line(
            f"{document['script']} on {target['name']} ({target['kind']} {target['id']}), client {client['name']}"
        ),
        f"Run {document['id']}: {document['state']}",
        one_line(f"Started by {document['started_by']}, {_span(document)}"),
        *_waits(document),
        *_reasons(document),
    ]
    for key, title in titles_of(document).items():
        if document[key] or key in ("success", "failure"):
            lines += ["", f"{title} ({len(document[key])})", *(f"  - {one_line(label)}" for label in document[key])]
    lines += ["", "Steps"]
    for step in document["steps"]:
        label = "" if step["label"] == step["name"] else f" ({step['label']})"
        place = one_line(f"{step['script']} > {step['name']}{label}")
        lines.append(f"  {state_word(step['state']):<13}  {place}")
        lines += [one_line(text, indent="      ") for text in _remarks(step)]
    if document["tickets"]:
        lines += ["", "Tickets"]
        lines += [one_line(f"#{t['id']} {t['status']}: {t['subject']}", indent="  ") for t in document["tickets"]]
    if document["mail"]:
        lines += ["", "Mail"]
        lines += [one_line(f"#{m['id']} {m['state']} to {m['recipient']}", indent="  ") for m in document["mail"]]
    return lines


def iso(value: datetime | None) -> str | None:
    """A time as ISO 8601 in UTC with `Z`, None for none."""
    return None if value is None else value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _step(tree: RunTree, step: RunStep) -> dict[str, Any]:
    error = step.error
    return {
        "name": step.name,
        "label": step.options.get("label") or step.name,
        "script": tree.runs[step.run_id].script,
        "function": step.function,
        "state": str(step.state),
        "condition": only_if(step.options.get("when") or ()),
        "attempts": step.attempts,
        "started_at": iso(step.started_at),
        "finished_at": iso(step.finished_at),
        "error": None if error is None else {key: error.get(key) for key in _STEP_ERROR},
        "result": None if step.result is None else mask(step.result),
    }


def _fallback(tree: RunTree) -> dict[str, Any] | None:
    """The fallback that the plan fixed; `applied`: something did not come off, so its outcome is in force."""
    fallback = tree.root.context.get("fallback")
    return None if fallback is None else {**fallback, "applied": tree.work_state() != StepState.SUCCEEDED}


def _client(session: Session, client_id: int) -> dict[str, Any]:
    client = session.get(Client, client_id)
    return {"id": client_id, "name": client.name if client else None, "slug": client.slug if client else None}


def _plan(session: Session, plan_id: str | None) -> dict[str, Any] | None:
    plan = session.get(Plan, plan_id) if plan_id else None
    if plan is None:
        return None
    return {
        "id": plan.id, "monitor": plan.monitor, "state": plan.state, "created_by": plan.created_by,
        "created_at": iso(plan.created_at), "holds": list(plan.holds), "approved_by": plan.approved_by,
        "approved_at": iso(plan.approved_at), "approval_reason": plan.approval_reason,
    }  # fmt: skip


def _alert(session: Session, alert_id: int | None) -> dict[str, Any] | None:
    alert = session.get(Alert, alert_id) if alert_id is not None else None
    if alert is None:
        return None
    return {
        "id": alert.id, "monitor": alert.monitor, "identity": alert.identity, "test_value": alert.test_value,
        "opened_at": iso(alert.opened_at), "closed_at": iso(alert.closed_at),
    }  # fmt: skip


def _tickets(session: Session, root_id: str) -> list[dict[str, Any]]:
    """Tickets that the run opened or commented."""
    commented = select(TicketComment.ticket_id).where(TicketComment.run_id == root_id)
    query = select(Ticket).where(or_(col(Ticket.run_id) == root_id, col(Ticket.id).in_(commented)))
    return [
        {
            "id": t.id, "subject": t.subject, "status": t.status, "category": t.category, "external_id": t.external_id,
            "created_at": iso(t.created_at),
        }
        for t in session.exec(query.order_by(col(Ticket.id)))
    ]  # fmt: skip


def _mail(session: Session, root_id: str) -> list[dict[str, Any]]:
    query = select(Notification).where(Notification.run_id == root_id).order_by(col(Notification.id))
    return [
        {"id": m.id, "recipient": m.recipient, "subject": m.subject, "state": m.state, "error": m.error}
        for m in session.exec(query)
    ]


def _span(document: Mapping[str, Any]) -> str:
    started, finished = moment_text(document["started_at"]), moment_text(document["finished_at"])
    return f"from {started or 'not started yet'} to {finished or 'not over yet'}"


def _waits(document: Mapping[str, Any]) -> list[str]:
    """Until when it waits and for what, as far as that is known."""
    if document["waits_until"] is None:
        return []
    why = ""
    if any(step["state"] == "waiting" and step["error"] for step in document["steps"]):
        why = ": a step is tried again then"
    elif document["target"]["kind"] == "computer":
        why = ": the computer is offline, in maintenance or outside its hours; it is looked at again then"
    return [f"Waits until {moment_text(document['waits_until'])}{why}"]


def _reasons(document: Mapping[str, Any]) -> list[str]:
    """Why it ran, which children were chosen and why, what the fallback was."""
    lines = []
    plan, alert, children, fallback = (document[k] for k in ("plan", "alert", "children", "fallback"))
    if alert:
        lines.append(f"Alert {alert['id']} of the monitor {alert['monitor']}: {', '.join(document['levels'])}")
    if plan and plan["approved_by"]:
        lines.append(f"Approved by {plan['approved_by']}: {plan['approval_reason']}")
    if document["reason"]:
        lines.append(f"Reason: {document['reason']}")
    if children:
        names = ", ".join(c["name"] for c in children["scripts"])
        lines.append(f"Child scripts: {names} ({children['reason']})")
    if fallback:
        unused = " (not needed so far)" if document["finished_at"] is None else f" ({unapplied(document['state'])})"
        applied = "" if fallback["applied"] else unused
        lines.append(f"Failed Uninstall Process: {fallback['option'] or 'nothing selected'}{applied}")
    if document["fizzled"]:
        lines.append(f"Fizzled: {document['fizzled']}")
    if document["left_out"]:
        lines.append(f"Left out: {document['left_out']}")
    if document["cancelled_by"]:
        lines.append(f"Cancelled by {document['cancelled_by']}")
    return [one_line(line) for line in lines]


def _remarks(step: Mapping[str, Any]) -> list[str]:
    error, result = step["error"], step["result"] or {}
    lines = [f"{error['type']}: {error['message']}"] if error else []
    if step["state"] == "waiting" and step["condition"]:
        lines.append(step["condition"])
    if error:
        lines += [f"{word}: {error[word]}" for word in ("impact", "remediation") if error[word]]
    if step["state"] == "skipped" and result.get("reason"):
        lines.append(str(result["reason"]))
    absent = absent_names(result, step["label"])
    if absent:
        lines.append(f"{ABSENT}: {', '.join(absent)}")
    lines += cautions(result)
    if unverified(step["state"], result):
        lines.append(UNVERIFIED)
    if step["attempts"] > 1:
        lines.append(f"{step['attempts']} attempts")
    return lines
