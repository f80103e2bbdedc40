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

from sqlalchemy import ColumnElement, Select, and_, case, false, func, literal, or_, text, true, union
from sqlmodel import Session, col, select

from agent.inventory.flags import ALLOW_PROBE, ALLOW_SERVER, EXCLUDE, OFFBOARD
from agent.model.base import utcnow
from agent.model.fields import ExtraField, ExtraFieldData, Form
from agent.model.places import AgentComputerData, Computer, MaintenanceMode

#: The column of a computer that names its place of a level; the nearest level first.
KEYS: dict[Form, Any] = {
    Form.COMPUTER: col(Computer.computer_id),
    Form.LOCATION: col(Computer.location_id),
    Form.CLIENT: col(Computer.client_id),
}


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


class FieldSets:
    """The fields of offboardings by level, and which of their default rows are set. Read once per request."""

    def __init__(self, session: Session) -> None:
        self.dialect = session.get_bind().dialect.name
        names = {*OFFBOARD.values(), EXCLUDE, ALLOW_SERVER, ALLOW_PROBE}
        rows = session.exec(
            select(ExtraField.form, ExtraField.name, ExtraField.id, ExtraFieldData.value)
            .outerjoin(
                ExtraFieldData,
                and_(col(ExtraFieldData.extra_field_id) == col(ExtraField.id), col(ExtraFieldData.id) == 0),
            )
            .where(col(ExtraField.name).in_(names))
        ).all()
        self.ids = {(Form(form), name): id_ for form, name, id_, _ in rows}
        self.defaults = {(Form(form), name): value for form, name, _, value in rows if value is not None}

    def places(self, form: Form, name: str) -> Select[Any]:
        """Ids of the places whose own value of a checkbox is set."""
        own = _values(self.ids.get((form, name)))
        return own.where(col(ExtraFieldData.value) != "0")

    def is_set(self, form: Form, name: str) -> ColumnElement[bool]:
        """Whether a checkbox of one level counts as set for a computer: its place's own value, else the default row."""
        found: ColumnElement[bool] = KEYS[form].in_(self.places(form, name))
        if self.defaults.get((form, name), "0") == "0":
            return found
        return or_(found, KEYS[form].not_in(_values(self.ids.get((form, name)))))

    def is_set_anywhere(self, name: str) -> ColumnElement[bool]:
        """Whether any level has it set, whatever a nearer one says: what flags and exclusions ask."""
        return or_(*(self.is_set(form, name) for form in KEYS))

    def flagged(self) -> ColumnElement[bool]:
        """Whether an offboarding flag of any level reaches a computer."""
        return or_(*(self.is_set(form, name) for form, name in OFFBOARD.items()))

    def flagged_ids(self, *conditions: ColumnElement[bool], limit: int | None = None) -> Any:
        """Ids of all flagged computers that meet the conditions, started from the flags that are set.

        `limit`: at most so many of each level, for a count that need not be exact above it.
        """
        flagged = [KEYS[form].in_(self.places(form, name)) for form, name in OFFBOARD.items()]
        # A default row that is set flags nearly everything: then each computer is asked.
        flagged += [self.is_set(f, name) for f, name in OFFBOARD.items() if self.defaults.get((f, name), "0") != "0"]
        arms = [select(col(Computer.computer_id)).where(one, *conditions) for one in flagged]
        return union(*arms) if limit is None else union(*(select(arm.limit(limit).subquery()) for arm in arms))

    def allows(self, name: str) -> ColumnElement[bool]:
        """Whether an opt-in counts as set: the nearest own value decides, else the nearest default."""
        values: list[Any] = []
        for form in KEYS:
            field = self.ids.get((form, name))
            if field is not None:
                own = select(col(ExtraFieldData.value)).where(
                    col(ExtraFieldData.extra_field_id) == field, col(ExtraFieldData.id) == KEYS[form]
                )
                values.append(own.correlate(Computer).scalar_subquery())
        values += [literal(self.defaults[form, name]) for form in KEYS if (form, name) in self.defaults]
        decided: ColumnElement[str] = func.coalesce(*values, "0", "0")
        return decided.not_in(("", "0"))


def outcome(fields: FieldSets, online_since: datetime, now: datetime | None = None) -> ColumnElement[str]:
    """SQL of an `Outcome` for each computer."""
    moment = now or utcnow()
    me = col(Computer.computer_id)
    return case(
        (col(Computer.retired_at).is_not(None), Outcome.RETIRED.value),
        (fields.is_set_anywhere(EXCLUDE), Outcome.EXCLUDED.value),
        (and_(col(Computer.is_server).is_(True), ~fields.allows(ALLOW_SERVER)), Outcome.SERVER.value),
        (and_(col(Computer.is_probe).is_(True), ~fields.allows(ALLOW_PROBE)), Outcome.PROBE.value),
        (or_(me.in_(_quiet(moment)), me.in_(_resting(moment, fields.dialect))), Outcome.QUIET.value),
        (or_(col(Computer.last_contact).is_(None), col(Computer.last_contact) <= online_since), Outcome.OFFLINE.value),
        else_=Outcome.GOES.value,
    )


def reach(
    session: Session,
    computers: ColumnElement[bool],
    *,
    online_seconds: int,
    samples: int = 8,
    now: datetime | None = None,
) -> Reach:
    """What would become of the computers of a condition if they were flagged. `samples`: examples of each outcome."""
    moment = now or utcnow()
    found = outcome(FieldSets(session), moment - timedelta(seconds=online_seconds), moment)
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


def _values(field_id: int | None) -> Select[Any]:
    query = select(col(ExtraFieldData.id)).where(col(ExtraFieldData.id) > 0)
    return query.where(col(ExtraFieldData.extra_field_id) == field_id if field_id is not None else false())


def _quiet(moment: datetime) -> Select[Any]:
    """Computers that may not be alerted on at a time: never, or not at this hour of the day (UTC)."""
    start, end, clock = col(AgentComputerData.up_time_start), col(AgentComputerData.up_time_end), f"{moment:%H:%M}"
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
