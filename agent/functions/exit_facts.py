"""What the steps of a person's offboarding came to, gathered by one table (`exit_table.TABLE`) and by nothing else.

A row of the table says which fields of the exit report a function's result fills. A new system adds rows, no code. A field
that no step measured is absent here and null in the report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from agent.functions.base import FinishedStep
from agent.functions.failures import Described, described
from agent.model.runs import StepState

#: Reads one value from a finished step; None: it was not measured.
Source = Callable[[FinishedStep], Any]
#: The parameter of a step that says which part of the report its result fills, for functions that may do anything.
REPORT = "report"
#: States of a step that stand for "this was not done", or is not known to be.
NOT_DONE = (StepState.FAILED, StepState.UNKNOWN, StepState.CANCELLED, StepState.REBOOT_NEEDED)
#: Outcomes of one thing among several of a step. Whatever is in neither is not known.
_DONE_WORDS = ("removed", "already", "changed", "granted", "accepted", "transferred")
_LEFT_WORDS = ("kept", "failed", "skipped")


@dataclass(frozen=True)
class Field:
    """One field of the report: where it stands, what fills it, and what becomes of several steps that do."""

    path: str
    source: Source
    #: `union`: an entry that is there already is not added again; `replace`: only what an earlier step filled.
    merge: Literal["last", "sum", "extend", "update", "union", "replace"] = "last"


@dataclass(frozen=True)
class Row:
    """What the result of one function means for the exit report."""

    function: str
    #: As it stands in `completed_steps` and `failed_steps`; empty: by the name of the step.
    step: str
    fields: tuple[Field, ...] = ()
    #: It closes an account: counted, and asked for `account_disabled`.
    closes_account: bool = False
    #: Key and name of the application that it is about, which stands among the business applications; None: none.
    application: Callable[[FinishedStep], tuple[str, str]] | None = None
    #: What it deactivates of the things that let somebody in or pay: `building_access_badge`, `parking_pass`, `credit_card`.
    deactivates: str | None = None
    #: It preserves data: while it has failed, data is at risk.
    keeps_data: bool = False
    #: How many permissions it took away, and how many groups of other systems than those that the report lists.
    revoked: Source | None = None
    groups: Source | None = None
    #: What the section `verification` calls it; empty: as the step is called.
    check: str | None = None


@dataclass(frozen=True)
class FailedStep:
    """A step that was not done, in full."""

    step: str
    label: str
    failure: Described
    at: datetime | None
    keeps_data: bool


@dataclass(frozen=True)
class NotReached:
    """A step that never began: nothing failed, and nothing was done."""

    step: str
    reason: str
    remediation: str
    #: It would have closed an account or kept data.
    critical: bool
    keeps_data: bool


@dataclass
class Facts:
    """What the steps came to."""

    #: Nested as in the report; only what was measured.
    sections: dict[str, Any] = field(default_factory=dict)
    completed: list[str] = field(default_factory=list)
    #: The same for people.
    completed_labels: list[str] = field(default_factory=list)
    failed: list[FailedStep] = field(default_factory=list)
    not_reached: list[NotReached] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    #: For each account that was to be closed, by its system, whether it is.
    accounts: dict[str, bool | None] = field(default_factory=dict)
    #: Thing -> whether it is deactivated, and the numbers of those that were found.
    deactivated: dict[str, tuple[bool | None, list[str]]] = field(default_factory=dict)
    permissions_revoked: int | None = None
    groups_elsewhere: int | None = None

    @property
    def data_at_risk(self) -> bool:
        """Something that preserves data was not done or not reached, or a failure's type says that data may be lost."""
        failed = any(f.keeps_data or f.failure.data_at_risk for f in self.failed)
        return failed or any(n.keeps_data for n in self.not_reached)

    @property
    def account_disabled(self) -> bool | None:
        """Whether every account that was to be closed is; None when that is not known, or none was to be closed."""
        found = self.accounts.values()
        if not found:
            return None
        return False if False in found else None if None in found else True

    def get(self, path: str) -> Any:
        """A value by its path, None where nothing was measured."""
        found: Any = self.sections
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found


