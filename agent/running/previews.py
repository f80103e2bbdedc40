"""What a draft would do, as plain data: for `--dry-run --json`, the API and the console."""

from __future__ import annotations

from typing import Any

from agent.running.conditions import only_if
from agent.running.drafts import DraftStep
from agent.running.planning import DraftPlan


def planned(draft: DraftPlan) -> list[dict[str, Any]]:
    """Every target with its steps and their parameters."""
    return [
        {
            "computer": t.target.name, "client": t.target.client_slug, "levels": list(t.request.levels),
            "script": t.run.script.definition.name,
            "children": t.run.context.get("children"), "fallback": t.run.context.get("fallback"),
            "steps": [planned_step(s) for s in t.run.steps()],
        }
        for t in draft.targets
    ]  # fmt: skip


def planned_step(step: DraftStep) -> dict[str, Any]:
    """`condition`: what decides at run time whether it is carried out, in words; None when nothing does."""
    conditions = step.options.get("when") or ()
    skipped = any(c.get("holds") is False for c in conditions)
    return {
        "name": step.name, "function": step.function, "parameters": _parameters(step),
        "preview": step.options.get("preview"), "skipped": skipped,
        "condition": None if skipped else only_if(conditions),
    }  # fmt: skip


def _parameters(step: DraftStep) -> dict[str, Any]:
    """Values as the plan fixes them; a secret is named, a value of the run's own time is said to be that."""
    shown: dict[str, Any] = {}
    for name, form in step.parameters.items():
        if "secret" in form:
            shown[name] = f"(secret {form['secret']})"
        else:
            shown[name] = form.get("value", "(known at run time)")
    return shown
