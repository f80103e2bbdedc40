"""What one can do with plans and runs: release, approve, cancel, resume, retry. Console and command line call these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, bindparam, or_, update
from sqlmodel import Session, col, select

from agent import audit
from agent.errors import Conflict, GuardrailRefused, NotFound, UsageError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.monitors import MonitorStatus
from agent.model.runs import Plan, RunState, RunStep, ScriptRun, StepState
from agent.running import statements
from agent.running.planning import StoredPlan, draft_plan, load_plan, store_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.services import properties

if TYPE_CHECKING:
    from agent.running.doorbell import Port

#: The runs of a plan that can be released.
_RELEASED: Any = (
    select(col(ScriptRun.id), col(ScriptRun.segment), col(ScriptRun.client_id))
    .where(ScriptRun.plan_id == bindparam("of_plan"), col(ScriptRun.parent_id).is_(None))
    .where(col(ScriptRun.state).in_((RunState.PLANNED, RunState.HELD)))
    .order_by(col(ScriptRun.created_at), col(ScriptRun.id))
    # One that is being cancelled at this moment is not started.
    .with_for_update()
)


def find_run(session: Session, given: str) -> ScriptRun:
    """The root run with that id, or with the only id that begins so. Raises NotFound, UsageError when several do."""
    query = select(ScriptRun).where(
        col(ScriptRun.parent_id).is_(None), col(ScriptRun.id).startswith(given, autoescape=True)
    )
    found = session.exec(query.limit(2)).all() if given else []
    if not found:
        raise NotFound(f"there is no run {given!r}; `exeunt run list` shows them")
    if len(found) > 1 and found[0].id != given:
        raise UsageError(f"several runs begin with {given!r}: write more of the id")
    return found[0]


def release(installation: Installation, port: Port, plan_id: str, *, actor: str) -> list[str]:
    """Give the runs of a stored plan to the engine. Returns their ids. Raises Conflict when the plan is held."""
    with installation.database.session() as session:
        plan = load_plan(session, plan_id)
        session.refresh(plan, with_for_update=True)
        if plan.state != "planned":
            raise Conflict(
                f"the plan {plan_id} is {plan.state}" + (_approve_hint(plan) if plan.state == "held" else "")
            )
        runs = _release(session, installation, plan, actor)
    _enqueue(port, runs)
    return [r.id for r in runs]


def approve(
    installation: Installation, port: Port, given: str, *, actor: str, reason: str,
    confirmed_clients: Iterable[str] = (),
) -> list[str]:  # fmt: skip
    """Approve a held plan (by its id or that of one of its runs) and release it as it was stored.

    `confirmed_clients`: slugs of the clients whose offboarding as a whole is confirmed by name. Raises UsageError for
    an empty reason, Conflict when nothing is held, GuardrailRefused when a confirmation or the permission is missing.
    """
    if not reason.strip():
        raise UsageError("an approval needs a reason: --reason TEXT")
    with installation.database.session() as session:
        plan = _find_plan(session, given)
        # Somebody else may approve or cancel it at this moment.
        session.refresh(plan, with_for_update=True)
        if plan.state != "held":
            raise Conflict(f"the plan {plan.id} is {plan.state}, not held")
        _check_approval(session, installation, plan, actor, frozenset(confirmed_clients))
        plan.approved_by, plan.approved_at, plan.approval_reason, plan.state = actor, utcnow(), reason, "planned"
        session.add(plan)
        if plan.monitor is not None:
            confirm_monitor(session, plan.monitor, actor)
        audit.record(
            session, actor=actor, action="plan.approve", object_kind="plan", object_id=plan.id,
            details={"reason": reason, "holds": plan.holds, "confirmed_clients": sorted(confirmed_clients)},
        )  # fmt: skip
        runs = _release(session, installation, plan, actor)
    _enqueue(port, runs)
    return [r.id for r in runs]


def check_client_permission(installation: Installation, session: Session, actor: str) -> None:
    """Raises GuardrailRefused unless the actor may confirm the offboarding of whole clients."""
    allowed = {
        name.strip()
        for name in (properties.value_of(installation, session, properties.CLIENT_APPROVERS) or "").split(",")
    }
    if actor not in allowed:
        raise GuardrailRefused(
            f"{actor!r} may not confirm the offboarding of a whole client: an administrator adds the name to the system "
            f"property {properties.CLIENT_APPROVERS}",
            guardrail="client_flag",
        )


def confirm_monitor(session: Session, monitor: str, actor: str) -> None:
    """Remember that a person has confirmed this monitor's first real run."""
    status = session.get(MonitorStatus, monitor) or MonitorStatus(monitor=monitor)
    if status.confirmed_at is None:
        status.confirmed_by, status.confirmed_at = actor, utcnow()
        audit.record(session, actor=actor, action="monitor.confirm", object_kind="monitor", object_id=monitor)
    session.add(status)


