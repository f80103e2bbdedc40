"""What an offboarding leaves behind: flagged computers that stay offline (CWA-84), flags that stay set (CWA-87)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Select, func
from sqlmodel import Session, col, or_, select

from agent.model.base import utcnow
from agent.model.fields import ExtraField, ExtraFieldChange, ExtraFieldData, Form
from agent.model.places import Client, Computer, Location
from agent.settings import Settings

EXCLUSION_FIELD = "Exclude From Offboarding"
_WORDS = {Form.CLIENT: "client", Form.LOCATION: "location", Form.COMPUTER: "computer"}
_KEYS: dict[Form, Any] = {
    Form.CLIENT: col(Computer.client_id), Form.LOCATION: col(Computer.location_id), Form.COMPUTER: col(Computer.computer_id),
}  # fmt: skip


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


@dataclass(frozen=True)
class StandingFlag:
    """A client's or location's flag that is set: a computer that is added later would be offboarded too."""

    level: str
    place_id: int
    name: str
    client_id: int
    field: str
    since: datetime | None
    #: None: plain SQL
    by: str | None
    #: computers under it that are not retired
    computers: int

    @property
    def warning(self) -> str:
        """What to say about it."""
        left = f"{self.computers} of its computers are left" if self.computers else "none of its computers is left"
        return (
            f"{self.field} is still set on the {self.level} {self.name} ({left}): "
            "a computer that is added later will be offboarded too. Clear the field when the offboarding is over."
        )


def flagged_places(form: Form) -> Select[Any]:
    """Ids of the places of a level on which a destructive checkbox is set."""
    return _places_with(form, col(ExtraField.is_destructive).is_(True))


def leftovers(
    session: Session, settings: Settings, *, client_id: int | None = None, now: datetime | None = None
) -> list[Leftover]:
    """Flagged computers that are offline, by client and name; excluded and retired ones are left out."""
    now = now or utcnow()
    recent = now - timedelta(seconds=settings.online_seconds)
    excluded = [_KEYS[f].in_(_places_with(f, col(ExtraField.name) == EXCLUSION_FIELD)) for f in _KEYS]
    query = (
        select(Computer, Client, Location)
        .join(Client, col(Client.client_id) == col(Computer.client_id))
        .join(Location, col(Location.location_id) == col(Computer.location_id))
        .where(
            or_(*(_KEYS[f].in_(flagged_places(f)) for f in _KEYS)), ~or_(*excluded),
            col(Computer.retired_at).is_(None),
            or_(col(Computer.last_contact).is_(None), col(Computer.last_contact) <= recent),
        )
        .order_by(Client.name, Computer.name)
    )  # fmt: skip
    if client_id is not None:
        query = query.where(Computer.client_id == client_id)
    return [_leftover(row, settings, now) for row in session.exec(query)]


def standing_flags(session: Session, *, client_id: int | None = None) -> list[StandingFlag]:
    """Client and location flags that are set, by name."""
    found = [*_standing(session, Form.CLIENT, Client), *_standing(session, Form.LOCATION, Location)]
    return sorted((f for f in found if client_id in (None, f.client_id)), key=lambda f: (f.level, f.name))


def _places_with(form: Form, condition: Any) -> Select[Any]:
    return (
        select(ExtraFieldData.id)
        .join(ExtraField, col(ExtraField.id) == col(ExtraFieldData.extra_field_id))
        .where(ExtraField.form == int(form), condition, ExtraFieldData.id != 0)
        .where(col(ExtraFieldData.value).not_in(("", "0")))
    )


def _leftover(row: tuple[Computer, Client, Location], settings: Settings, now: datetime) -> Leftover:
    computer, client, location = row
    assert computer.computer_id is not None
    since = computer.last_contact or computer.date_added
    days = settings.offline_expiry_days
    expired = days is not None and since is not None and now - since > timedelta(days=days)
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


def _standing(session: Session, form: Form, model: Any) -> Iterable[StandingFlag]:
    key = f"{_WORDS[form]}_id"
    query = (
        select(model, ExtraField)
        .join(ExtraFieldData, col(ExtraFieldData.id) == getattr(model, key))
        .join(ExtraField, col(ExtraField.id) == col(ExtraFieldData.extra_field_id))
        .where(ExtraField.form == int(form), col(ExtraField.is_destructive).is_(True))
        .where(col(ExtraFieldData.value).not_in(("", "0")))
    )
    for place, field in session.exec(query).all():
        place_id = getattr(place, key)
        last = session.exec(
            select(ExtraFieldChange)
            .where(ExtraFieldChange.extra_field_id == field.id, ExtraFieldChange.id == place_id)
            .order_by(col(ExtraFieldChange.change_id).desc())
        ).first()
        left = (
            select(func.count())
            .select_from(Computer)
            .where(_KEYS[form] == place_id, col(Computer.retired_at).is_(None))
        )
        yield StandingFlag(
            _WORDS[form], place_id, place.name, place.client_id, field.name, last.changed_at if last else None,
            last.changed_by if last else None, session.exec(left).one(),
        )  # fmt: skip
