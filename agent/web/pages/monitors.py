"""Internal monitors: the list with all its columns, one with its query and rows, run now after a preview; alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Form as FormBody

from agent.access.principal import Permission
from agent.monitoring import listing
from agent.monitoring.dispatching import fingerprint, run_monitor
from agent.running.checking import check
from agent.running.previews import planned
from agent.web.asking import Here, Port, Who
from agent.web.forms import Form
from agent.web.reads.monitors import alerts, failing, monitor_row
from agent.web.rendering import page, redirect, with_query

router = APIRouter()


class RunNow(Form):
    """The preview that was agreed to, and what an override or a whole client needs."""

    reset: bool = False
    agreed: str = ""
    confirm: list[str] = []
    override: list[str] = []
    reason: str = ""


class Enabled(Form):
    """Whether it runs at its interval."""

    enabled: bool = False


class Assigned(Form):
    """The alert template that answers; empty: that of the file."""

    alert_template: str = ""


@router.get("/monitors")
def list_monitors(request: Request, here: Here, who: Who) -> Response:
    """All monitors, with the columns of the control centre."""
    found = [monitor_row(m, who.clients()) for m in listing.monitor_rows(here)]
    faults = [f for f in check(here.content) if "/monitors/" in f.file or "/alert_templates/" in f.file]
    return page(
        request, "monitors.html", monitors=found, faults=[(Path(f.file).name, f) for f in faults],
        templates=here.content.alert_templates(),
    )  # fmt: skip


@router.get("/monitors/{name}")
def show_monitor(request: Request, here: Here, who: Who, name: str, after: str | None = None) -> Response:
    """One monitor: its columns, its query, and the rows of its last scan."""
    loaded = here.content.monitor(name)
    row = monitor_row(listing.monitor_row(here, name), who.clients())
    with here.database.reading() as session:
        rows = failing(session, loaded.name, who.clients(), after=after)
    following = with_query(request.url.path, after=rows.next) if rows.next else None
    return page(
        request, "monitor.html", monitor=row, loaded=loaded, rows=rows.items, following=following,
        templates=[t.name for t in here.content.alert_templates()], may_run=who.can(Permission.OPERATE),
        may_change=who.can(Permission.ADMINISTER),
    )  # fmt: skip


@router.get("/monitors/{name}/run")
def preview(request: Request, here: Here, port: Port, who: Who, name: str, reset: bool = False) -> Response:
    """What running it now would start. Changes nothing."""
    who.require(Permission.OPERATE)
    done = run_monitor(here, name, actor=who.name, reset=reset, dry_run=True, port=port)
    return page(
        request, "monitor_run.html", name=done.evaluation.definition.name, done=done, reset=reset,
        matched=done.evaluation.matched, targets=planned(done.draft) if done.draft else [],
        agreed=fingerprint(done.draft) if done.draft else "", holds=done.draft.holds if done.draft else (),
    )  # fmt: skip


@router.post("/monitors/{name}/run")
def run(request: Request, here: Here, port: Port, who: Who, name: str, form: Annotated[RunNow, FormBody()]) -> Response:
    """Run it now: exactly the preview that was agreed to is stored and started, or held."""
    # To pass over a guardrail takes who could approve what it holds.
    who.require(Permission.APPROVE if form.override else Permission.OPERATE)
    done = run_monitor(
        here, name, actor=who.name, reset=form.reset, confirmed=True, confirmed_clients=form.confirm,
        overrides=form.override, reason=form.reason or None, agreed=form.agreed or None, port=port,
    )  # fmt: skip
    if done.stored is None:
        why = "; ".join(r["reason"] for r in done.refusals) or "nothing was to be started"
        return redirect(request, f"/monitors/{name}", f"{len(done.evaluation.matched)} found: {why}.")
    if done.stored.holds:
        return redirect(request, f"/plans/{done.stored.id}", "A guardrail holds it: somebody has to approve it.")
    return redirect(request, f"/plans/{done.stored.id}", f"{len(done.stored.run_ids)} queued.")


@router.post("/monitors/{name}/enabled")
def set_enabled(request: Request, here: Here, who: Who, name: str, form: Annotated[Enabled, FormBody()]) -> Response:
    """Let it run at its interval, or not."""
    who.require(Permission.ADMINISTER)
    listing.set_enabled(here, name, form.enabled, actor=who.name)
    return redirect(request, f"/monitors/{name}", f"The monitor is {'enabled' if form.enabled else 'disabled'}.")


@router.post("/monitors/{name}/alert-template")
def assign(request: Request, here: Here, who: Who, name: str, form: Annotated[Assigned, FormBody()]) -> Response:
    """Let another alert template answer it."""
    who.require(Permission.ADMINISTER)
    listing.assign_template(here, name, form.alert_template or None, actor=who.name)
    return redirect(request, f"/monitors/{name}", "The alert template is assigned.")


@router.get("/alert-templates/{name}")
def show_template(request: Request, here: Here, who: Who, name: str) -> Response:
    """One alert template with its text."""
    found = here.content.alert_template(name)
    used = [
        m.name
        for m in listing.monitor_rows(here)
        if found.name in (m.alert_template, *m.group_alert_templates.values())
    ]
    return page(request, "alert_template.html", template=found, used=used)


@router.get("/alerts")
def list_alerts(
    request: Request, here: Here, who: Who, monitor: str | None = None, closed: bool = False, after: str | None = None
) -> Response:
    """What monitors found, newest first."""
    with here.database.reading() as session:
        found = alerts(session, who.clients(), monitor=monitor, closed=closed, after=after)
    following = with_query("/alerts", monitor=monitor, closed=closed or None, after=found.next) if found.next else None
    return page(request, "alerts.html", alerts=found.items, closed=closed, monitor=monitor, following=following)