def cancel(installation: Installation, port: Port, given: str, *, actor: str, reason: str | None) -> str:
    """Cancel a run, or a whole plan that is held. Returns what that means: `cancelled` or `stops after this step`.

    Raises Conflict when it is over.
    """
    with installation.database.session() as session:
        plan = session.get(Plan, given, with_for_update=True)
        runs = _runs_of(session, plan) if plan else [find_run(session, given)]
        # A worker may be about to take or to end one of them.
        for run in sorted(runs, key=lambda r: r.id):
            session.refresh(run, with_for_update=True)
        open_runs = [r for r in runs if r.finished_at is None]
        if not open_runs:
            raise Conflict(f"{given} is over: there is nothing to cancel")
        for run in open_runs:
            run.cancel_requested_at, run.cancelled_by = utcnow(), actor
            if run.state != RunState.RUNNING:
                _cancel_unstarted(session, run)
            elif run.not_before is not None:
                run.not_before = utcnow()  # it waits for its next attempt: let it end now
            session.add(run)
            audit.record(
                session, actor=actor, action="run.cancel", object_kind="run", object_id=run.id,
                client_id=run.client_id, details={"reason": reason, "state": run.state},
            )  # fmt: skip
        if plan is not None and plan.state in ("held", "planned"):
            plan.state = "cancelled"
            session.add(plan)
    for run in open_runs:
        if run.state == RunState.RUNNING and run.not_before is not None:
            port.enqueue(run.id, run.segment, run.client_id)
    return "stops after this step" if any(r.state == RunState.RUNNING for r in open_runs) else "cancelled"


def resume(installation: Installation, port: Port, given: str, *, actor: str) -> str:
    """Let a run that waits go on now. Raises Conflict when it does not wait."""
    with installation.database.session() as session:
        run = find_run(session, given)
        if run.state == RunState.HELD:
            raise Conflict(f"run {run.id} is held: approve it with `exeunt run approve {run.plan_id} --reason TEXT`")
        if run.finished_at is not None:
            raise Conflict(f"run {run.id} is {run.state}: start it again with `exeunt run retry {run.id}`")
        if run.not_before is not None:
            run.not_before = utcnow()
        session.add(run)
        audit.record(
            session, actor=actor, action="run.resume", object_kind="run", object_id=run.id, client_id=run.client_id
        )
    port.enqueue(run.id, run.segment, run.client_id)
    return run.id


def retry(installation: Installation, given: str, *, actor: str, reason: str | None) -> StoredPlan:
    """Plan the same script on the same target once more; what is verified already is found done and left alone.

    The plan is made anew from the present content. Raises Conflict while the first run is not over.
    """
    with installation.database.reading() as session:
        run = find_run(session, given)
    if run.finished_at is None:
        raise Conflict(f"run {run.id} is {run.state}: it is not over yet")
    parameters = {n: f["value"] for n, f in run.parameters.items() if "value" in f}
    levels = tuple(run.context.get("levels", ()))
    known = {"offboarding": run.context["offboarding"]} if run.context.get("offboarding") else {}
    request = RunRequest(run.script, run.target_kind, run.target_id, parameters, run.alert_id, levels, known=known)
    draft = draft_plan(installation, [request], PlanOrigin(actor, reason=reason or f"retry of {run.id}"))
    if not draft.targets:
        raise Conflict(f"{run.target_name} cannot be tried again: {draft.skipped[0]['reason']}")
    stored = store_plan(installation, draft)
    with installation.database.session() as session:
        session.execute(update(ScriptRun).where(col(ScriptRun.id).in_(stored.run_ids)).values(retry_of=run.id))
    return stored


