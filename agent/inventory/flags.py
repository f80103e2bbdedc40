"""Which levels of a computer have a checkbox set, and which offboarding flags stay set (facts 3, 11.5; CWA-87)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, false, func, literal, union
from sqlmodel import Session, and_, col, or_, select

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


#: The column of a computer that names its place of a level; the nearest level first.
KEYS: dict[Form, Any] = {
    Form.COMPUTER: col(Computer.computer_id),
    Form.LOCATION: col(Computer.location_id),
    Form.CLIENT: col(Computer.client_id),
}


@dataclass(frozen=True)
class StandingFlag:
    """A client or location flag that is set: a computer that is added later would be offboarded too.

    `place_id` 0 is the default row of the field, which flags every place of the level; it is of no client.
    """

    level: str
    place_id: int
    path: str
    client_id: int | None
    field: str
    since: datetime | None
    #: None: plain SQL
    by: str | None
    #: computers that it reaches and that are not retired
    computers: int

    @property
    def warning(self) -> str:
        """What to say about it."""
        where = f"the {self.level} {self.path}" if self.place_id else self.path
        left = f"{self.computers} of its computers are left" if self.computers else "none of its computers is left"
        return (
            f"{self.field} is still set on {where} ({left}): "
            "a computer that is added later will be offboarded too. Clear the field when the offboarding is over."
        )


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


def standing_flags(session: Session, *, client_id: int | None = None) -> list[StandingFlag]:
    """Client and location flags that are set, and the defaults of flags that are: of one client, or of all."""
    query = (
        select(ExtraField, ExtraFieldData.id)
        .join(ExtraFieldData, col(ExtraFieldData.extra_field_id) == col(ExtraField.id))
        .where(ExtraFieldData.value != "0", col(ExtraField.name).in_(OFFBOARD.values()))
        .where(or_(col(ExtraField.form).in_((Form.CLIENT, Form.LOCATION)), ExtraFieldData.id == 0))
        .order_by(col(ExtraField.form).desc(), col(ExtraFieldData.id))
    )
    found = (_standing(session, field, place_id) for field, place_id in session.exec(query).all())
    return [flag for flag in found if client_id in (None, flag.client_id)]


def _standing(session: Session, field: ExtraField, place_id: int) -> StandingFlag:
    form = Form(field.form)
    level = form.name.lower()
    place = get(session, MODELS[form], place_id) if place_id else None
    last = session.exec(
        select(ExtraFieldChange)
        .where(ExtraFieldChange.extra_field_id == field.id, ExtraFieldChange.id == place_id)
        .order_by(col(ExtraFieldChange.change_id).desc())
    ).first()
    reached = KEYS[form] == place_id if place_id else FieldSets(session).is_set(form, field.name)
    left = select(func.count()).select_from(Computer).where(reached, col(Computer.retired_at).is_(None))
    return StandingFlag(
        level=level, place_id=place_id, path=path(session, place) if place is not None else f"every {level}",
        client_id=place.client_id if place is not None else None, field=field.name,
        since=last.changed_at if last else None, by=last.changed_by if last else None, computers=session.exec(left).one(),
    )  # fmt: skip


def _levels_set(session: Session, computer_ids: Iterable[int], names: dict[Form, str]) -> dict[int, list[str]]:
    fields, ids = FieldSets(session), list(dict.fromkeys(computer_ids))
    result: dict[int, list[str]] = {}
    for start in range(0, len(ids), _CHUNK):
        asked = select(Computer.computer_id).where(col(Computer.computer_id).in_(ids[start : start + _CHUNK]))
        for form, name in names.items():
            for computer_id in session.exec(asked.where(fields.is_set(form, name))):
                result.setdefault(computer_id or 0, []).append(form.name.lower())
    return result


def _values(field_id: int | None) -> Select[Any]:
    """Ids of the places that have a value of their own of a field."""
    query = select(col(ExtraFieldData.id)).where(col(ExtraFieldData.id) > 0)
    return query.where(col(ExtraFieldData.extra_field_id) == field_id if field_id is not None else false())
