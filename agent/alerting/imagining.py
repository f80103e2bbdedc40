"""What an alert template would write about a computer if a monitor found it now. Nothing is written or sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from zoneinfo import ZoneInfo

from sqlmodel import Session

from agent.alerting.actions import PlannedAction, alert_message, plan_actions
from agent.alerting.occurrences import Occurrence, Place
from agent.content.definitions import AlertTemplateDefinition, MonitorDefinition
from agent.errors import UsageError
from agent.inventory import lookup
from agent.model.base import utcnow
from agent.model.places import Client, Computer, Location


def imagined_actions(
    session: Session, template: AlertTemplateDefinition, monitor: MonitorDefinition, computer: Computer, *,
    status: Literal["FAILED", "SUCCESS"], test_value: str, zone: ZoneInfo,
) -> Sequence[PlannedAction]:  # fmt: skip
    """The actions of now with their texts. Raises UsageError for a text that cannot be filled in."""
    client = lookup.get(session, Client, computer.client_id)
    location = lookup.get(session, Location, computer.location_id)
    place = Place(
        "computer", lookup.place_id(computer), computer.name, computer.client_id, client.name, computer.location_id,
        location.name,
    )  # fmt: skip
    occurrence = Occurrence(
        monitor=monitor.name, status=status, place=place, identity=computer.name, test_value=test_value
    )
    try:
        alert_message(monitor)
        return plan_actions([occurrence], template, monitor, now=utcnow(), zone=zone).actions
    except ValueError as error:
        raise UsageError(f"{template.name}: {error}") from error
