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


def only_if(conditions: Iterable[Mapping[str, Any]]) -> str | None:
    """What decides at run time whether a step is carried out, in words: `only if outcome.agent is remove`.

    `conditions`: as stored; those that the plan could know are left out. None when nothing is open.
    """
    open_ = dict.fromkeys(in_words(c) for c in conditions if "holds" not in c)
    return f"only if {' and '.join(open_)}" if open_ else None


def in_words(condition: Mapping[str, Any]) -> str:
    """A stored condition: `computer.platform is windows`, `children.state is not succeeded`, `... is one of a, b`."""
    value = condition["value"]
    if condition.get("is") is not None:
        return f"{value} is {condition['is']}"
    if condition.get("is_not") is not None:
        return f"{value} is not {condition['is_not']}"
    return f"{value} is one of {', '.join(condition['in'])}"


def holds(condition: Mapping[str, Any], found: Any) -> bool:
    """Whether a stored condition holds for the value of its subject (None when there is none)."""
    text = compared(found)
    if condition.get("is") is not None:
        return bool(text == condition["is"])
    if condition.get("is_not") is not None:
        return bool(text != condition["is_not"])
    return text in condition["in"]


def compared(found: Any) -> str | None:
    """A subject's value as conditions compare it, and people read it: true and false are 1 and 0."""
    return None if found is None else "1" if found is True else "0" if found is False else str(found)
