"""What drafting makes of a request: runs and steps as they will be stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.content.repository import LoadedScript
from agent.inventory.effective import FieldValues
from agent.running.requests import RunRequest
from agent.running.scope import StoredForm
from agent.running.targets import Target


@dataclass
class DraftStep:
    """A step as it will be stored."""

    name: str
    function: str | None
    revision: str | None
    parameters: dict[str, StoredForm]
    options: dict[str, Any]


@dataclass
class DraftRun:
    """A run as it will be stored, with its steps and the runs inside it in their order."""

    name: str
    script: LoadedScript
    parameters: dict[str, StoredForm]
    context: dict[str, Any]
    items: list[DraftStep | DraftRun] = field(default_factory=list)

    def steps(self) -> list[DraftStep]:
        """All steps of the tree in the order of execution."""
        return [s for item in self.items for s in ([item] if isinstance(item, DraftStep) else item.steps())]


@dataclass(frozen=True)
class DraftedTarget:
    """One target with its whole tree and the extra fields as they count for it."""

    request: RunRequest
    target: Target
    run: DraftRun
    fields: FieldValues
