"""Conditions of steps: what `when` looks at, decided on what is already known about the run tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.model.runs import StepState

#: The outcome that is in force while every removal so far is verified: both agents may go, no failure ticket.
ALL_VERIFIED = {"screenconnect": "remove", "agent": "remove", "failure_ticket": False}

_WORST_FIRST = (StepState.FAILED, StepState.UNKNOWN, StepState.CANCELLED, StepState.RUNNING, StepState.REBOOT_NEEDED)


def worst(states: Iterable[str]) -> str:
    """The state that decides over many: failed, unknown, cancelled, running, reboot_needed, else succeeded."""
    present = set(states)
    return next((s.value for s in _WORST_FIRST if s in present), StepState.SUCCEEDED.value)


def holds(condition: Mapping[str, Any], found: Any) -> bool:
    """Whether a stored condition holds for the value of its subject (None when there is none)."""
    text = None if found is None else ("1" if found is True else "0" if found is False else str(found))
    if condition.get("is") is not None:
        return bool(text == condition["is"])
    if condition.get("is_not") is not None:
        return bool(text != condition["is_not"])
    return text in condition["in"]
