"""The report of a run on a computer as titles, figures and blocks, from which its PDF is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.functions.results import ABSENT, UNVERIFIED, absent_names, cautions, unverified
from agent.reporting.exit_view import Block, View
from agent.reporting.words import duration_text, moment_text, state_word, titles_of, unapplied


def view_of_run(run: Mapping[str, Any]) -> View:
    """The view of a document of `run_report.run_document`."""
    took = duration_text(run["started_at"], run["finished_at"])
    titles = titles_of(run)
    return View(
        title=run["target"]["name"],
        state=run["state"],
        under=[t for t in (run["client"]["name"], run["script"], moment_text(run["finished_at"]), took) if t],
        warnings=[said for said in (run["fizzled"], run["left_out"]) if said],
        figures=[(str(len(run[key])), title.lower()) for key, title in titles.items() if run[key] or key in ("success", "failure")],
        blocks=[b for b in _blocks(run) if b.pairs or b.rows],
        foot=f"run {run['id']} · all times in UTC",
    )  # fmt: skip


def _blocks(run: Mapping[str, Any]) -> Iterator[Block]:
    titles = titles_of(run)
    yield Block(
        "Results", head=("What", "Result"), rows=[(w, title) for key, title in titles.items() for w in run[key]]
    )
    yield Block("Why and how", pairs=list(_reasons(run)))
    yield Block("Steps", head=("Step", "Script", "Result", "Took", "Remarks"), rows=[_step(s) for s in run["steps"]])
    yield Block(
        "Tickets", head=("Ticket", "Subject", "State"),
        rows=[(str(t["id"]), t["subject"], t["status"]) for t in run["tickets"]],
    )  # fmt: skip
    yield Block(
        "Mail", head=("To", "Subject", "State"),
        rows=[(m["recipient"] or "nobody", m["subject"], m["state"]) for m in run["mail"]],
    )  # fmt: skip


def _reasons(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    alert, plan, children, fallback = (run[k] for k in ("alert", "plan", "children", "fallback"))
    if alert:
        yield "Alert", f"{alert['monitor']} found {alert['identity']}, {moment_text(alert['opened_at'])}"
    yield "Started by", run["started_by"] + (f": {run['reason']}" if run["reason"] else "")
    if plan:
        yield "Plan", f"{plan['id']}, made by {plan['created_by']}, {moment_text(plan['created_at'])}"
        if plan["approved_by"]:
            yield "Approved by", f"{plan['approved_by']}, {moment_text(plan['approved_at'])}: {plan['approval_reason']}"
    if children:
        yield "Child scripts", ", ".join(c["name"] for c in children["scripts"]) + f" ({children['reason']})"
    if fallback:
        applied = "applied" if fallback["applied"] else unapplied(run["state"])
        yield "Failed Uninstall Process", f"{fallback['option'] or 'nothing selected'} ({applied})"
    if run["cancelled_by"]:
        yield "Cancelled by", run["cancelled_by"]


def _step(step: Mapping[str, Any]) -> tuple[str, ...]:
    error, result = step["error"] or {}, step["result"] or {}
    remarks = [error.get("message"), error.get("impact"), error.get("remediation")]
    if step["state"] == "skipped":
        remarks.append(result.get("reason"))
    absent = absent_names(result, step["label"])
    remarks.append(f"{ABSENT}: {', '.join(absent)}" if absent else None)
    remarks += cautions(step["result"])
    remarks.append(UNVERIFIED if unverified(step["state"], result) else None)
    return (
        step["label"], step["script"], state_word(step["state"]), duration_text(step["started_at"], step["finished_at"]),
        " · ".join(str(r) for r in remarks if r),
    )  # fmt: skip
