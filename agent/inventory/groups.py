"""Groups of computers that monitors can be limited to, and the times in which a computer is left alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete
from sqlmodel import Session, col, select

from agent import audit
from agent.errors import Conflict, NotFound, UsageError
from agent.inventory.columns import near
from agent.inventory.lookup import get
from agent.model.base import utcnow
from agent.model.places import AgentComputerData, Computer, ComputerGroup, ComputerGroupMember, MaintenanceMode

#: Minutes; who means longer retires the computer, or excludes it.
LONGEST_MAINTENANCE = 525_600


def groups(session: Session) -> list[ComputerGroup]:
    """All groups by name."""
    return list(session.exec(select(ComputerGroup).order_by(col(ComputerGroup.full_name))))


def group(session: Session, name: str) -> ComputerGroup:
    """The group of that name. Raises NotFound with near names."""
    found = session.exec(select(ComputerGroup).where(ComputerGroup.full_name == name)).first()
    if found is None:
        raise NotFound(f"there is no group {name!r}" + near(name, [g.full_name for g in groups(session)]))
    return found


def add_group(session: Session, name: str, *, actor: str) -> ComputerGroup:
    """Make an empty group. Raises Conflict when there is one of that name."""
    if not name.strip():
        raise UsageError("a group needs a name")
    if session.exec(select(ComputerGroup).where(ComputerGroup.full_name == name)).first():
        raise Conflict(f"there is a group {name!r} already")
    made = ComputerGroup(full_name=name)
    session.add(made)
    session.flush()
    audit.record(session, actor=actor, action="group.add", object_kind="group", object_id=name)
    return made


def remove_group(session: Session, name: str, *, actor: str) -> None:
    """Remove a group; its computers stay."""
    found = group(session, name)
    session.execute(delete(ComputerGroupMember).where(col(ComputerGroupMember.group_id) == found.group_id))
    session.delete(found)
    audit.record(session, actor=actor, action="group.remove", object_kind="group", object_id=name)


def members(session: Session, name: str) -> list[int]:
    """Ids of the group's computers, ascending."""
    query = select(ComputerGroupMember.computer_id).where(ComputerGroupMember.group_id == group(session, name).group_id)
    return list(session.exec(query.order_by(col(ComputerGroupMember.computer_id))))


def add_members(session: Session, name: str, computer_ids: Iterable[int], *, actor: str) -> list[int]:
    """Put computers into a group; ids of those that were not in it before."""
    found = group(session, name)
    assert found.group_id is not None
    present = set(members(session, name))
    new = [get(session, Computer, i).computer_id or 0 for i in dict.fromkeys(computer_ids) if i not in present]
    session.add_all(ComputerGroupMember(group_id=found.group_id, computer_id=i) for i in new)
    if new:
        _record_members(session, name, actor, "group.add_members", new)
    return new


def remove_members(session: Session, name: str, computer_ids: Iterable[int], *, actor: str) -> list[int]:
    """Take computers out of a group; ids of those that were in it."""
    found = group(session, name)
    present = set(members(session, name))
    gone = [i for i in dict.fromkeys(computer_ids) if i in present]
    for computer_id in gone:
        session.execute(
            delete(ComputerGroupMember).where(
                col(ComputerGroupMember.group_id) == found.group_id, col(ComputerGroupMember.computer_id) == computer_id
            )
        )
    if gone:
        _record_members(session, name, actor, "group.remove_members", gone)
    return gone


def maintenance_on(
    session: Session, computer_id: int, *, minutes: int, actor: str, start: datetime | None = None
) -> MaintenanceMode:
    """Dispatch nothing to a computer for some minutes (1 to LONGEST_MAINTENANCE), from `start` (aware) or from now."""
    if not 1 <= minutes <= LONGEST_MAINTENANCE:
        raise UsageError(f"maintenance lasts at least 1 and at most {LONGEST_MAINTENANCE} minutes, which is a year")
    computer = get(session, Computer, computer_id)
    start = start or utcnow()
    mode = MaintenanceMode(computer_id=computer_id, time_start=start, duration=minutes, user_id=actor)
    session.add(mode)
    session.flush()
    audit.record(
        session, actor=actor, action="maintenance.on", object_kind="computer", object_id=computer_id,
        client_id=computer.client_id, details={"start": start, "minutes": minutes},
    )  # fmt: skip
    return mode


def maintenance_off(session: Session, computer_id: int, *, actor: str) -> int:
    """End present and future maintenance of a computer; how many periods were ended."""
    computer = get(session, Computer, computer_id)
    now = utcnow()
    ended = [m for m in _modes(session, [computer_id]) if m.until > now]
    for mode in ended:
        session.delete(mode)
    if ended:
        audit.record(
            session, actor=actor, action="maintenance.off", object_kind="computer", object_id=computer_id,
            client_id=computer.client_id, details={"periods": len(ended)},
        )  # fmt: skip
    return len(ended)


def in_maintenance(session: Session, computer_ids: Sequence[int], *, now: datetime | None = None) -> set[int]:
    """Those of the computers that are in maintenance."""
    moment = now or utcnow()
    return {m.computer_id for m in _modes(session, computer_ids) if m.time_start <= moment < m.until}


def set_alerting(
    session: Session, computer_id: int, *, actor: str, no_alerts: bool | None = None,
    window: tuple[str, str] | None = None, clear_window: bool = False,
) -> AgentComputerData:  # fmt: skip
    """When a computer may be alerted on: not at all, or only between two times of the day (`HH:MM`, in the installation's time zone)."""
    computer = get(session, Computer, computer_id)
    data = session.get(AgentComputerData, computer_id) or AgentComputerData(computer_id=computer_id)
    old = data.model_dump(exclude={"computer_id"})
    if no_alerts is not None:
        data.no_alerts = no_alerts
    if window is not None:
        if not all(re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", t) for t in window):
            raise UsageError(f"{window[0]!r} to {window[1]!r} is no window: write both as HH:MM")
        data.up_time_start, data.up_time_end = window
    elif clear_window:
        data.up_time_start = data.up_time_end = None
    session.add(data)
    session.flush()
    new = data.model_dump(exclude={"computer_id"})
    if new != old:
        audit.record(
            session, actor=actor, action="computer.alerting", object_kind="computer", object_id=computer_id,
            client_id=computer.client_id, details={"old": old, "new": new},
        )  # fmt: skip
    return data


def _modes(session: Session, computer_ids: Sequence[int]) -> list[MaintenanceMode]:
    found: list[MaintenanceMode] = []
    for start in range(0, len(computer_ids), 500):
        chunk = computer_ids[start : start + 500]
        found += session.exec(select(MaintenanceMode).where(col(MaintenanceMode.computer_id).in_(chunk)))
    return found


def _record_members(session: Session, name: str, actor: str, action: str, ids: list[int]) -> None:
    audit.record(session, actor=actor, action=action, object_kind="group", object_id=name, details={"computers": ids})
