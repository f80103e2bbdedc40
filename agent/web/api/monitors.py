"""Internal monitors: see them, run them now, switch them, give them another alert template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from agent.access.principal import Permission
from agent.monitoring import listing
from agent.monitoring.dispatching import MonitorRun, run_monitor
from agent.web.api.common import USUAL, After, Answer, Body, Limit, Name, api_router
from agent.web.api.plans import Draft, draft_out
from agent.web.asking import Here, Port, Who
from agent.web.reads.monitors import FailingPlace, MonitorRow, failing, monitor_row
from agent.web.reads.paging import Page

router = api_router("monitors")


class MonitorOut(MonitorRow):
    """One monitor with what it asks."""

    query: str | None = Field(description="Its SQL")
    check: dict[str, Any] | None = Field(description="Its table check, where it has no SQL")
    file: str


class MonitorStart(Body):
    """How a monitor is run now."""

    reset: bool = Field(False, description="Run Now and Reset: present failures alert again")
    dry_run: bool = Field(False, description="Show computers by level and the very steps; change nothing")
    agreed: str | None = Field(
        None, max_length=128, description="`fingerprint` of the dry run: another plan is not started"
    )
    confirm_clients: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Slugs of clients that are offboarded as a whole, confirmed by name",
    )
    overrides: list[str] = Field(
        default_factory=list, max_length=20, description="Guardrails that refuse and are overridden, by name"
    )
    reason: str | None = Field(None, max_length=2000, description="Why; an override needs it")


class Matched(Answer):
    """A place that the monitor found."""

    target_id: int
    name: str
    client: str
    location: str | None
    levels: list[str]


class MonitorResult(Answer):
    """What a monitor run found and started."""

    monitor: str
    dry_run: bool
    matched: list[Matched]
    skipped: list[dict[str, Any]]
    alerts_opened: int
    plan_id: str | None
    run_ids: list[str]
    holds: list[dict[str, Any]] = Field(description="Guardrails that hold the plan: approve it")
    refused: list[dict[str, Any]] = Field(description="Guardrails that forbid it; nothing was started")
    warnings: list[str]
    draft: Draft | None = Field(description="Of a dry run: what would be started")


class Enabled(Body):
    """Whether it runs at its interval."""

    enabled: bool


class Template(Body):
    """The alert template that answers; null: the one of the monitor's file."""

    alert_template: str | None = Field(max_length=200)


@router.get("/monitors")
def list_monitors(here: Here, who: Who) -> list[MonitorRow]:
    """All monitors: status, fail count, interval, style, scans, groups, template, scripts, ticket category."""
    return [monitor_row(m, who.clients()) for m in listing.monitor_rows(here)]


@router.get("/monitors/{name}")
def show_monitor(here: Here, who: Who, name: Name) -> MonitorOut:
    """One monitor and its query."""
    found, row = here.content.monitor(name), listing.monitor_row(here, name)
    check = found.definition.check
    return MonitorOut(
        **monitor_row(row, who.clients()).model_dump(), query=found.sql, file=Path(row.file).name,
        check=check.model_dump(mode="json", exclude_none=True) if check else None,
    )  # fmt: skip


@router.get("/monitors/{name}/rows")
def list_rows(here: Here, who: Who, name: Name, after: After = None, limit: Limit = USUAL) -> Page[FailingPlace]:
    """The rows that failed at the last scan, at the clients that one may see."""
    monitor = here.content.monitor(name).name
    with here.database.reading() as session:
        return failing(session, monitor, who.clients(), after=after, limit=limit)


@router.post("/monitors/{name}/run")
def run(here: Here, port: Port, who: Who, name: Name, body: MonitorStart) -> MonitorResult:
    """Run a monitor now: what it finds is answered by its alert template, as one plan. It looks at all clients."""
    # To pass over a guardrail takes who could approve what it holds.
    who.require(Permission.APPROVE if body.overrides else Permission.OPERATE)
    done = run_monitor(
        here, name, actor=who.name, reset=body.reset, dry_run=body.dry_run, confirmed=not body.dry_run,
        confirmed_clients=body.confirm_clients, overrides=body.overrides, reason=body.reason, agreed=body.agreed,
        port=port,
    )  # fmt: skip
    return _result(done)


def _result(done: MonitorRun) -> MonitorResult:
    evaluation, stored, draft = done.evaluation, done.stored, done.draft
    holds = stored.holds if stored else draft.holds if draft else ()
    return MonitorResult(
        monitor=evaluation.definition.name, dry_run=evaluation.dry_run,
        matched=[
            Matched(
                target_id=m.place.id, name=m.place.name, client=m.place.client_name, location=m.place.location_name,
                levels=list(m.row.levels),
            )
            for m in evaluation.matched
        ],
        skipped=[dict(s) for s in done.skipped], alerts_opened=done.alerts_opened,
        plan_id=stored.id if stored else None, run_ids=list(stored.run_ids) if stored else [],
        holds=[dict(h) for h in holds], refused=[dict(r) for r in done.refusals], warnings=list(done.warnings),
        draft=draft_out(draft) if evaluation.dry_run and draft else None,
    )  # fmt: skip


@router.put("/monitors/{name}/enabled")
def set_enabled(here: Here, who: Who, name: Name, body: Enabled) -> MonitorRow:
    """Let a monitor run at its interval, or not; running it by hand works still."""
    who.require(Permission.ADMINISTER)
    listing.set_enabled(here, name, body.enabled, actor=who.name)
    return monitor_row(listing.monitor_row(here, name), who.clients())


@router.put("/monitors/{name}/alert-template")
def assign_template(here: Here, who: Who, name: Name, body: Template) -> MonitorRow:
    """Let another alert template answer a monitor, without changing its file."""
    who.require(Permission.ADMINISTER)
    listing.assign_template(here, name, body.alert_template, actor=who.name)
    return monitor_row(listing.monitor_row(here, name), who.clients())
