"""Plans: what was about to be started and why it is held; approve or cancel exactly that."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody

from agent.access.principal import Permission
from agent.running import verbs
from agent.web.asking import Here, Port, Who
from agent.web.forms import Form
from agent.web.reads.plans import may_act, plan_detail, plan_for, plans
from agent.web.rendering import page, redirect, with_query

router = APIRouter()


class Approval(Form):
    """An approval: why, and the names of clients that are offboarded as a whole."""

    reason: str = ""
    confirm: list[str] = []


class Cancellation(Form):
    """Why; kept in the audit trail."""

    reason: str = ""


@router.get("/plans")
def list_plans(
    request: Request, here: Here, who: Who,
    state: Literal["planned", "held", "released", "cancelled"] | None = None, after: str | None = None,
) -> Response:  # fmt: skip
    """Plans, newest first."""
    with here.database.reading() as session:
        found = plans(session, who.clients(), state=state, after=after)
    following = with_query("/plans", state=state, after=found.next) if found.next else None
    return page(request, "plans.html", plans=found.items, state=state, following=following)


@router.get("/plans/{plan_id}")
def show_plan(request: Request, here: Here, who: Who, plan_id: str) -> Response:
    """One plan with its runs and holds."""
    with here.database.reading() as session:
        plan = plan_detail(session, who, plan_id)
    return page(
        request, "plan.html", plan=plan, may_approve=may_act(who, plan, Permission.APPROVE),
        may_cancel=may_act(who, plan, Permission.OPERATE),
    )  # fmt: skip


@router.post("/plans/{plan_id}/approve")
def approve(
    request: Request, here: Here, port: Port, who: Who, plan_id: str, form: Annotated[Approval, FormBody()]
) -> Response:
    """Approve what a guardrail holds; exactly the stored plan is started."""
    _require(here, who, plan_id, Permission.APPROVE)
    ids = verbs.approve(here, port, plan_id, actor=who.name, reason=form.reason, confirmed_clients=form.confirm)
    said = f"Approved: {len(ids)} run{'' if len(ids) == 1 else 's'} queued."
    return redirect(request, f"/runs/{ids[0]}" if len(ids) == 1 else f"/plans/{plan_id}", said)


@router.post("/plans/{plan_id}/cancel")
def cancel(
    request: Request, here: Here, port: Port, who: Who, plan_id: str, form: Annotated[Cancellation, FormBody()]
) -> Response:
    """Cancel all runs of a plan."""
    _require(here, who, plan_id, Permission.OPERATE)
    said = verbs.cancel(here, port, plan_id, actor=who.name, reason=form.reason or None)
    return redirect(
        request, f"/plans/{plan_id}", f"This plan {said}." if said != "cancelled" else "This plan is cancelled."
    )


def _require(here: Here, who: Who, plan_id: str, permission: Permission) -> None:
    with here.database.reading() as session:
        plan_for(session, who, plan_id, permission)
