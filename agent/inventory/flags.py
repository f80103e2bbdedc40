"""Which levels of a computer have a checkbox set, and which offboarding flags stay set (facts 3, 11.5; CWA-87)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, and_, col, func, or_, select

from agent.inventory.lookup import MODELS, get, path
from agent.model.fields import ExtraField, ExtraFieldChange, ExtraFieldData, Form
from agent.model.places import Computer

#: The flag of each level.
OFFBOARD = {
    Form.CLIENT: "Offboard Client",
    Form.LOCATION: "Offboard Location",
    Form.COMPUTER: "Offboard Computer",
}
EXCLUDE = "Exclude From Offboarding"
ALLOW_SERVER = "Allow Server Offboarding"
ALLOW_PROBE = "Allow Probe Offboarding"
_CHUNK = 500


@dataclass(frozen=True)
class StandingFlag:
    """A client or location flag that is set: a computer that is added later would be offboarded too.

    `place_id` 0 is the default of the field, which flags every place of the level.
    """

    level: str
    place_id: int
    path: str
    client_id: int | None
    field: str


def flags(session: Session, computer_ids: Sequence[int]) -> dict[int, list[str]]:
    """Computer id -> levels whose offboarding flag is set for it, of client, location, computer; unflagged ones are absent."""
    return _levels_set(session, computer_ids, OFFBOARD)


def levels_set(session: Session, name: str, computer_ids: Sequence[int]) -> dict[int, list[str]]:
    """The same for a checkbox that exists on each level, such as `Exclude From Offboarding`."""
    return _levels_set(session, computer_ids, dict.fromkeys(OFFBOARD, name))


def cleared_since(session: Session, computer_id: int, moment: datetime) -> bool:
    """Whether no offboarding flag reaches a computer any more because one was cleared after `moment`.

    By the database's own log of changes, so a clearing by plain SQL counts as well.
    """
    if flags(session, [computer_id]):
        return False
    computer = session.get_one(Computer, computer_id)
    around = {Form.CLIENT: computer.client_id, Form.LOCATION: computer.location_id, Form.COMPUTER: computer_id}
    reaching = [
        and_(ExtraField.form == form, ExtraField.name == OFFBOARD[form], col(ExtraFieldChange.id).in_((0, place)))
        for form, place in around.items()
    ]
    query = (
        select(ExtraFieldChange.change_id)
        .join(ExtraField, col(ExtraField.id) == col(ExtraFieldChange.extra_field_id))
        .where(or_(*reaching), col(ExtraFieldChange.changed_at) >= moment)
        .where(func.coalesce(ExtraFieldChange.old_value, "0") != "0")
    )
    return session.exec(query.limit(1)).first() is not None


def standing_flags(session: Session) -> list[StandingFlag]:
    """Client and location flags that are set, and the defaults of flags that are."""
    query = (
        select(ExtraField.form, ExtraField.name, ExtraFieldData.id)
        .join(ExtraFieldData, col(ExtraFieldData.extra_field_id) == col(ExtraField.id))
        .where(ExtraFieldData.value != "0", col(ExtraField.name).in_(OFFBOARD.values()))
        .where(or_(col(ExtraField.form).in_((Form.CLIENT, Form.LOCATION)), ExtraFieldData.id == 0))
        .order_by(col(ExtraField.form).desc(), col(ExtraFieldData.id))
    )
    found: list[StandingFlag] = []
    for form, name, place_id in session.exec(query).all():
        place = get(session, MODELS[Form(form)], place_id) if place_id else None
        where = path(session, place) if place is not None else f"every {Form(form).name.lower()}"
        client_id = place.client_id if place is not None else None
        found.append(StandingFlag(Form(form).name.lower(), place_id, where, client_id, name))
    return found


def _levels_set(session: Session, computer_ids: Iterable[int], names: dict[Form, str]) -> dict[int, list[str]]:
    ids = list(dict.fromkeys(computer_ids))
    defaults = {form for form, row in _set_rows(session, names, {form: [0] for form in names}) if row == 0}
    result: dict[int, list[str]] = {}
    for start in range(0, len(ids), _CHUNK):
        columns = select(Computer.computer_id, Computer.location_id, Computer.client_id)
        rows = session.exec(columns.where(col(Computer.computer_id).in_(ids[start : start + _CHUNK]))).all()
        places = {
            Form.CLIENT: [client for _, _, client in rows],
            Form.LOCATION: [location for _, location, _ in rows],
            Form.COMPUTER: [computer or 0 for computer, _, _ in rows],
        }
        is_set = _set_rows(session, names, places)
        own = _set_rows(session, names, places, any_value=True) if defaults else set()
        for computer, location, client in rows:
            around = ((Form.CLIENT, client), (Form.LOCATION, location), (Form.COMPUTER, computer or 0))
            levels = [
                form.name.lower()
                for form, place in around
                if (form, place) in is_set or (form in defaults and (form, place) not in own)
            ]
            if levels:
                result[computer or 0] = levels
    return result


def _set_rows(
    session: Session, names: dict[Form, str], places: dict[Form, list[int]], *, any_value: bool = False
) -> set[tuple[Form, int]]:  # fmt: skip
    """(level, place) whose field is set; with `any_value` those that have a value of their own at all."""
    wanted = [
        and_(ExtraField.form == form, ExtraField.name == name, col(ExtraFieldData.id).in_(sorted(set(places[form]))))
        for form, name in names.items()
    ]
    query = (
        select(ExtraField.form, ExtraFieldData.id)
        .join(ExtraFieldData, col(ExtraFieldData.extra_field_id) == col(ExtraField.id))
        .where(or_(*wanted))
    )
    if not any_value:
        query = query.where(ExtraFieldData.value != "0")
    return {(Form(form), place) for form, place in session.exec(query)}
