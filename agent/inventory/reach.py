"""Which computers an offboarding flag reaches, and what would become of each: counted by the database, never loaded.

The same rules as the monitor Offboarding and the guardrails have, as conditions on the table of computers: a field that is
set on a place is looked up among the few values that are set, so that the size of the fleet does not matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, and_, case, false, func, or_, text, true
from sqlmodel import Session, col, select

from agent.inventory.flags import ALLOW_PROBE, ALLOW_SERVER, EXCLUDE, KEYS, FieldSets
from agent.model.base import utcnow
from agent.model.fields import Form
from agent.model.places import AgentComputerData, Computer, MaintenanceMode


class Outcome(StrEnum):
    """What would become of a flagged computer, in the order in which it is asked."""

    RETIRED = "retired"
    EXCLUDED = "excluded"
    SERVER = "server"
    PROBE = "probe"
    QUIET = "quiet"
    OFFLINE = "offline"
    GOES = "goes"


#: What people read about each.
MEANING = {
    Outcome.GOES: "online: offboarded at the monitor's next look",
    Outcome.OFFLINE: "offline: offboarded as soon as they are online again",
    Outcome.EXCLUDED: f"skipped: {EXCLUDE!r} is set on the computer, its location or its client",
    Outcome.SERVER: f"skipped: a server, and {ALLOW_SERVER!r} is not set",
    Outcome.PROBE: f"skipped: a probe, and {ALLOW_PROBE!r} is not set",
    Outcome.QUIET: "skipped while no alerts are allowed or maintenance lasts",
    Outcome.RETIRED: "retired: never touched",
}


@dataclass(frozen=True)
class Sample:
    """A computer that is named as an example."""

    computer_id: int
    name: str


@dataclass(frozen=True)
class Reach:
    """How many computers have which outcome, and the first few of each."""

    counts: dict[Outcome, int]
    samples: dict[Outcome, list[Sample]]

    @property
    def total(self) -> int:
        """All computers, retired ones left out."""
        return sum(n for outcome, n in self.counts.items() if outcome is not Outcome.RETIRED)

    @property
    def reached(self) -> int:
        """Computers that would be offboarded, now or when they come online."""
        return self.counts.get(Outcome.GOES, 0) + self.counts.get(Outcome.OFFLINE, 0)


def outcome(
    fields: FieldSets, online_since: datetime, zone: ZoneInfo, now: datetime | None = None
) -> ColumnElement[str]:
    """SQL of an `Outcome` for each computer. zone: in which their hours are meant."""
    moment = now or utcnow()
    me = col(Computer.computer_id)
    return case(
        (col(Computer.retired_at).is_not(None), Outcome.RETIRED.value),
        (fields.is_set_anywhere(EXCLUDE), Outcome.EXCLUDED.value),
        (and_(col(Computer.is_server).is_(True), ~fields.allows(ALLOW_SERVER)), Outcome.SERVER.value),
        (and_(col(Computer.is_probe).is_(True), ~fields.allows(ALLOW_PROBE)), Outcome.PROBE.value),
        (or_(me.in_(_quiet(moment.astimezone(zone))), me.in_(_resting(moment, fields.dialect))), Outcome.QUIET.value),
        (or_(col(Computer.last_contact).is_(None), col(Computer.last_contact) <= online_since), Outcome.OFFLINE.value),
        else_=Outcome.GOES.value,
    )


def reach(
    session: Session,
    computers: ColumnElement[bool],
    *,
    online_seconds: int,
    zone: ZoneInfo,
    samples: int = 8,
    now: datetime | None = None,
) -> Reach:
    """What would become of the computers of a condition if they were flagged.

    zone: in which their hours are meant. samples: examples of each outcome.
    """
    moment = now or utcnow()
    found = outcome(FieldSets(session), moment - timedelta(seconds=online_seconds), zone, moment)
    counted = session.execute(select(found, func.count()).where(computers).group_by(found)).all()
    counts = {Outcome(name): count for name, count in counted}
    named: dict[Outcome, list[Sample]] = {}
    for each in counts:
        query = select(col(Computer.computer_id), col(Computer.name)).where(computers, found == each.value)
        rows = session.execute(query.order_by(col(Computer.computer_id)).limit(samples)).all()
        named[each] = [Sample(*row) for row in rows]
    return Reach(counts, named)


def flagged_count(session: Session, *conditions: ColumnElement[bool], limit: int) -> int:
    """How many flagged computers meet the conditions; `limit` stands for it or more."""
    found = FieldSets(session).flagged_ids(*conditions, limit=limit).subquery()
    return min(session.scalar(select(func.count()).select_from(found)) or 0, limit)


def of_place(form: Form, place_id: int) -> ColumnElement[bool]:
    """The computers of a client or location, or the computer itself."""
    return KEYS[form] == place_id if form in KEYS else false()


def of_clients(clients: Collection[int] | None) -> ColumnElement[bool]:
    """The computers of some clients; None: of all."""
    return true() if clients is None else col(Computer.client_id).in_(sorted(clients))


def _quiet(local: datetime) -> Select[Any]:
    """Computers that may not be alerted on at a local time: never, or not at this hour of the day."""
    start, end, clock = col(AgentComputerData.up_time_start), col(AgentComputerData.up_time_end), f"{local:%H:%M}"
    within = case(
        (start < end, and_(start <= clock, end > clock)),
        else_=or_(start == end, start <= clock, end > clock),
    )
    return select(col(AgentComputerData.computer_id)).where(
        or_(col(AgentComputerData.no_alerts).is_(True), and_(start.is_not(None), ~within))
    )


def _resting(moment: datetime, dialect: str) -> Select[Any]:
    """Computers in maintenance at a time. Its length is in minutes, which the databases add differently."""
    start, minutes = col(MaintenanceMode.time_start), col(MaintenanceMode.duration)
    if dialect == "sqlite":
        # A length that no time can hold gives NULL: it never ends.
        end: Any = func.coalesce(
            func.strftime("%Y-%m-%d %H:%M:%f", start, func.printf("+%d minutes", minutes)), "9999-12-31"
        )
        lasts = end > moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    else:
        lasts = start + minutes * text("interval '1 minute'") > moment
    return select(col(MaintenanceMode.computer_id)).where(start <= moment, lasts)
