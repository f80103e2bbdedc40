"""What webhooks tell of runs: collected from the records, each once per target, so that no run waits for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from agent.content.user_inputs import INPUTS
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.model.runs import Plan, ScriptRun
from agent.services import webhooks
from agent.services.webhooks import OFFBOARDING_FINISHED, RUN_FINISHED, RUN_HELD

#: The first round looks so far back, for what ended while no worker was alive.
FIRST_LOOK = timedelta(days=3)
#: A round looks again at what the one before it may not have seen, because it was not yet committed.
OVERLAP = timedelta(minutes=10)


class Collector:
    """Finds what ended since its last round. One per worker; several do no harm."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        #: Runs and plans that were told of; a round need not look at them again.
        self._told: set[str] = set()

    def __call__(self, installation: Installation) -> int:
        """Write the messages of what is new; how many."""
        began = utcnow()
        since = (self._since or began) - (OVERLAP if self._since is not None else FIRST_LOOK)
        with installation.database.reading() as session:
            wanted = webhooks.wanted_events(session)
        number = 0
        if wanted:
            with installation.database.session() as session:
                # What ended before the first target was there is told to nobody.
                since = max(since, min(t.created_at for t in webhooks.targets(session)))
                number, self._told = collect(session, since, self._told)
        self._since = began
        return number


def collect(session: Session, since: datetime, told: Collection[str] = ()) -> tuple[int, set[str]]:
    """Write the messages of runs that ended and plans that were held since then; those that are written stay single.

    `told`: ids of runs and plans that need no look. Returns the number of messages, and the ids of all since then.
    """
    ended = select(ScriptRun).where(col(ScriptRun.parent_id).is_(None), col(ScriptRun.finished_at) >= since)
    number, seen = 0, set()
    for run in session.exec(ended.order_by(col(ScriptRun.finished_at))):
        seen.add(run.id)
        if run.id in told:
            continue
        data = _run(run)
        number += webhooks.enqueue(session, RUN_FINISHED, f"{RUN_FINISHED}:{run.id}", run.client_id, data)
        if run.target_kind == "contact":
            number += _offboarding(session, run, data)
    for plan in session.exec(select(Plan).where(col(Plan.created_at) >= since).order_by(col(Plan.created_at))):
        seen.add(plan.id)
        number += _held(session, plan) if plan.holds and plan.id not in told else 0
    return number, seen


def _run(run: ScriptRun) -> dict[str, Any]:
    result = run.result or {}
    return {
        "run_id": run.id, "plan_id": run.plan_id, "script": run.script, "state": str(run.state),
        "target": {"kind": run.target_kind, "id": run.target_id, "name": run.target_name},
        "started_by": run.started_by, "started_at": _iso(run.started_at), "finished_at": _iso(run.finished_at),
        **{name: list(result.get(name) or ()) for name in ("success", "failure", "reboot_needed", "unknown")},
    }  # fmt: skip


def _offboarding(session: Session, run: ScriptRun, data: dict[str, Any]) -> int:
    row = session.exec(select(ContactOffboarding).where(ContactOffboarding.run_id == run.id)).first()
    if row is None:
        return 0
    asked = (row.resolved or {}).get("notify_webhook", {}).get("value") == "1" and "notify_webhook" in INPUTS
    about = {
        **data, "offboarding_id": row.id, "contact_id": row.contact_id, "reference": row.reference,
        "requested_by": row.requested_by, "retention_until": _iso(row.retention_until),
    }  # fmt: skip
    event_id = f"{OFFBOARDING_FINISHED}:{row.id}:{run.id}"
    # The input `notify_webhook` asks that everybody who is told anything of this client gets the result.
    return webhooks.enqueue(session, OFFBOARDING_FINISHED, event_id, row.client_id, about, everybody=asked)


def _held(session: Session, plan: Plan) -> int:
    """One message per client: what concerns another client is not told."""
    roots = select(ScriptRun).where(ScriptRun.plan_id == plan.id, col(ScriptRun.parent_id).is_(None))
    by_client: dict[int, list[ScriptRun]] = {}
    for run in session.exec(roots.order_by(col(ScriptRun.id))):
        by_client.setdefault(run.client_id, []).append(run)
    alone = len(by_client) == 1
    return sum(
        webhooks.enqueue(session, RUN_HELD, f"{RUN_HELD}:{plan.id}:{client_id}", client_id, {
            "plan_id": plan.id, "monitor": plan.monitor, "created_by": plan.created_by,
            "guardrails": sorted({h["guardrail"] for h in plan.holds}),
            "reasons": [h["reason"] for h in plan.holds] if alone else [], "runs": list(_named(runs)),
        })
        for client_id, runs in by_client.items()
    )  # fmt: skip


def _named(runs: Iterable[ScriptRun]) -> Iterable[dict[str, Any]]:
    for run in list(runs)[:100]:
        yield {
            "run_id": run.id, "script": run.script,
            "target": {"kind": run.target_kind, "id": run.target_id, "name": run.target_name},
        }  # fmt: skip


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