def gather(steps: Iterable[FinishedStep], table: Mapping[str, Row]) -> Facts:
    """The facts of steps in the order of execution. Skipped steps had nothing to do and add nothing."""
    facts = Facts()
    for step in steps:
        row = row_of(step, table)
        if step.state == StepState.SUCCEEDED:
            facts.completed.append(row.step)
            facts.completed_labels.append(step.label)
        elif step.state == StepState.CANCELLED:
            facts.not_reached.append(_not_reached(step, row))
        elif step.state in NOT_DONE:
            said = described(_error(step))
            # Whatever kept it from being done: somebody may still get in.
            said = replace(said, critical=said.critical or row.closes_account)
            facts.failed.append(FailedStep(row.step, step.label, said, step.finished_at, row.keeps_data))
        if step.state != StepState.SKIPPED:
            _take(facts, step, row)
    return facts


def _not_reached(step: FinishedStep, row: Row) -> NotReached:
    said = step.error or {}
    return NotReached(
        row.step, str(said.get("message") or "the run was cancelled"),
        str(said.get("remediation") or "Start the offboarding again, or do by hand what was not reached"),
        critical=row.closes_account or row.keeps_data, keeps_data=row.keeps_data,
    )  # fmt: skip


def row_of(step: FinishedStep, table: Mapping[str, Row]) -> Row:
    """What a step means: by its parameter `report`, else by its function."""
    report = step.planned.get(REPORT)
    row = table.get(f"{REPORT} {report}") if report else table.get(step.function or "")
    row = row or Row(step.function or "", step_word(step.function or step.name))
    word = step_word(step.name)
    return replace(row, step=row.step or word, check=word if row.check == "" else row.check)


def _take(facts: Facts, step: FinishedStep, row: Row) -> None:
    for entry in row.fields:
        value = entry.source(step)
        if value is not None:
            _put(facts.sections, entry, value)
    _take_account(facts, step, row)
    if row.deactivates is not None:
        before = facts.deactivated.get(row.deactivates, (None, []))
        facts.deactivated[row.deactivates] = (done(step), [*before[1], *_names(step)])
    if row.check is not None:
        verified = done(step)
        facts.checks.append(
            {"check": row.check, "verified": verified, "verified_timestamp": at(step) if verified else None}
        )
    taken = row.revoked(step) if row.revoked else None
    if taken is not None:
        facts.permissions_revoked = (facts.permissions_revoked or 0) + taken
    left = row.groups(step) if row.groups else None
    if left is not None:
        facts.groups_elsewhere = (facts.groups_elsewhere or 0) + left


def _take_account(facts: Facts, step: FinishedStep, row: Row) -> None:
    """Several steps may close one account, such as suspending and deleting it: one that was done is enough."""
    key, name = row.application(step) if row.application else (row.function.partition(".")[0], "")
    if row.closes_account:
        found = (facts.accounts[key], done(step)) if key in facts.accounts else (done(step),)
        facts.accounts[key] = True if True in found else None if None in found else False
    if row.application:
        applications = facts.sections.setdefault("account_actions", {}).setdefault("business_applications", {})
        applications[key] = {"name": name, "disabled": facts.accounts.get(key)}


def _names(step: FinishedStep) -> list[str]:
    return [str(e["name"]) for e in _things(step, "entries", None) or () if e.get("name")]


def _error(step: FinishedStep) -> dict[str, Any]:
    """The error of a step that was not done, or is not known to be."""
    words = {StepState.REBOOT_NEEDED: "a reboot must finish it"}
    unsaid = {"type": str(step.state), "message": words.get(step.state, "its outcome is not known")}
    error = dict(step.error or unsaid)
    if step.state == StepState.UNKNOWN and not error.get("impact"):
        error["impact"] = "It may or may not have happened."
    return error


def _put(sections: dict[str, Any], entry: Field, value: Any) -> None:
    *around, name = entry.path.split(".")
    for part in around:
        sections = sections.setdefault(part, {})
    before = sections.get(name)
    if before is None and entry.merge == "replace":
        return
    if before is not None and entry.merge == "sum":
        value = before + value
    elif before is not None and entry.merge == "extend":
        value = [*before, *value]
    elif before is not None and entry.merge == "union":
        value = [*before, *(v for v in value if v not in before)]
    elif before is not None and entry.merge == "update":
        value = _updated(before, value)
    sections[name] = value


