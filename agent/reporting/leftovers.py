"""What an offboarding leaves behind: flagged computers that stay offline (CWA-84)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlmodel import Session, col, or_, select

from agent.inventory.flags import EXCLUDE, FieldSets
from agent.model.base import utcnow
from agent.model.places import Client, Computer, Location
from agent.settings import Settings


@dataclass(frozen=True)
class Leftover:
    """A flagged computer that no run can reach. It is reported; nothing is forced."""

    computer_id: int
    name: str
    client_id: int
    client: str
    location: str
    last_contact: datetime | None
    #: offline; never_contacted; expired: offline longer than the setting offline_expiry_days
    state: Literal["offline", "never_contacted", "expired"]


def leftovers(
    session: Session, settings: Settings, *, client_id: int | None = None, now: datetime | None = None
) -> list[Leftover]:
    """Flagged computers that are offline, by client and name; excluded and retired ones are left out."""
    now = now or utcnow()
    recent = now - timedelta(seconds=settings.online_seconds)
    fields = FieldSets(session)
    offline = or_(col(Computer.last_contact).is_(None), col(Computer.last_contact) <= recent)
    flagged = fields.flagged_ids(col(Computer.retired_at).is_(None), offline)
    query = (
        select(Computer, Client, Location)
        .join(Client, col(Client.client_id) == col(Computer.client_id))
        .join(Location, col(Location.location_id) == col(Computer.location_id))
        .where(col(Computer.computer_id).in_(flagged), ~fields.is_set_anywhere(EXCLUDE))
        .order_by(Client.name, Computer.name)
    )
    if client_id is not None:
        query = query.where(Computer.client_id == client_id)
    return [_leftover(row, settings, now) for row in session.exec(query)]


def _leftover(row: tuple[Computer, Client, Location], settings: Settings, now: datetime) -> Leftover:
    computer, client, location = row
    assert computer.computer_id is not None
    since = computer.last_contact or computer.date_added
    expired = since is not None and now - since > timedelta(days=settings.offline_expiry_days)
    state: Literal["offline", "never_contacted", "expired"] = (
        "expired" if expired else "offline" if computer.last_contact else "never_contacted"
    )
    return Leftover(
        computer.computer_id,
        computer.name,
        computer.client_id,
        client.name,
        location.name,
        computer.last_contact,
        state,
    )
