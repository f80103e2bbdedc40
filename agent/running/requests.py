"""What somebody asks the planner to run: a monitor's alert template, or a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.content.definitions import Limits


@dataclass(frozen=True)
class RunRequest:
    """One script on one target.

    `parameters` are given on purpose (an alert template's `with`); `columns` are the further columns of the monitor's
    row, JSON values, and fill the script's parameters of the same name where `parameters` says nothing.
    """

    script: str
    #: computer, location, client or contact
    target_kind: str
    target_id: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: The alert that asks for it; None for a run by hand and for a preview.
    alert_id: int | None = None
    #: The levels whose flag matched, such as ("client", "location").
    levels: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    #: FAILED (the monitor found the row) or SUCCESS (the row went).
    status: str = "FAILED"
    #: What the planner found out on the way and the run keeps with its context.
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanOrigin:
    """Who or what asks for a plan, and what was confirmed along with it."""

    started_by: str
    #: Name of the monitor; None when a person starts scripts by hand.
    monitor: str | None = None
    #: Id of the monitor's tick, made from its meaning; the same tick is planned once.
    tick: str | None = None
    reason: str | None = None
    limits: Limits = field(default_factory=Limits)
    #: The person said yes to this very plan (`--yes`): answers the guardrail of the first run.
    confirmed: bool = False
    #: Slugs of clients whose offboarding as a whole was confirmed a second time.
    confirmed_clients: frozenset[str] = frozenset()
    #: Guardrails that the person overrides by name; needs a reason.
    overrides: frozenset[str] = frozenset()
    #: Targets that the monitor matched but did not hand over: [{"computer": name, "reason": ...}].
    skipped: tuple[Mapping[str, Any], ...] = ()
