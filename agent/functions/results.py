"""The lists behind @Success@ and @Failure@: what became of each application and script of the children (facts 2, 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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


#: The function that asks a package's criteria.
CRITERIA = "package.check_criteria"


@dataclass(frozen=True)
class Entry:
    """One line of a list: an application or script, and why it is there (None for a success)."""

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
        said = (step.error or {}).get("message")
        return [(step.state, Entry(step.label, str(said) if said else None))]
    return [
        (_OF_APPLICATION[a["outcome"]], Entry(str(a["name"]), "; ".join(map(str, a.get("reasons") or ())) or None))
        for a in applications
    ]


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
                places[state].append(entry if state != StepState.SUCCEEDED else Entry(entry.label))
        if step.function == CRITERIA and step.state is StepState.SKIPPED:
            lists.not_started.append(Entry(step.label, str(step.result.get("reason", ""))))
    return lists
