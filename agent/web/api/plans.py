"""Plans: what is about to be started and why it is held. Preview, store, release, approve and cancel exactly that."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from agent.access.principal import Permission
from agent.errors import Conflict
from agent.installation import Installation
from agent.inventory.lookup import MODELS
from agent.model.fields import Form
from agent.monitoring.dispatching import fingerprint
from agent.running import verbs
from agent.running.planning import DraftPlan, draft_plan, store_plan
from agent.running.previews import planned
from agent.running.requests import PlanOrigin, RunRequest
from agent.web.api.common import (
    MOST_ID,
    USUAL,
    After,
    Answer,
    Body,
    GivenReason,
    Limit,
    Reason,
    RecordId,
    api_router,
    place_for,
)  # fmt: skip
from agent.web.api.runs import Cancelled, Started, started
from agent.web.asking import Here, Port, Who
from agent.web.reads.paging import Page
from agent.web.reads.plans import PlanDetail, PlanRow, plan_detail, plan_for, plans

router = api_router("plans")


class PlanIn(Body):
    """One script on one target."""

    script: str = Field(min_length=1, max_length=200, examples=["Remove Application"])
    target_kind: Literal["computer", "location", "client", "contact"] = "computer"
    target_id: int = Field(ge=1, le=MOST_ID)
    parameters: dict[str, str | int | float | bool] = Field(default_factory=dict, examples=[{"Name": "7-Zip"}])
    reason: str | None = Field(None, max_length=2000, description="Why; kept in the audit trail")


class PlanStart(PlanIn):
    """One script on one target, to be started."""

    agreed: str | None = Field(
        None, max_length=128, description="`fingerprint` of the preview: another plan is not started"
    )
    release: bool = Field(True, description="Start it; else it is stored, to be released later")


class PlannedStep(Answer):
    """A step as it would be done."""

    name: str
    function: str | None
    parameters: dict[str, Any]
    preview: Any
    skipped: bool
    condition: str | None


class PlannedTarget(Answer):
    """A target with its steps."""

    computer: str = Field(description="Name of the target")
    client: str
    levels: list[str]
    script: str
    children: dict[str, Any] | None
    fallback: dict[str, Any] | None
    steps: list[PlannedStep]


class Draft(Answer):
    """What would be started; nothing is stored."""

    fingerprint: str = Field(description="Give it as `agreed` to start exactly this")
    targets: list[PlannedTarget]
    skipped: list[dict[str, Any]]
    holds: list[dict[str, Any]] = Field(description="Guardrails that would want an approval")
    refusals: list[dict[str, Any]] = Field(description="Guardrails that forbid it")
    warnings: list[str]


class Approval(GivenReason):
    """Why, and the slugs of clients whose offboarding as a whole is confirmed by name."""

    confirm_clients: list[str] = Field(default_factory=list, max_length=100)


def draft_out(draft: DraftPlan) -> Draft:
    """A draft as it is answered."""
    return Draft(
        fingerprint=fingerprint(draft), targets=[PlannedTarget.model_validate(t) for t in planned(draft)],
        skipped=[dict(s) for s in draft.skipped], holds=[dict(h) for h in draft.holds],
        refusals=[dict(r) for r in draft.refusals], warnings=list(draft.warnings),
    )  # fmt: skip


@router.get("/plans")
def list_plans(
    here: Here, who: Who, state: Literal["planned", "held", "released", "cancelled"] | None = None, after: After = None,
    limit: Limit = USUAL,
) -> Page[PlanRow]:  # fmt: skip
    """Plans, the newest first: what a monitor or a person was about to start."""
    with here.database.reading() as session:
        return plans(session, who.clients(), state=state, after=after, limit=limit)


@router.get("/plans/{plan_id}")
def show_plan(here: Here, who: Who, plan_id: RecordId) -> PlanDetail:
    """One plan with its runs and what holds it."""
    with here.database.reading() as session:
        return plan_detail(session, who, plan_id)


@router.post("/plans/preview")
def preview_plan(here: Here, who: Who, body: PlanIn) -> Draft:
    """What starting a script on a target would do, step by step. Nothing is stored or started."""
    return draft_out(_draft(here, who, body))


@router.post("/plans", status_code=201)
def start_plan(here: Here, port: Port, who: Who, body: PlanStart) -> Started:
    """Start a script on a target. One that belongs to a monitor, or to other scripts, refuses."""
    draft = _draft(here, who, body)
    if body.agreed is not None and fingerprint(draft) != body.agreed:
        raise Conflict("what would be done has changed since it was shown: nothing was started; look at it again")
    if not draft.targets:
        raise Conflict(f"it cannot be started: {draft.skipped[0]['reason']}")
    stored = store_plan(here, draft)
    if body.release:
        return started(here, port, stored, who.name)
    return Started(
        plan_id=stored.id, state=stored.state, run_ids=list(stored.run_ids), holds=[dict(h) for h in stored.holds],
        skipped=[],
    )  # fmt: skip


def _draft(here: Installation, who: Who, body: PlanIn) -> DraftPlan:
    with here.database.reading() as session:
        place_for(session, who, MODELS[Form[body.target_kind.upper()]], body.target_id, Permission.OPERATE)
    request = RunRequest(body.script, body.target_kind, body.target_id, body.parameters)
    return draft_plan(here, [request], PlanOrigin(who.name, reason=body.reason))


@router.post("/plans/{plan_id}/release")
def release_plan(here: Here, port: Port, who: Who, plan_id: RecordId) -> Started:
    """Give the runs of a stored plan to the workers. One that is held must be approved instead."""
    found = _plan(here, who, plan_id, Permission.OPERATE)
    ids = verbs.release(here, port, plan_id, actor=who.name)
    return Started(plan_id=plan_id, state="released", run_ids=ids, holds=[], skipped=found.skipped)


@router.post("/plans/{plan_id}/approve")
def approve_plan(here: Here, port: Port, who: Who, plan_id: RecordId, body: Approval) -> Started:
    """Approve what a guardrail holds. Exactly the stored plan is started."""
    found = _plan(here, who, plan_id, Permission.APPROVE)
    ids = verbs.approve(here, port, plan_id, actor=who.name, reason=body.reason, confirmed_clients=body.confirm_clients)
    return Started(plan_id=plan_id, state="released", run_ids=ids, holds=found.holds, skipped=found.skipped)


@router.post("/plans/{plan_id}/cancel")
def cancel_plan(here: Here, port: Port, who: Who, plan_id: RecordId, body: Reason) -> Cancelled:
    """Cancel all runs of a plan. A step that is under way is not interrupted."""
    _plan(here, who, plan_id, Permission.OPERATE)
    return Cancelled.model_validate({"done": verbs.cancel(here, port, plan_id, actor=who.name, reason=body.reason)})


def _plan(here: Installation, who: Who, plan_id: str, permission: Permission) -> PlanDetail:
    with here.database.reading() as session:
        return plan_for(session, who, plan_id, permission)
