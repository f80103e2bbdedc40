"""Plans: what is about to be started, and what holds it. One that reaches a client that one may not see shows only the rest."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, select

from agent.access.principal import Permission, Principal
from agent.errors import NotFound
from agent.model.places import Client
from agent.model.runs import Plan, ScriptRun
from agent.web.reads.paging import LIMIT, Order, Page, among, take
from agent.web.reads.runs import RunRow, run_row

#: Runs that a plan's page shows.
SHOWN = 500
#: Guardrails whose reason counts computers of all clients.
_OF_ALL = ("share_of_fleet", "whole_fleet")


class PlanRow(BaseModel):
    """One plan as lists show it."""

    id: str
    monitor: str | None
    state: str
    created_at: datetime
    created_by: str
    approved_by: str | None


class PlanDetail(PlanRow):
    """One plan with its runs and with what an approval must say."""

    approved_at: datetime | None
    approval_reason: str | None
    #: Empty when the plan reaches clients that one may not see.
    holds: list[dict[str, Any]]
    #: Only of the clients that one may see.
    skipped: list[dict[str, Any]]
    runs: list[RunRow]
    #: Those that one may see.
    client_ids: list[int]
    #: It reaches clients that one may not see.
    partly: bool
    #: Clients {slug, name} that must be confirmed by name.
    to_confirm: list[dict[str, str]]


def plans(
    session: Session, clients: Collection[int] | None, *, state: str | None = None, after: str | None = None,
    limit: int = LIMIT,
) -> Page[PlanRow]:  # fmt: skip
    """Plans that have a run at one of the clients, the newest first; all of them for somebody without a limit."""
    query = select(Plan)
    if state is not None:
        query = query.where(Plan.state == state)
    if clients is not None:
        mine = select(ScriptRun.plan_id).where(
            col(ScriptRun.plan_id) == col(Plan.id), among(col(ScriptRun.client_id), clients)
        )
        query = query.where(mine.exists())
    newest = Order(col(Plan.created_at), col(Plan.id), descending=True)
    rows, following = take(session, query, newest, after=after, limit=limit)
    return Page(items=[PlanRow.model_validate(row[0], from_attributes=True) for row in rows], next=following)


def plan_detail(session: Session, who: Principal, plan_id: str) -> PlanDetail:
    """One plan. Raises NotFound when it reaches no client that one may see."""
    plan = session.get(Plan, plan_id)
    roots = select(ScriptRun).where(ScriptRun.plan_id == plan_id, col(ScriptRun.parent_id).is_(None))
    clients = list(session.exec(roots.with_only_columns(col(ScriptRun.client_id)).distinct()))  # type: ignore[call-overload]
    seen = [c for c in clients if who.can(Permission.SEE, c)]
    if plan is None or (not seen and not who.can(Permission.SEE)):
        raise NotFound(f"there is no plan {plan_id}")
    runs = session.exec(
        roots.where(among(col(ScriptRun.client_id), who.clients())).order_by(col(ScriptRun.target_name)).limit(SHOWN)
    ).all()
    partly = len(seen) < len(clients)
    named = {c.slug: c.name for c in session.exec(select(Client).where(col(Client.client_id).in_(seen)))}
    whole = who.can(Permission.SEE)
    confirm = [str(h["client"]) for h in plan.holds if h.get("guardrail") == "client_flag" and h.get("client") in named]
    return PlanDetail(
        **PlanRow.model_validate(plan, from_attributes=True).model_dump(), approved_at=plan.approved_at,
        approval_reason=None if partly else plan.approval_reason,
        holds=[] if partly else [h if whole else _held(h) for h in plan.holds],
        # A monitor looks at all clients: what it left out may be of those that have no run here.
        skipped=[s for s in plan.skipped if whole or s.get("client") in named.values()],
        runs=[run_row(r) for r in runs], client_ids=sorted(seen), partly=partly,
        to_confirm=[{"slug": s, "name": named[s]} for s in dict.fromkeys(confirm)],
    )  # fmt: skip


def plan_for(session: Session, who: Principal, plan_id: str, permission: Permission) -> PlanDetail:
    """A plan that somebody acts on. It was stored, shown and held as a whole, so it is started or cancelled as a whole.

    Raises NotFound, and Forbidden unless one may do that at each of its clients.
    """
    found = plan_detail(session, who, plan_id)
    if found.partly or not found.client_ids:
        who.require(permission)
    who.require_all(permission, found.client_ids)
    return found


def may_act(who: Principal, plan: PlanDetail, permission: Permission) -> bool:
    """Whether `plan_for` would let somebody act."""
    if plan.partly or not plan.client_ids:
        return who.can(permission)
    return all(who.can(permission, client_id) for client_id in plan.client_ids)


def _held(hold: dict[str, Any]) -> dict[str, Any]:
    """A hold as somebody reads it who sees some clients only: how many computers there are is not told."""
    if hold.get("guardrail") not in _OF_ALL:
        return hold
    return {**hold, "reason": "so many computers at once want an approval"}
