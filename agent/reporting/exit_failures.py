"""The part of an exit report that says what was not done, and what to do about it (seed 002, "Error Handling")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.functions.escalation import ESCALATE
from agent.functions.exit_facts import Facts, FailedStep, second
from agent.functions.failures import recommended_actions
from agent.running.tree import RunTree


def error_fields(facts: Facts, tree: RunTree, document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the error shape; none when every step was done and the run succeeded."""
    if document["success"] and not facts.failed and not facts.not_reached:
        return {}
    failures = [f.failure for f in facts.failed]
    # None of the seed's nine types of error is true of a step that never began: such a step is no failed one.
    missed = [{"step": n.step, "reason": n.reason, "critical": n.critical} for n in facts.not_reached]
    return ({"not_reached_steps": missed} if missed else {}) | {
        "partial_completion": bool(facts.completed),
        "completed_steps": facts.completed,
        "failed_steps": [_failed(f) for f in facts.failed],
        "critical_failures": sum(f.critical for f in failures),
        "account_disabled": facts.account_disabled,
        "data_at_risk": facts.data_at_risk,
        "manual_intervention_required": True,
        "escalation": _escalation(tree),
        "rollback_available": _rollback(tree),
        "recommended_actions": _actions(facts),
    }


def _actions(facts: Facts) -> list[str]:
    found = recommended_actions((f.failure for f in facts.failed), data_at_risk=facts.data_at_risk)
    return list(dict.fromkeys([*found, *(n.remediation for n in facts.not_reached)]))


def _failed(step: FailedStep) -> dict[str, Any]:
    said = step.failure
    return {
        "step": step.step,
        "error": {"type": said.type, "message": said.message, "code": said.code, "timestamp": second(step.at)},
        "impact": said.impact,
        "remediation": said.remediation,
        "critical": said.critical,
    }


def _escalation(tree: RunTree) -> dict[str, Any]:
    """What the step that escalates did; nulls when nothing was escalated."""
    done: Mapping[str, Any] = {}
    for step in tree.finished():
        if step.function == ESCALATE and step.result.get("escalation_ticket") is not None:
            done = step.result
    return {name: done.get(name) for name in ("escalated_to", "escalation_ticket", "priority", "reason")}


def _rollback(tree: RunTree) -> bool:
    """Whether a snapshot was taken that something can be restored from."""
    return any(s.result.get("rollback_available") is True for s in tree.finished())
