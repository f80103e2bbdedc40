"""Which rows of a monitor count: the places behind them, target groups, and the reasons to leave a computer alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from sqlmodel import Session, col, select

from agent.alerting.occurrences import Place
from agent.alerting.windows import parse_clock, within
from agent.content.definitions import MonitorDefinition
from agent.errors import MonitorQueryError
from agent.model.places import (
    AgentComputerData,
    Client,
    Computer,
    ComputerGroup,
    ComputerGroupMember,
    Contact,
    Location,
    MaintenanceMode,
)
from agent.monitoring.rows import MonitorRow

_CHUNK = 500
_T = TypeVar("_T")


@dataclass(frozen=True)
class Match:
    """A row of a place that exists. `skipped` says why nothing is done about it now; None when it counts."""

    row: MonitorRow
    place: Place
    #: The groups that the monitor names and this computer is in, in the monitor's order.
    groups: tuple[str, ...] = ()
    skipped: str | None = None

    @property
    def key(self) -> tuple[int, str]:
        """What its alert is told apart by, within one monitor."""
        return self.row.target_id, self.row.identity


@dataclass(frozen=True)
class Dropped:
    """A row that is no failing row: its place is retired or does not exist."""

    target_id: int
    identity: str
    reason: str
    place: Place | None = None


@dataclass(frozen=True)
class ScopedRows:
    """The rows of a scan, sorted out."""

    matches: tuple[Match, ...]
    dropped: tuple[Dropped, ...]


def scope_rows(
    session: Session, definition: MonitorDefinition, rows: Sequence[MonitorRow], *, now: datetime, zone: ZoneInfo
) -> ScopedRows:
    """Sort out rows. Those of computers outside the target groups are left away: they were not asked about.

    zone: in which the hours of computers and of rows are meant.

    Raises MonitorQueryError when a target group does not exist, or is named for anything but computers.
    """
    ids = {row.target_id for row in rows}
    groups_by_id = groups_of(session, definition, ids)
    places = load_places(session, definition.target, ids)
    reasons = _computer_reasons(session, ids, now, zone) if definition.target == "computer" else {}
    matches: list[Match] = []
    dropped: list[Dropped] = []
    for row in rows:
        groups = groups_by_id.get(row.target_id, ())
        if definition.target_groups and not set(groups) & set(definition.target_groups):
            continue
        place = places.get(row.target_id)
        if place is None or place.retired:
            reason = "retired" if place else f"there is no {definition.target} with this id"
            dropped.append(Dropped(row.target_id, row.identity, reason, place))
        else:
            reason_ = reasons.get(row.target_id) or _row_reason(row, now, zone)
            matches.append(Match(row, place, groups, reason_))
    return ScopedRows(tuple(matches), tuple(dropped))


def load_places(session: Session, kind: str, ids: Collection[int]) -> dict[int, Place]:
    """Places of one kind by their ids; ids that do not exist are absent."""
    places: dict[int, Place] = {}
    for chunk in chunks(ids):
        for place in session.execute(_PLACE_QUERIES[kind](chunk)):
            places[place[0]] = Place(
                kind=kind, id=place[0], name=place[1], client_id=place[2], client_name=place[3], location_id=place[4],
                location_name=place[5], retired=place[6] is not None,
            )  # fmt: skip
    return places


def _computers(ids: Sequence[int]) -> Any:
    return (
        select(
            Computer.computer_id, Computer.name, Computer.client_id, Client.name, Computer.location_id, Location.name,
            Computer.retired_at,
        )  # type: ignore[call-overload]
        .join(Client, col(Client.client_id) == Computer.client_id)
        .join(Location, col(Location.location_id) == Computer.location_id)
        .where(col(Computer.computer_id).in_(ids))
    )  # fmt: skip


def _contacts(ids: Sequence[int]) -> Any:
    return (
        select(
            Contact.contact_id, Contact.name, Contact.client_id, Client.name, Contact.location_id, Location.name, None
        )  # type: ignore[call-overload]
        .join(Client, col(Client.client_id) == Contact.client_id)
        .outerjoin(Location, col(Location.location_id) == Contact.location_id)
        .where(col(Contact.contact_id).in_(ids))
    )  # fmt: skip


def _locations(ids: Sequence[int]) -> Any:
    return (
        select(
            Location.location_id, Location.name, Location.client_id, Client.name, Location.location_id, Location.name,
            None,
        )  # type: ignore[call-overload]
        .join(Client, col(Client.client_id) == Location.client_id)
        .where(col(Location.location_id).in_(ids))
    )  # fmt: skip


def _clients(ids: Sequence[int]) -> Any:
    return select(
        Client.client_id, Client.name, Client.client_id, Client.name, None, None, None
    ).where(col(Client.client_id).in_(ids))  # type: ignore[call-overload]  # fmt: skip


_PLACE_QUERIES = {"computer": _computers, "contact": _contacts, "location": _locations, "client": _clients}


def groups_of(session: Session, definition: MonitorDefinition, ids: Collection[int]) -> dict[int, tuple[str, ...]]:
    """The groups that the monitor names and a computer is in, in the monitor's order; absent when in none.

    Raises MonitorQueryError when a group does not exist, or is named for anything but computers.
    """
    names = tuple(dict.fromkeys((*definition.group_alert_templates, *definition.target_groups)))
    if not names:
        return {}
    if definition.target != "computer":
        raise MonitorQueryError(f"target groups hold computers, but the monitor's target is a {definition.target}")
    groups = session.exec(select(ComputerGroup).where(col(ComputerGroup.full_name).in_(names)))
    known = {group.full_name: group.group_id for group in groups}
    missing = [name for name in names if name not in known]
    if missing:
        raise MonitorQueryError(f"there is no target group {missing[0]!r}: create it, or take it out of the monitor")
    members: set[tuple[int, int]] = set()
    for chunk in chunks(ids):
        found = select(ComputerGroupMember).where(
            col(ComputerGroupMember.group_id).in_(list(known.values())), col(ComputerGroupMember.computer_id).in_(chunk)
        )
        members |= {(member.computer_id, member.group_id) for member in session.exec(found)}
    found_ = {id_: tuple(name for name in names if (id_, known[name]) in members) for id_ in ids}
    return {id_: groups_ for id_, groups_ in found_.items() if groups_}


def _computer_reasons(session: Session, ids: Collection[int], now: datetime, zone: ZoneInfo) -> dict[int, str]:
    """Computers that are to be left alone now: maintenance mode, no alerts, outside their hours (CWA-43)."""
    reasons: dict[int, str] = {}
    for chunk in chunks(ids):
        for data in session.exec(select(AgentComputerData).where(col(AgentComputerData.computer_id).in_(chunk))):
            reason = hours_reason(data.no_alerts, data.up_time_start, data.up_time_end, now, zone)
            if reason:
                reasons[data.computer_id] = reason
        modes = select(MaintenanceMode).where(
            col(MaintenanceMode.computer_id).in_(chunk), col(MaintenanceMode.time_start) <= now
        )
        for mode in session.exec(modes):
            if now < mode.until:
                reasons[mode.computer_id] = f"maintenance mode until {mode.until:%Y-%m-%d %H:%M} UTC"
    return reasons


def _row_reason(row: MonitorRow, now: datetime, zone: ZoneInfo) -> str | None:
    return row.skip_reason or hours_reason(row.no_alerts, row.up_time_start, row.up_time_end, now, zone)


def hours_reason(no_alerts: bool, start: str | None, end: str | None, now: datetime, zone: ZoneInfo) -> str | None:
    """Why `NoAlerts`, `UpTimeStart` and `UpTimeEnd` (in the zone) forbid an alert now, or None.

    Hours that cannot be read forbid it too: what is about to be done may be destructive.
    """
    if no_alerts:
        return "NoAlerts is set"
    try:
        first, last = parse_clock(start) if start else None, parse_clock(end) if end else None
    except ValueError as error:
        return f"its UpTimeStart or UpTimeEnd is unusable: {error}"
    if (first or last) and not within(first, last, now, zone):
        return f"outside its hours {start or '00:00'} to {end or '24:00'} {zone.key}"
    return None


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists that fit into one statement."""
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
