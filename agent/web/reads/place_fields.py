"""The extra fields of one place in their sections: its own value, the default, and what counts from the places around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, func, select

from agent.audit import MASK
from agent.errors import UsageError
from agent.inventory import extra_fields, field_values
from agent.inventory.effective import NEAREST_FIRST
from agent.inventory.field_values import EffectiveValue
from agent.inventory.lookup import FORMS, Place, place_id
from agent.model.fields import ExtraField, ExtraFieldChange, ExtraFieldData, FieldType, Form
from agent.model.places import Client, Location

#: Names of the form's inputs: `field-7` is the value of the field 7, `clear-7` gives it up.
VALUE, CLEAR = "field-", "clear-"


class FieldRow(BaseModel):
    """A field of a place. Secrets are masked."""

    id: int
    name: str
    type: str
    tooltip: str
    options: list[str]
    #: The place's own value, and the default of the field.
    own: str | None
    default: str | None
    #: What counts for the place, and where that comes from, in words.
    counts: str | None
    source: str
    destructive: bool
    fixed: bool

    @property
    def shown(self) -> str:
        """What its input shows: the own value; of a checkbox also the default."""
        if self.type == "secret":
            return ""
        found = self.own if self.own is not None or self.type != "checkbox" else self.default
        return found or ""

    @property
    def spoken(self) -> str:
        """What counts, for people."""
        if self.type == "checkbox":
            return "yes" if self.counts == "1" else "no"
        return self.counts or ""


class Section(BaseModel):
    """Fields that stand together."""

    name: str
    fields: list[FieldRow]


class Change(BaseModel):
    """What a posted form asks of one field. `value` None: its own value is given up."""

    field_id: int
    name: str
    value: str | None


def sections(session: Session, place: Place) -> list[Section]:
    """All fields of a place's level but hidden ones, in the order of their sections."""
    form = FORMS[type(place)]
    of_level = [f for f in extra_fields.fields(session, form) if not f.is_hidden]
    around = {level: field_values.values_of(session, level, i) for level, i in _around(place).items()}
    own, default = (_values(session, of_level, row) for row in (place_id(place), field_values.DEFAULT_ROW))
    found: dict[str, Section] = {}
    for field in of_level:
        counts, source = _counting(field, form, around)
        section = found.setdefault(field.section, Section(name=field.section or "General", fields=[]))
        section.fields.append(
            FieldRow(
                id=field.id or 0, name=field.name, type=FieldType(field.ftype).name.lower(),
                tooltip=extra_fields.tooltip(field), options=extra_fields.options(field), own=own.get(field.id or 0),
                default=default.get(field.id or 0), counts=counts, source=source, destructive=field.is_destructive,
                fixed=field.uneditable,
            )
        )  # fmt: skip
    return list(found.values())


def version(session: Session, place: Place) -> int:
    """The last change of any field of the place: a form that was filled in before another change is noticed by it."""
    ids = [f.id for f in extra_fields.fields(session, FORMS[type(place)])]
    query = select(func.max(ExtraFieldChange.change_id)).where(
        col(ExtraFieldChange.extra_field_id).in_(ids), col(ExtraFieldChange.id) == place_id(place)
    )
    return session.scalar(query) or 0


def asked(found: Sequence[Section], posted: Mapping[str, str]) -> list[Change]:
    """What a posted form changes. Raises UsageError for an input that the form does not have."""
    rows = {row.id: row for section in found for row in section.fields if not (row.fixed or row.destructive)}
    for name in posted:
        number = name.removeprefix(VALUE).removeprefix(CLEAR)
        if not number.isascii() or not number.isdecimal() or int(number) not in rows:
            raise UsageError(f"the form has no field {name!r}: load the page again and repeat it")
    changes = [_change(row, posted) for row in rows.values()]
    return [change for change in changes if change is not None]


def faults(session: Session, form: Form, changes: Sequence[Change]) -> dict[int, str]:
    """Field id -> why its new value cannot be; nothing is stored."""
    wrong: dict[int, str] = {}
    for change in changes:
        field = extra_fields.get_field(session, form, change.name)
        try:
            if change.value is not None:
                field_values.checked_value(session, field, change.value)
        except UsageError as error:
            wrong[change.field_id] = str(error)
    return wrong


def _change(row: FieldRow, posted: Mapping[str, str]) -> Change | None:
    value: str | None = posted.get(f"{VALUE}{row.id}")
    if f"{CLEAR}{row.id}" in posted:
        value = None
    elif row.type == "checkbox":
        value = "1" if value is not None else "0"
        if value == (row.shown or "0"):
            return None
    elif row.type == "secret" and not value:
        return None
    elif value is None or value == row.shown:
        # A browser sends every text; what is absent was not in the form.
        return None
    elif value == "":
        value = None
    return None if value is None and row.own is None else Change(field_id=row.id, name=row.name, value=value)


def _around(place: Place) -> dict[Form, int]:
    """The place and those around it: level -> id."""
    found = {FORMS[type(place)]: place_id(place)}
    if not isinstance(place, Client):
        found[Form.CLIENT] = place.client_id
        if not isinstance(place, Location) and place.location_id is not None:
            found[Form.LOCATION] = place.location_id
    return found


def _counting(
    field: ExtraField, form: Form, around: Mapping[Form, Mapping[str, EffectiveValue]]
) -> tuple[str | None, str]:
    """What counts for a field's name: the nearest own value, else the nearest default. A secret stays at its level."""
    nearest = [f for f in NEAREST_FIRST if f in around and (f == form or field.ftype != FieldType.SECRET)]
    for origin, words in (("own", "its {}"), ("default", "the default of its {}")):
        for level in nearest:
            value = around[level].get(field.name)
            if value is not None and value.origin == origin:
                here = "itself" if origin == "own" else "the default"
                return value.value, here if level == form else words.format(level.name.lower())
    return None, "nothing"


def _values(session: Session, of_level: Sequence[ExtraField], row: int) -> dict[int, str]:
    secret = {f.id for f in of_level if f.ftype == FieldType.SECRET}
    query = select(ExtraFieldData.extra_field_id, ExtraFieldData.value).where(
        col(ExtraFieldData.id) == row, col(ExtraFieldData.extra_field_id).in_([f.id for f in of_level])
    )
    found: Any = session.exec(query).all()
    return {i: MASK if i in secret else value for i, value in found}
