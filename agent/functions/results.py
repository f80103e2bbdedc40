"""The lists behind @Success@ and @Failure@: what became of each application and script of the children (facts 2, 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.functions.base import FinishedStep
from agent.model.runs import StepState

#: Outcomes of one application among several of a step, by the list that they belong to.
_OF_APPLICATION: Mapping[str, StepState] = {
    "removed": StepState.SUCCEEDED,
    "already_absent": StepState.SUCCEEDED,
    "failed": StepState.FAILED,
    "reboot_needed": StepState.REBOOT_NEEDED,
    "unknown": StepState.UNKNOWN,
}


#: Remark on what was looked for and not found: it counts as removed, but nobody shall think that it was here.
ABSENT = "was not installed"
#: Remark on what succeeded without anything that could tell whether it worked, such as a body without `verify`.
UNVERIFIED = "not verified"
#: The function that asks a package's criteria.
CRITERIA = "package.check_criteria"


@dataclass(frozen=True)
class Entry:
    """One line of a list: an application or script, and why it is there (a success: None, or that it was not installed)."""

    label: str
    reason: str | None = None


@dataclass
class ResultLists:
    """What counts of a run, in the order of execution. Other skipped and cancelled steps are in none of the lists."""

    success: list[Entry] = field(default_factory=list)
    failure: list[Entry] = field(default_factory=list)
    reboot_needed: list[Entry] = field(default_factory=list)
    unknown: list[Entry] = field(default_factory=list)
    #: Packages whose criteria did not hold, with what did not.
    not_started: list[Entry] = field(default_factory=list)

    @property
    def everything_came_off(self) -> bool:
        """Something was removed, and nothing is left, in doubt or waiting for a reboot."""
        return bool(self.success) and not (self.failure or self.reboot_needed or self.unknown)

    def labels(self) -> dict[str, list[str]]:
        """The lists as names only, by their keys `success`, `failure`, `reboot_needed`, `unknown`."""
        return {
            name: [e.label for e in getattr(self, name)]
            for name in ("success", "failure", "reboot_needed", "unknown")
        }  # fmt: skip


def entries_of(step: FinishedStep) -> list[tuple[StepState, Entry]]:
    """What a step adds: one entry per application that it was about, else one of its own label."""
    applications = step.result.get("applications")
    if not applications:
        said = (step.error or {}).get("message") or (ABSENT if _absent(step.result) else None)
        return [(step.state, Entry(step.label, str(said) if said else None))]
    return [
        (
            _OF_APPLICATION[a["outcome"]],
            Entry(str(a["name"]), ABSENT if _absent(a) else "; ".join(map(str, a.get("reasons") or ())) or None),
        )
        for a in applications
    ]


def absent_names(result: Mapping[str, Any], label: str) -> list[str]:
    """What a step with this result and label looked for and did not find."""
    applications = result.get("applications") or ()
    return [str(a["name"]) for a in applications if _absent(a)] or ([label] if _absent(result) else [])


def unverified(state: str, result: Mapping[str, Any] | None) -> bool:
    """Whether a step with this state and result succeeded without anything that could tell whether it worked."""
    return state == StepState.SUCCEEDED and (result or {}).get("verified") is False


def _absent(result: Mapping[str, Any]) -> bool:
    return result.get("outcome") == "already_absent"


def labels_in(step: FinishedStep, state: StepState) -> list[str]:
    """Names that a step adds to the list of one state."""
    return [entry.label for found, entry in entries_of(step) if found == state]


def result_lists(steps: Iterable[FinishedStep]) -> ResultLists:
    """The lists over all steps that count: those of child scripts."""
    lists = ResultLists()
    places = {
        StepState.SUCCEEDED: lists.success, StepState.FAILED: lists.failure,
        StepState.REBOOT_NEEDED: lists.reboot_needed, StepState.UNKNOWN: lists.unknown,
    }  # fmt: skip
    for step in steps:
        for state, entry in entries_of(step) if step.in_child else ():
            if state in places:
                known = state != StepState.SUCCEEDED or entry.reason == ABSENT
                places[state].append(entry if known else Entry(entry.label))
        if step.function == CRITERIA and step.state is StepState.SKIPPED:
            lists.not_started.append(Entry(step.label, str(step.result.get("reason", ""))))
    return lists


def cautions(result: Mapping[str, Any] | None) -> list[str]:
    """What somebody should know of a step although it succeeded: its warning, and a password that nobody was handed."""
    found = [str(result["warning"])] if result and result.get("warning") else []
    handed = (result or {}).get("handover")
    if isinstance(handed, Mapping) and handed.get("sent_to") is None and handed.get("reason"):
        found.append(f"the password was not handed over: {handed['reason']}")
    return found
