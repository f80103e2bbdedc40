"""Planning: drafts for all targets, guardrails asked, everything stored; then released to the engine as it was stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, select

from agent import audit
from agent.content.definitions import Role, ScriptDefinition
from agent.content.repository import LoadedScript
from agent.errors import Conflict, NotFound, UsageError
from agent.installation import Installation
from agent.inventory.effective import effective_values_of
from agent.model.administration import SystemProperty
from agent.model.base import new_id, utcnow
from agent.model.runs import Plan, RunState, RunStep, ScriptRevision, ScriptRun
from agent.running import guardrails, statements
from agent.running.drafting import DraftedTarget, Drafter, DraftRun, DraftStep
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.targets import Target, hold_targets, load_targets, skip
from agent.running.user_inputs import fill
from agent.running.user_rows import note_started


@dataclass(frozen=True)
class DraftPlan:
    """What would be started; nothing is stored. `skipped` holds [{"computer", "id", "client", "reason"}]."""

    origin: PlanOrigin
    targets: tuple[DraftedTarget, ...]
    skipped: tuple[Mapping[str, Any], ...]
    #: Guardrails that want an approval: [{"guardrail", "reason"}]
    holds: tuple[Mapping[str, str], ...] = ()
    #: Guardrails that forbid it, with the way round.
    refusals: tuple[Mapping[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    revisions: Mapping[str, LoadedScript] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class StoredPlan:
    """A plan as it stands in the database."""

    id: str
    state: str
    run_ids: tuple[str, ...]
    holds: tuple[Mapping[str, str], ...]
    skipped: tuple[Mapping[str, Any], ...]


def draft_plan(installation: Installation, requests: Sequence[RunRequest], origin: PlanOrigin) -> DraftPlan:
    """Draft every target and ask the guardrails. Changes nothing."""
    targets: list[DraftedTarget] = []
    skipped: list[Mapping[str, Any]] = list(origin.skipped)
    revisions: dict[str, LoadedScript] = {}
    with installation.database.reading() as session:
        properties = {p.name: p.value for p in session.exec(select(SystemProperty)) if not p.is_secret}
        wanted = _targets(session, requests)
        active = statements.active_runs(session, [(t.kind, t.id) for t in wanted])
        fields_of = effective_values_of(session, [t.places for t in wanted])
        for request, target, fields in zip(requests, wanted, fields_of, strict=True):
            try:
                definition = installation.content.script(request.script, target.client_slug).definition
                _check_startable(definition, target, origin, active.get((target.kind, target.id), ()))
                request = fill(session, request, definition, origin.started_by)
                drafter = Drafter(installation.content, target, properties, fields)
                drafted = DraftedTarget(request, target, drafter.draft(request), fields)
            except UsageError as error:
                skipped.append(skip(target, str(error)))
                continue
            targets.append(drafted)
            revisions.update(drafter.revisions)
        verdict = guardrails.ask(session, installation.settings, targets, origin)
    return DraftPlan(
        origin=origin,
        targets=tuple(t for t in targets if (t.target.kind, t.target.id) not in verdict.excluded),
        skipped=(*skipped, *verdict.excluded.values()),
        holds=verdict.holds,
        refusals=verdict.refusals,
        warnings=verdict.warnings,
        revisions=revisions,
    )


def store_plan(installation: Installation, draft: DraftPlan) -> StoredPlan:
    """Store a draft: held when a guardrail wants an approval, else ready to be released.

    Raises GuardrailRefused when a guardrail forbids it, Conflict when the same tick was planned already or a target was
    removed since the draft.
    """
    guardrails.refuse(draft.refusals)
    plan = Plan(
        monitor=draft.origin.monitor, tick=draft.origin.tick, created_by=draft.origin.started_by,
        state="held" if draft.holds else "planned", holds=[dict(h) for h in draft.holds],
        skipped=[dict(s) for s in draft.skipped],
    )  # fmt: skip
    with installation.database.session() as session:
        hold_targets(session, [t.target for t in draft.targets])
        session.add(plan)
        session.flush()
        _store_revisions(session, draft.revisions)
        trees = [_rows(session, plan, t, draft.origin) for t in draft.targets]
        # Parents stand before their children: the foreign key points at the parent.
        _insert(session, ScriptRun, [run for rows in trees for run in rows.runs])
        _insert(session, RunStep, [step for rows in trees for step in rows.steps])
        details = {
            "monitor": plan.monitor, "runs": len(trees), "holds": plan.holds, "reason": draft.origin.reason,
            "overrides": sorted(draft.origin.overrides), "confirmed_clients": sorted(draft.origin.confirmed_clients),
        }  # fmt: skip
        audit.record(
            session, actor=plan.created_by, action="plan.store", object_kind="plan", object_id=plan.id, details=details
        )
    return StoredPlan(
        plan.id, plan.state, tuple(rows.runs[0]["id"] for rows in trees), tuple(plan.holds), tuple(plan.skipped)
    )


def _targets(session: Session, requests: Sequence[RunRequest]) -> list[Target]:
    """The target of each request. Raises NotFound."""
    found = load_targets(session, {(r.target_kind, r.target_id) for r in requests})
    for request in requests:
        if (request.target_kind, request.target_id) not in found:
            raise NotFound(f"there is no {request.target_kind} with the id {request.target_id}")
    return [found[r.target_kind, r.target_id] for r in requests]


def _check_startable(definition: ScriptDefinition, target: Target, origin: PlanOrigin, active: Sequence[Any]) -> None:
    """Raises UsageError when this script cannot be started on this target now."""
    if target.retired:
        raise UsageError("it is retired")
    if definition.role is Role.FUNCTION:
        raise UsageError(f"{definition.name!r} is a function script: only another script can call it")
    if origin.monitor is None and not definition.manual:
        raise UsageError(f"{definition.name!r} is started by a monitor only")
    for run in active:
        if run.script == definition.name:
            raise Conflict(f"{definition.name!r} is already {run.state} for it (run {run.id})")
        if run.exclusive and definition.exclusive:
            raise Conflict(f"another offboarding of it is {run.state} (run {run.id})")


def _store_revisions(session: Session, revisions: Mapping[str, LoadedScript]) -> None:
    adding = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert
    for digest, script in revisions.items():
        row = {"digest": digest, "name": script.definition.name, "content": script.content(), "stored_at": utcnow()}
        session.execute(adding(ScriptRevision).values(**row).on_conflict_do_nothing())


@dataclass
class _Rows:
    """Rows of one target as they will be stored; parents stand before what is inside them."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)