def _updated(before: list[dict[str, Any]], later: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A later step came back to things that an earlier one had left: its word takes the place of the earlier one's."""
    found, outcome = list(before), {"removed": None, "reason": None}
    for thing in later:
        same = (
            n for n, e in enumerate(found)
            if e["removed"] is not True and {**e, **outcome} == {**thing, **outcome}
        )  # fmt: skip
        place = next(same, None)
        found = [*found, thing] if place is None else [*found[:place], thing, *found[place + 1 :]]
    return found


def step_word(name: str) -> str:
    """A step's name as the report writes names of steps: `m365.remove_inbox_rules` -> `m365_remove_inbox_rules`."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") or "step"


def second(moment: datetime | None) -> str | None:
    """A time as the report writes it: `2026-01-13T16:00:00Z`."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- sources


def done(step: FinishedStep) -> bool | None:
    """True when it was done and verified, False when it was not, None when that is not known."""
    if step.state == StepState.SUCCEEDED:
        return True
    return None if step.state in (StepState.UNKNOWN, StepState.SKIPPED) else False


def at(step: FinishedStep) -> str | None:
    """When the step did it; None when it was so before, because then nobody knows since when."""
    before = step.result.get("outcome") == "already" or step.result.get("already") is True
    return None if before or step.state != StepState.SUCCEEDED else second(_moment(step))


def _moment(step: FinishedStep) -> datetime | None:
    """When a step ended; of what a run before this one had done, when that did it."""
    earlier = step.result.get("done_at")
    return datetime.fromisoformat(earlier) if isinstance(earlier, str) else step.finished_at


def value(path: str) -> Source:
    """A value of the result, by its path."""

    def read(step: FinishedStep) -> Any:
        found: Any = step.result
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    return read


def negated(source: Source) -> Source:
    """The opposite: a step that takes something away was done, so the thing is no more."""

    def read(step: FinishedStep) -> bool | None:
        found = source(step)
        return None if found is None else not found

    return read


def when_done(source: Source | str) -> Source:
    """A value, or a fixed text, that counts only once the step was done."""

    def read(step: FinishedStep) -> Any:
        if step.state != StepState.SUCCEEDED:
            return None
        return source if isinstance(source, str) else source(step)

    return read


def items(key: str, only: Mapping[str, Any] | None = None, **shape: str | Callable[..., Any]) -> Source:
    """The things of a result's list, each in the report's shape.

    `shape` maps a field of the report to a key of the thing, or to what reads it from the thing and the step. A key that a
    thing lacks is left out of it. `only`: those things that have these values.
    """

    def read(step: FinishedStep) -> list[dict[str, Any]] | None:
        return None if (found := _things(step, key, only)) is None else [_shaped(step, thing, shape) for thing in found]

    return read


def names(key: str, only: Mapping[str, Any], name: str) -> Source:
    """The names of the things that have these values, divided by commas; None when there is none."""

    def read(step: FinishedStep) -> str | None:
        return ", ".join(str(t[name]) for t in _things(step, key, only) or () if t.get(name)) or None

    return read


def pool_grew(thing: Mapping[str, Any], step: FinishedStep) -> bool | None:
    """Whether more of a licence are free than before; None when that was not counted."""
    before, after = thing.get("available_before"), thing.get("available_after")
    return after > before if isinstance(before, int) and isinstance(after, int) else None


def count(key: str, only: Mapping[str, Any] | None = None) -> Source:
    """How many things of a result's list came off."""

    def read(step: FinishedStep) -> int | None:
        found = _things(step, key, only)
        return None if found is None else sum(came_off(thing) is True for thing in found)

    return read


def _things(step: FinishedStep, key: str, only: Mapping[str, Any] | None) -> list[Mapping[str, Any]] | None:
    found = step.result.get(key)
    if not isinstance(found, list):
        return None
    things = [thing for thing in found if isinstance(thing, Mapping)]
    return [t for t in things if all(t.get(n) == v for n, v in (only or {}).items())]


def _shaped(step: FinishedStep, thing: Mapping[str, Any], shape: Mapping[str, Any]) -> dict[str, Any]:
    found = {n: source(thing, step) if callable(source) else thing.get(source) for n, source in shape.items()}
    return {n: v for n, v in found.items() if v is not None or callable(shape[n])}


def came_off(thing: Mapping[str, Any], step: FinishedStep | None = None) -> bool | None:
    """Whether one thing of a list was removed or done: by its own word, else by its outcome."""
    if "removed" in thing:
        return thing["removed"] if isinstance(thing["removed"], bool) else None
    outcome = thing.get("outcome")
    return True if outcome in _DONE_WORDS else False if outcome in _LEFT_WORDS else None


def came_off_at(thing: Mapping[str, Any], step: FinishedStep) -> str | None:
    """When one thing was removed: its own time, else that of its step; None when it was gone before or is not gone."""
    if not came_off(thing) or thing.get("outcome") == "already":
        return None
    return thing.get("removed_timestamp") or second(_moment(step))
