"""`exeunt alert`: what monitors found."""

from __future__ import annotations

from typing import Any

import click
from sqlmodel import Session, col, select

from agent.cli.caller import Caller, json_option, limit_option, pass_caller
from agent.cli.lazy import Group, command
from agent.cli.output import show_details, show_json, show_table
from agent.cli.places import LEVELS
from agent.errors import NotFound
from agent.inventory import lookup
from agent.model.monitors import Alert, RaisedAlert
from agent.model.places import Client
from agent.model.runs import ScriptRun


@click.group("alert", cls=Group)
def alert() -> None:
    """What monitors found."""


@command(alert, "list", "exeunt alert list", "exeunt alert list --monitor Offboarding --all --json")
@click.option("--monitor", help="Only of this monitor.")
@click.option("--client", help="Only of this client: slug, name or id.")
@click.option("--all", "closed", is_flag=True, help="Closed ones too.")
@limit_option()
@json_option
@pass_caller
def list_alerts(
    caller: Caller, monitor: str | None, client: str | None, closed: bool, limit: int, as_json: bool
) -> None:
    """Show alerts, the newest first: monitor, place, identity, since when, and the plan that answered."""
    with caller.installation.database.reading() as session:
        query = select(Alert).order_by(col(Alert.id).desc()).limit(limit)
        if monitor is not None:
            query = query.where(Alert.monitor == monitor)
        if client is not None:
            query = query.where(Alert.client_id == lookup.find(session, Client, client).client_id)
        if not closed:
            query = query.where(col(Alert.closed_at).is_(None))
        rows = [{**a.model_dump(), "place": _place(session, a)} for a in session.exec(query)]
    if as_json:
        show_json(rows)
        return
    columns = (
        "id",
        "monitor",
        "place",
        "identity",
        "opened_at",
        "alerted_at",
        "alert_count",
        "script_pending",
        "plan_id",
        "closed_at",
    )
    show_table([c.replace("_", " ") for c in columns], ([r[c] for c in columns] for r in rows), empty="no alerts")


def _place(session: Session, found: Alert) -> str:
    try:
        return lookup.path(session, lookup.get(session, lookup.MODELS[LEVELS[found.target_kind]], found.target_id))
    except NotFound:
        return f"({found.target_kind} {found.target_id} is gone)"


@command(alert, "show", "exeunt alert show 12", "exeunt alert show 12 --json")
@click.argument("alert_id", metavar="ID", type=int)
@json_option
@pass_caller
def show(caller: Caller, alert_id: int, as_json: bool) -> None:
    """Show one alert with the runs that it started and what was raised for people to see."""
    with caller.installation.database.reading() as session:
        found = session.get(Alert, alert_id)
        if found is None:
            raise NotFound(f"there is no alert {alert_id}")
        runs = session.exec(select(ScriptRun).where(ScriptRun.alert_id == alert_id)).all()
        raised = session.exec(select(RaisedAlert).where(RaisedAlert.alert_id == alert_id)).all()
        data: dict[str, Any] = {**found.model_dump(), "place": _place(session, found)}
    if as_json:
        show_json({**data, "runs": [{"id": r.id, "state": r.state} for r in runs], "raised": list(raised)})
        return
    show_details({n.replace("_", " "): v for n, v in data.items()})
    show_table(("run", "script", "state"), ((r.id, r.script, r.state) for r in runs), empty="no runs")
    if raised:
        show_table(
            ("raised", "status", "subject", "message"), ((r.raised_at, r.status, r.subject, r.message) for r in raised)
        )
