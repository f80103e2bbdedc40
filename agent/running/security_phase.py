"""What the security phase of a high-risk offboarding has done already, so that the wrapper need not do it again."""

from __future__ import annotations

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from agent.model.contacts import ContactOffboarding
from agent.model.runs import RunStep, ScriptRun, StepState


def done_at_once(session: Session, root: ScriptRun, step: RunStep) -> RunStep | None:
    """The step of the security phase that did the same to the same person with the same parameters, if it succeeded.

    None for runs that are no offboarding, or of that phase themselves.
    """
    named = root.context.get("offboarding")
    if root.target_kind != "contact" or named is None or step.function is None:
        return None
    row = session.get(ContactOffboarding, named)
    if row is None or row.security_plan_id is None or row.security_plan_id == root.plan_id:
        return None
    roots = select(ScriptRun.id).where(
        ScriptRun.plan_id == row.security_plan_id, ScriptRun.target_kind == "contact",
        ScriptRun.target_id == root.target_id, ScriptRun.client_id == root.client_id,
    )  # fmt: skip
    query = select(RunStep).where(
        col(RunStep.root_id).in_(roots), RunStep.function == step.function, RunStep.name == step.name,
        RunStep.state == StepState.SUCCEEDED,
    )  # fmt: skip
    found = session.exec(query.order_by(col(RunStep.finished_at).desc())).all()
    same = next((s for s in found if s.parameters == step.parameters), None)
    return None if same is None or _something_since(session, root, same, roots) else same


def _something_since(session: Session, root: ScriptRun, done: RunStep, roots: SelectOfScalar[str]) -> bool:
    """Whether another run on the person was planned since, such as a rollback: then nothing is taken for granted."""
    query = select(ScriptRun.id).where(
        col(ScriptRun.parent_id).is_(None), ScriptRun.target_kind == "contact", ScriptRun.target_id == root.target_id,
        ScriptRun.id != root.id, col(ScriptRun.id).not_in(roots), col(ScriptRun.created_at) > done.finished_at,
    )  # fmt: skip
    return session.exec(query.limit(1)).first() is not None