def _find_plan(session: Session, given: str) -> Plan:
    """By its id or that of one of its runs, or the only beginning of either. Raises NotFound, UsageError."""
    runs = select(ScriptRun.plan_id).where(col(ScriptRun.parent_id).is_(None), _begins(col(ScriptRun.id), given))
    plans = select(Plan).where(or_(_begins(col(Plan.id), given), col(Plan.id).in_(runs))).limit(2)
    found = session.exec(plans).all() if given else []
    if not found:
        raise NotFound(f"there is no plan and no run {given!r}; `exeunt run plans` and `exeunt run list` show them")
    if len(found) > 1:
        raise UsageError(f"several plans begin with {given!r}, or hold runs that do: write more of the id")
    return found[0]


def _begins(column: Any, given: str) -> Any:
    return column.startswith(given, autoescape=True)


def _check_approval(
    session: Session, installation: Installation, plan: Plan, actor: str, confirmed: frozenset[str]
) -> None:
    for hold in plan.holds:
        if hold["guardrail"] != "client_flag":
            continue
        if hold["client"] not in confirmed:
            raise GuardrailRefused(f"{hold['reason']}: --confirm-client {hold['client']}", guardrail="client_flag")
        check_client_permission(installation, session, actor)
    threshold = installation.settings.second_person_from
    if actor == plan.created_by and threshold is not None and len(_runs_of(session, plan)) >= threshold:
        raise GuardrailRefused(
            f"{threshold} computers or more are approved by somebody else than {actor!r}, who planned them",
            guardrail="second_person",
        )


def _runs_of(session: Session, plan: Plan) -> list[ScriptRun]:
    query = select(ScriptRun).where(ScriptRun.plan_id == plan.id, col(ScriptRun.parent_id).is_(None))
    return list(session.exec(query.order_by(col(ScriptRun.created_at), col(ScriptRun.id))))


def _release(session: Session, installation: Installation, plan: Plan, actor: str) -> Sequence[Row[Any]]:
    """Within the caller's transaction: the runs count as queued before the engine hears of them. Their `id`, `segment`
    and `client_id`.
    """
    runs = session.execute(_RELEASED, {"of_plan": plan.id}).all()
    plan.state = "released"
    session.add(plan)
    session.flush()
    now = utcnow()
    values = {"state": RunState.QUEUED, "queued_at": now}
    values["expires_at"] = now + timedelta(days=installation.settings.queue_expiry_days)
    statements.write(session, {("run", run.id): values for run in runs})
    audit.record(
        session, actor=actor, action="plan.release", object_kind="plan", object_id=plan.id,
        details={"runs": [r.id for r in runs]},
    )  # fmt: skip
    return runs


def _enqueue(port: Port, runs: Iterable[Row[Any]]) -> None:
    """A crash in here is mended by `agent.running.recovery`: what is queued in our tables is queued again."""
    port.enqueue_all((run.id, run.segment, run.client_id) for run in runs)


def _cancel_unstarted(session: Session, run: ScriptRun) -> None:
    run.state, run.finished_at, run.result = RunState.CANCELLED, utcnow(), {"cancelled": "before the first step"}
    states = (StepState.WAITING,)
    session.execute(
        update(RunStep).where(col(RunStep.root_id) == run.id, col(RunStep.state).in_(states))
        .values(state=StepState.CANCELLED, finished_at=utcnow())
    )  # fmt: skip


def _approve_hint(plan: Plan) -> str:
    return f": `exeunt run approve {plan.id} --reason TEXT`"
