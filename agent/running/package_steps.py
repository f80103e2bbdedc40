"""The steps that drafting puts around child scripts: a package's criteria before one, and the note of its end after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agent.content.packages import WRAPPER, LoadedPackage
from agent.content.references import references
from agent.content.repository import ContentRepository, LoadedScript
from agent.functions import registry
from agent.functions.packages import CHECK, NOTE
from agent.running.drafts import DraftRun, DraftStep
from agent.running.scope import StoredForm


@dataclass(frozen=True)
class Check:
    """The step that asks a package's criteria, and what the steps after it wait for."""

    step: DraftStep

    @property
    def condition(self) -> tuple[dict[str, Any], ...]:
        """As a stored condition."""
        return ({"value": f"step.{self.step.name}.state", "is": "succeeded"},)


class PackageSteps:
    """Makes them for one target, in the order of the plan."""

    def __init__(self, content: ContentRepository, root: str = "", target_kind: str = "") -> None:
        self.content, self.is_contact = content, target_kind == "contact"
        #: It is an offboarding as a whole: the sequence counts its child scripts, and its day and status are asked for.
        self.is_whole = self.is_contact and root == WRAPPER
        self.used: dict[str, dict[str, Any]] = {}
        self.notes: list[DraftStep] = []
        self.ticketing: LoadedPackage | None = None

    def check(self, script: LoadedScript) -> Check | None:
        """The criteria before a script of a package; None where there are none."""
        package = self.content.package_of(script) if self.is_contact else None
        if package is None:
            return None
        criteria = [
            c.model_dump(by_alias=True, exclude_none=True, mode="json") for c in package.definition.criteria
            # After the offboarding (its deletion, the end of a forwarding) and before it (the security phase of a
            # high-risk one) the person has another status, and the day is that of somebody's decision.
            if self.is_whole or c.field is not None
        ]  # fmt: skip
        if not criteria:
            return None
        return Check(_step(f"Criteria of {script.name}", CHECK, {"package": package.name, "criteria": criteria}))

    def after(self, script: LoadedScript, run: DraftRun, check: Check | None) -> list[DraftStep]:
        """What follows a child script: the note of its end, and the comment in the client's own ticket system."""
        if not self.is_contact:
            return []
        package = self.content.package_of(script)
        definition = package.definition if package else None
        steps = len(run.steps()) + (1 if check else 0)
        values: dict[str, Any] = {"child": script.name, "steps": steps, "package": package.name if package else None}
        if self.is_whole:
            values |= {"number": len(self.notes) + 1, "total": None}
        if package is not None and definition is not None:
            self.used[package.key] = {
                "name": package.name, "version": package.version, "digest": package.digest,
                "comment": definition.ticket_comment,
            }  # fmt: skip
            values["comment"] = definition.ticket_comment
            values["notify"] = definition.notify.model_dump(mode="json") if definition.notify else None
        if not (self.is_whole or values.get("comment") or values.get("notify")):
            return []
        note = _step(f"After {script.name}", NOTE, values)
        self.notes.append(note)
        return [note, *self._elsewhere(note, package)]

    def _elsewhere(self, note: DraftStep, package: LoadedPackage | None) -> list[DraftStep]:
        """The comment in the ticket of a system that an earlier package keeps it in."""
        keeper, found = self.ticketing, []
        if keeper is not None and package is not None and package.definition.ticket_comment and keeper is not package:
            found.append(_comment(keeper, note.name))
        if package is not None and package.definition.ticketing is not None:
            self.ticketing = package
        return found

    def result(self, step: DraftStep) -> list[DraftStep]:
        """What follows the step that gives the result of the whole: it is written on the ticket of the client's own system.

        It counts, unlike a comment in between, since somebody asked for it; a system that does not answer is asked again.
        """
        if self.ticketing is None:
            return []
        made = _comment(self.ticketing, step.name)
        when = [*step.options["when"], {"value": f"step.{step.name}.state", "is": "succeeded"}]
        retries = {"attempts": 4, "wait": 60.0, "backoff": 1.0}
        options = {**made.options, "when": when, "on_failure": "collect", "retries": retries}
        return [replace(made, options=options)]

    def known(self, run: DraftRun) -> dict[str, Any]:
        """What the plan keeps of the packages in it. The notes learn how many child scripts there are."""
        if self.is_whole:
            for note in self.notes:
                note.parameters["total"] = {"value": len(self.notes)}
        if not self.used:
            return {}
        return {
            "packages": [{"key": key, **used} for key, used in self.used.items()],
            **({"ticketing": self.ticketing.name} if self.ticketing else {}),
        }


def _comment(keeper: LoadedPackage, said_by: str) -> DraftStep:
    """The step that writes the text of another step's result on the ticket of a package's system."""
    ticketing = keeper.definition.ticketing
    assert ticketing is not None
    raw = {**ticketing.with_, ticketing.text: {"step": said_by, "value": "text"}}
    forms: dict[str, StoredForm] = {
        name: {"deferred": value, "known": {}} if references(value) else {"value": value} for name, value in raw.items()
    }
    return _step(f"Comment {said_by[0].lower()}{said_by[1:]}", ticketing.function, {}, forms)


def _step(
    name: str, function: str, values: dict[str, Any], forms: dict[str, StoredForm] | None = None
) -> DraftStep:  # fmt: skip
    """A step of ours. It never counts as a failure of the offboarding, and stands in none of its lists."""
    called = registry.get(function)
    if forms is None:
        text = called.preview(called.Parameters.model_validate(values))
        forms = {n: {"value": v} for n, v in values.items()}
    else:
        text = called.summary
    options: dict[str, Any] = {
        "when": [], "on_failure": "continue", "retries": None, "time_limit": None, "repeatable": called.repeatable,
        "destructive": False, "on_target": False, "in_child": False, "revisions": {}, "preview": text, "label": name,
    }  # fmt: skip
    return DraftStep(name, function, None, forms, options)
