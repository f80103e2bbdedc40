"""Alerts, what they raised, and the alert templates that answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fastapi import Query
from pydantic import Field
from sqlmodel import col, select

from agent.access.principal import Permission
from agent.alerting.imagining import imagined_actions
from agent.model.monitors import Alert, RaisedAlert
from agent.model.places import Computer
from agent.model.runs import ScriptRun
from agent.running.checking import check
from agent.web.api.common import (
    MOST_ID,
    USUAL,
    After,
    Answer,
    Body,
    ClientId,
    Id,
    Limit,
    Name,
    api_router,
    place_for,
    record_for,
    seen_client,
)  # fmt: skip
from agent.web.asking import Here, Who
from agent.web.reads.monitors import AlertRow, alert_row, alerts
from agent.web.reads.paging import Page

router = api_router("alerts")


class Raised(Answer):
    """What the action `raise_alert` left for people to see."""

    status: str
    subject: str
    message: str
    raised_at: datetime


class AlertRun(Answer):
    """A run that an alert started."""

    id: str
    script: str
    state: str


class AlertOut(AlertRow):
    """One alert with what came of it."""

    runs: list[AlertRun]
    raised: list[Raised]


class AlertTemplateOut(Answer):
    """What is done when a monitor fails and when it succeeds again."""

    name: str
    guid: str
    description: str
    failed: list[dict[str, Any]]
    success: list[dict[str, Any]]
    both: list[dict[str, Any]]


class Imagined(Body):
    """A monitor that is imagined to find a computer."""

    monitor: str = Field(min_length=1, max_length=200, examples=["Offboarding"])
    computer_id: int = Field(ge=1, le=MOST_ID)
    status: Literal["FAILED", "SUCCESS"] = "FAILED"
    result: str = Field("1", max_length=1000, description="The imagined test value")


class Rendered(Answer):
    """An action with its text."""

    number: int
    run_script: str | None
    subject: str | None
    body: str | None


class FaultOut(Answer):
    """Something wrong in a content file."""

    file: str
    line: int | None
    key: str | None
    reason: str
    severity: str


@router.get("/alerts")
def list_alerts(
    here: Here, who: Who, monitor: str | None = Query(None, max_length=200), client_id: ClientId = None,
    closed: bool = Query(False, description="Closed ones too"), after: After = None, limit: Limit = USUAL,
) -> Page[AlertRow]:  # fmt: skip
    """Alerts, the newest first: monitor, place, identity, since when, and the plan that answered."""
    seen_client(who, client_id)
    with here.database.reading() as session:
        return alerts(
            session, who.clients(), monitor=monitor, client_id=client_id, closed=closed, after=after, limit=limit
        )


@router.get("/alerts/{alert_id}")
def show_alert(here: Here, who: Who, alert_id: Id) -> AlertOut:
    """One alert with the runs that it started and what was raised for people to see."""
    with here.database.reading() as session:
        found = record_for(session, who, Alert, alert_id)
        runs = session.exec(select(ScriptRun).where(ScriptRun.alert_id == alert_id).order_by(col(ScriptRun.created_at)))
        raised = session.exec(select(RaisedAlert).where(RaisedAlert.alert_id == alert_id).order_by(col(RaisedAlert.id)))
        return AlertOut(
            **alert_row(session, found).model_dump(), runs=[AlertRun.model_validate(r) for r in runs],
            raised=[Raised.model_validate(r) for r in raised],
        )  # fmt: skip


@router.get("/alert-templates")
def list_alert_templates(here: Here, who: Who) -> list[AlertTemplateOut]:
    """All alert templates and what they do."""
    return [_template(t.definition) for t in here.content.alert_templates()]


@router.get("/alert-templates/{name}")
def show_alert_template(here: Here, who: Who, name: Name) -> AlertTemplateOut:
    """One alert template."""
    return _template(here.content.alert_template(name).definition)


def _template(definition: Any) -> AlertTemplateOut:
    return AlertTemplateOut.model_validate(definition.model_dump(mode="json", by_alias=True, exclude_none=True))


@router.post("/alert-templates/{name}/render")
def render_alert_template(here: Here, who: Who, name: Name, body: Imagined) -> list[Rendered]:
    """The texts that a template would write about a computer now. Nothing is written or sent."""
    template = here.content.alert_template(name).definition
    monitor = here.content.monitor(body.monitor).definition
    with here.database.reading() as session:
        computer = place_for(session, who, Computer, body.computer_id)
        planned = imagined_actions(
            session, template, monitor, computer, status=body.status, test_value=body.result, zone=here.settings.zone
        )
    return [
        Rendered(
            number=p.number + 1, run_script=p.action.run_script, subject=p.message.subject if p.message else None,
            body=p.message.body if p.message else None,
        )
        for p in planned
    ]  # fmt: skip


@router.get("/content/faults")
def check_content(here: Here, who: Who) -> list[FaultOut]:
    """Every fault of all scripts, monitors and alert templates: file, line and reason."""
    who.require(Permission.SEE)
    return [FaultOut.model_validate(f) for f in check(here.content)]