def _rows(session: Session, plan: Plan, drafted: DraftedTarget, origin: PlanOrigin) -> _Rows:
    """The runs of one target, the root first, and all their steps in the order of execution."""
    rows = _Rows()
    definition = drafted.run.script.definition
    more = {"exclusive": definition.exclusive, "alert_id": drafted.request.alert_id}
    root = _run_row(plan, drafted, drafted.run, origin, None, 0) | more
    if drafted.target.kind == "contact":
        kept = ScriptRun(**root)
        note_started(session, definition, kept, origin.started_by)
        root["context"] = kept.context
    _collect(plan, drafted, drafted.run, root, root, origin, rows)
    return rows


def _insert(session: Session, table: type[ScriptRun] | type[RunStep], rows: Sequence[dict[str, Any]]) -> None:
    """All rows by one statement: a plan may have many thousands."""
    if rows:
        statement: Any = insert(SQLModel.metadata.tables[str(table.__tablename__)])
        session.connection().execute(statement, rows)


@cache
def _defaults(table: type[SQLModel]) -> dict[str, Any]:
    """What a new row holds where nothing is said. Making a model for each row costs ten times as much as storing it."""
    fields = {name: info for name, info in table.model_fields.items() if not info.is_required()}
    return {name: info.get_default(call_default_factory=True) for name, info in fields.items()}


def _run_row(
    plan: Plan, drafted: DraftedTarget, draft: DraftRun, origin: PlanOrigin, parent: str | None, position: int
) -> dict[str, Any]:
    definition = draft.script.definition
    return {
        **_defaults(ScriptRun), "id": new_id(), "created_at": utcnow(),
        "plan_id": plan.id, "parent_id": parent, "position": position, "script": definition.name,
        "role": definition.role.value, "revision": draft.script.digest, "target_kind": drafted.target.kind,
        "target_id": drafted.target.id, "target_name": drafted.target.name, "client_id": drafted.target.client_id,
        "context": draft.context, "parameters": draft.parameters, "started_by": origin.started_by,
        "reason": origin.reason, "state": RunState.HELD if plan.state == "held" else RunState.PLANNED,
    }  # fmt: skip


def _collect(
    plan: Plan, drafted: DraftedTarget, draft: DraftRun, run: dict[str, Any], root: dict[str, Any], origin: PlanOrigin,
    rows: _Rows,
) -> None:  # fmt: skip
    """Rows of a run and of a draft's items, depth first: the order in which they will be executed."""
    rows.runs.append(run)
    for position, item in enumerate(draft.items):
        if isinstance(item, DraftStep):
            rows.steps.append({
                **_defaults(RunStep), "id": new_id(), "root_id": root["id"], "ordinal": len(rows.steps),
                "run_id": run["id"], "position": position, "name": item.name, "function": item.function,
                "revision": item.revision, "parameters": item.parameters, "options": item.options,
            })  # fmt: skip
        else:
            child = _run_row(plan, drafted, item, origin, run["id"], position)
            _collect(plan, drafted, item, child, root, origin, rows)


def load_plan(session: Session, plan_id: str) -> Plan:
    """The plan with that id. Raises NotFound."""
    plan = session.get(Plan, plan_id)
    if plan is None:
        raise NotFound(f"there is no plan {plan_id!r}")
    return plan
