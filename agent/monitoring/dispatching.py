"""One monitor run from end to end: evaluate, let the alert templates answer, make one plan of all computers, release it.

What dies on the way is not lost: an alert whose script is not planned stays pending, and the next scan plans it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import Conflict, UsageError
from agent.installation import Installation
from agent.monitoring.bookkeeping import record_plan
from agent.monitoring.evaluation import Evaluation, evaluate
from agent.running import verbs
from agent.running.doorbell import open_port
from agent.running.drafting import DraftedTarget
from agent.running.guardrails import check_overrides, refuse
from agent.running.planning import DraftPlan, StoredPlan, draft_plan, store_plan
from agent.running.requests import PlanOrigin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.running.doorbell import Port


@dataclass(frozen=True)
class MonitorRun:
    """What one monitor run found and started."""

    evaluation: Evaluation
    #: What is, or in a dry run would be, started; None when no script is asked for.
    draft: DraftPlan | None = None
    #: The plan; None when nothing was asked for, nothing is left of it, or a guardrail refused it.
    stored: StoredPlan | None = None

    @property
    def skipped(self) -> tuple[Mapping[str, Any], ...]:
        """Computers that matched and are left alone: [{"computer", "id", "client", "reason"}]."""
        return self.draft.skipped if self.draft is not None else _skipped(self.evaluation)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should know about the flags that stay set."""
        return self.draft.warnings if self.draft is not None else ()

    @property
    def refusals(self) -> tuple[Mapping[str, str], ...]:
        """Guardrails that forbid it; nothing was started then."""
        return self.draft.refusals if self.draft is not None else ()

    @property
    def alerts_opened(self) -> int:
        """Number of alerts that were opened."""
        return self.evaluation.opened


def run_monitor(
    installation: Installation,
    name: str,
    *,
    actor: str,
    reset: bool = False,
    dry_run: bool = False,
    confirmed: bool = False,
    confirmed_clients: Iterable[str] = (),
    overrides: Iterable[str] = (),
    reason: str | None = None,
    tick: str | None = None,
    agreed: str | None = None,
    port: Port | None = None,
) -> MonitorRun:
    """Run a monitor now: evaluate it, answer its alerts, store one plan, and release it unless a guardrail holds it.

    confirmed: the person said yes to this very run, which answers the guardrail of the first run.
    confirmed_clients: slugs of clients whose offboarding as a whole was confirmed a second time by name.
    agreed: `fingerprint` of the draft that the person saw; another one is not stored.
    port: that of a worker; one is opened when it is None.

    Raises GuardrailRefused when the actor may not confirm a client, UsageError for an unknown override or a missing
    reason, Conflict when the draft is not the one that was agreed to. A guardrail that refuses is in the result.
    """
    clients, overriding = frozenset(confirmed_clients), check_overrides(overrides)
    if overriding and not (reason or "").strip():
        raise UsageError("an override needs a reason: --reason TEXT")
    if clients and not dry_run:
        with installation.database.reading() as session:
            verbs.check_client_permission(installation, session, actor)
    evaluation = evaluate(installation, name, actor=actor, reset=reset, dry_run=dry_run, tick=tick)
    origin = PlanOrigin(
        started_by=actor, monitor=evaluation.definition.name, tick=tick, reason=reason,
        limits=evaluation.definition.limits, confirmed=confirmed, confirmed_clients=clients, overrides=overriding,
        skipped=_skipped(evaluation),
    )  # fmt: skip
    return _answer(installation, evaluation, origin, agreed, port)


def dispatch_tick(installation: Installation, evaluation: Evaluation, port: Port) -> MonitorRun:
    """The same for an evaluation that the scheduler made. Raises GuardrailRefused; nothing was started then."""
    origin = PlanOrigin(
        started_by=evaluation.actor, monitor=evaluation.definition.name, tick=evaluation.tick,
        limits=evaluation.definition.limits, skipped=_skipped(evaluation),
    )  # fmt: skip
    done = _answer(installation, evaluation, origin, None, port)
    refuse(done.refusals)
    return done


def _answer(
    installation: Installation, evaluation: Evaluation, origin: PlanOrigin, agreed: str | None, port: Port | None
) -> MonitorRun:
    if not evaluation.requests:
        return MonitorRun(evaluation)
    draft = draft_plan(installation, evaluation.requests, origin)
    if agreed is not None and fingerprint(draft) != agreed:
        raise Conflict("what would be done has changed since it was shown: nothing was started; look at it again")
    if evaluation.dry_run or draft.refusals:
        return MonitorRun(evaluation, draft)
    return MonitorRun(evaluation, draft, _start(installation, evaluation, draft, port))


def fingerprint(draft: DraftPlan) -> str:
    """Digest of everything that a draft would start: targets, scripts' revisions, steps with their parameters."""
    said = json.dumps([_said(t) for t in draft.targets], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()


def _said(drafted: DraftedTarget) -> Any:
    steps = [(s.name, s.function, s.revision, s.parameters, s.options.get("preview")) for s in drafted.run.steps()]
    return [drafted.target.kind, drafted.target.id, drafted.run.script.digest, steps]


def _start(
    installation: Installation, evaluation: Evaluation, draft: DraftPlan, port: Port | None
) -> StoredPlan | None:
    """Store and release. The alerts are told of the plan in between, so that no scan plans them again."""
    monitor = evaluation.definition.name
    if not draft.targets:
        record_plan(installation, monitor, evaluation.given, "")
        return None
    stored = store_plan(installation, draft)
    record_plan(installation, monitor, evaluation.given, stored.id)
    if stored.state != "planned":
        return stored
    if draft.origin.confirmed:
        with installation.database.session() as session:
            verbs.confirm_monitor(session, monitor, draft.origin.started_by)
    with _port(installation, port) as opened:
        verbs.release(installation, opened, stored.id, actor=draft.origin.started_by)
    return stored


@contextmanager
def _port(installation: Installation, given: Port | None) -> Iterator[Port]:
    if given is not None:
        yield given
        return
    opened = open_port(installation.settings)
    try:
        yield opened
    finally:
        opened.close()


def _skipped(evaluation: Evaluation) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"computer": m.place.name, "id": m.place.id, "client": m.place.client_name, "reason": m.skipped}
        for m in evaluation.skipped
    )
