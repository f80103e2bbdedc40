"""What a monitor needs before it can be evaluated: its query, its style, its alert templates; all faults found here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlmodel import Session

from agent.alerting.actions import check_alert_message, check_template
from agent.content.alert_styles import AlertStyle, parse_style
from agent.content.definitions import AlertTemplateDefinition, MonitorDefinition
from agent.content.loaded import LoadedMonitor
from agent.errors import ContentError, NotFound
from agent.installation import Installation
from agent.model.monitors import MonitorStatus
from agent.monitoring.query import Query
from agent.monitoring.tablecheck import compile_check


@dataclass(frozen=True)
class MonitorSetup:
    """A monitor that can be evaluated."""

    definition: MonitorDefinition
    style: AlertStyle
    query: Query
    #: The monitor's own template, if it has one.
    template: AlertTemplateDefinition | None
    #: The installation's time zone, in which hours and days are meant.
    zone: ZoneInfo
    #: Templates of target groups, which come before the monitor's own (CWA-46).
    group_templates: Mapping[str, AlertTemplateDefinition]

    def template_for(self, groups: Sequence[str]) -> AlertTemplateDefinition | None:
        """The template that answers for a place in these groups."""
        return next((self.group_templates[g] for g in groups if g in self.group_templates), self.template)


def set_up(installation: Installation, session: Session, name: str, *, now: datetime) -> MonitorSetup:
    """Raises NotFound for an unknown monitor or alert template, ContentError for a fault of the monitor's file."""
    loaded = installation.content.monitor(name)
    definition = loaded.definition
    status = session.get(MonitorStatus, name)
    own = (status.alert_template if status else None) or definition.alert_template
    try:
        style = parse_style(definition.alert_style)
        check_alert_message(definition)
        return MonitorSetup(
            definition=definition,
            style=style,
            query=_query(installation, loaded, now),
            template=_template(installation, loaded, own) if own else None,
            zone=installation.settings.zone,
            group_templates={
                group: _template(installation, loaded, template)
                for group, template in definition.group_alert_templates.items()
            },
        )
    except ValueError as error:
        raise ContentError(str(error), file=loaded.file) from error


def _query(installation: Installation, loaded: LoadedMonitor, now: datetime) -> Query:
    check = loaded.definition.check
    if check is not None:
        return compile_check(installation.database, check, loaded.definition.target, now=now)
    assert loaded.sql is not None
    return Query(loaded.sql)


def _template(installation: Installation, loaded: LoadedMonitor, name: str) -> AlertTemplateDefinition:
    try:
        template = installation.content.alert_template(name)
    except NotFound as error:
        raise loaded.document.fault(f"its alert template is missing: {error}", ("alert_template",)) from error
    try:
        check_template(template.definition, loaded.definition.target)
    except ValueError as error:
        raise ContentError(f"used by the monitor {loaded.name!r}: {error}", file=template.file) from error
    return template.definition
