"""Values of extra data fields: set, clear, default, and what counts for a place, with where it comes from (facts 11.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from sqlalchemy import ColumnElement, Table, delete, text, update
from sqlmodel import Session, SQLModel, col, select

from agent import audit
from agent.errors import Conflict, UsageError
from agent.inventory.extra_fields import fields, get_field, options
from agent.inventory.lookup import MODELS, get
from agent.model.fields import ExtraField, ExtraFieldAlias, ExtraFieldData, FieldType, Form
from agent.secrets import SecretBox

_DATA: Table = SQLModel.metadata.tables["extrafielddata"]
#: The row of this id is the default of the field.
DEFAULT_ROW = 0
_UPSERT = text(
    "INSERT INTO extrafielddata (extrafieldid, id, value, changedby) VALUES (:field, :place, :value, :actor)"
    " ON CONFLICT (extrafieldid, id) DO UPDATE SET value = excluded.value, changedby = excluded.changedby"
    " WHERE extrafielddata.value <> excluded.value"
)
_CHUNK = 500
_ZERO_WHEN_UNSET = (FieldType.TEXT, FieldType.CHECKBOX, FieldType.DROPDOWN)


@dataclass(frozen=True)
class EffectiveValue:
    """What counts for a place. `origin`: its own value, the field's default row, or nothing.

    Without any value a text, checkbox or dropdown reads as `0`, a date, number or secret as nothing. A secret is masked.
    """

    value: str | None
    origin: Literal["own", "default", "nothing"]

    @property
    def is_set(self) -> bool:
        """Whether a checkbox counts as ticked, or another field as filled in."""
        return self.value not in (None, "", "0")


def set_value(
    session: Session, form: Form, place_id: int, name: str, value: str, *, actor: str, secrets: SecretBox | None = None
) -> str:  # fmt: skip
    """Set a field of a place; the value as stored. A secret is given in clear and needs `secrets`, which encrypts it.

    Raises NotFound for an unknown place or field, UsageError for a value that the field does not take.
    """
    get(session, MODELS[form], place_id)
    return _store(session, get_field(session, form, name), place_id, value, actor, secrets)


def tick(session: Session, form: Form, place_ids: Sequence[int], name: str, ticked: bool, *, actor: str) -> int:
    """Set a checkbox of many places of one level at once; for how many it was another value. Untick stores nothing where
    nothing was and the default is none.

    Raises UsageError when the field is no checkbox, Conflict when a place is not there.
    """
    field = get_field(session, form, name)
    if field.ftype != FieldType.CHECKBOX:
        raise UsageError(f"the field {field.name!r} is no checkbox")
    value, by_default = ("1" if ticked else "0"), _effective(session, [field], DEFAULT_ROW)[0].value
    ids = list(dict.fromkeys(place_ids))
    changing: list[int] = []
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        query = select(ExtraFieldData.id, ExtraFieldData.value).where(
            col(ExtraFieldData.extra_field_id) == field.id, col(ExtraFieldData.id).in_(chunk)
        )
        own: dict[int, str] = dict(session.exec(query).all())
        changing += [i for i in chunk if own.get(i, by_default) != value]
    if changing:
        rows = [{"field": field.id, "place": i, "value": value, "actor": actor} for i in changing]
        session.execute(_UPSERT, rows)
        audit.seal_changes(session)
    return len(changing)


def clear_value(session: Session, form: Form, place_id: int, name: str, *, actor: str) -> bool:
    """Remove a place's own value, so that the default counts; False if there was none."""
    get(session, MODELS[form], place_id)
    return _clear(session, get_field(session, form, name), place_id, actor)


def clear_all(session: Session, form: Form, place_id: int, *, actor: str) -> int:
    """Remove all own values of a place of one level, as the log then shows them; how many there were."""
    of_level = select(ExtraField.id).where(ExtraField.form == int(form))
    return _remove(session, actor, _DATA.c.id == place_id, _DATA.c.extrafieldid.in_(of_level))


def set_default(
    session: Session, form: Form, name: str, value: str, *, actor: str, secrets: SecretBox | None = None,
    allow_destructive_default: bool = False,
) -> str:  # fmt: skip
    """Set the default of a field. Ticking that of a destructive one flags every place: Conflict, unless it is allowed."""
    field = get_field(session, form, name)
    if field.is_destructive and value != "0" and not allow_destructive_default:
        raise Conflict(
            f"the default of {field.name!r} would flag every {form.name.lower()}: if that is meant, say so with "
            "`exeunt edf default --flag-every-place`"
        )
    return _store(session, field, DEFAULT_ROW, value, actor, secrets)


def clear_default(session: Session, form: Form, name: str, *, actor: str) -> bool:
    """Remove the default of a field; False if there was none."""
    return _clear(session, get_field(session, form, name), DEFAULT_ROW, actor)


def effective_value(session: Session, form: Form, place_id: int, name: str) -> EffectiveValue:
    """What counts of one field for a place. Raises NotFound."""
    get(session, MODELS[form], place_id)
    return _effective(session, [get_field(session, form, name)], place_id)[0]


def values_of(session: Session, form: Form, place_id: int) -> dict[str, EffectiveValue]:
    """Field name -> what counts, for all fields of a place's own level in the order of `fields`. Raises NotFound."""
    get(session, MODELS[form], place_id)
    of_level = fields(session, form)
    return dict(zip([f.name for f in of_level], _effective(session, of_level, place_id), strict=True))


def secret_value(session: Session, form: Form, place_id: int, name: str, secrets: SecretBox) -> str | None:
    """A secret field of a place (or its default) in clear, None if there is none. For use, not for display."""
    field = get_field(session, form, name)
    if field.ftype != FieldType.SECRET:
        raise UsageError(f"the field {field.name!r} is no secret")
    for row in (place_id, DEFAULT_ROW):
        stored = session.scalar(select(_DATA.c.value).where(_DATA.c.extrafieldid == field.id, _DATA.c.id == row))
        if stored is not None:
            return secrets.decrypt(stored, purpose=_purpose(field, row))
    return None


def checked_value(session: Session, field: ExtraField, value: str, aliases: Mapping[str, str] | None = None) -> str:
    """The value as the field stores it: an alias becomes its option, a date or number is checked. Raises UsageError."""
    where = f"the field {field.name!r}"
    if "\0" in value:
        raise UsageError(f"{where} cannot hold a NUL character")
    kind = FieldType(field.ftype)
    if kind is FieldType.CHECKBOX and value not in ("0", "1"):
        raise UsageError(f"{where} is a checkbox, which is 0 or 1, not {value!r}")
    if kind is FieldType.DROPDOWN and value != "":
        if aliases is None:
            aliases = aliases_of(session, field)
        value = aliases.get(value, value)
        if value not in options(field):
            raise UsageError(f"{value!r} is none of the options of {field.name!r}: {', '.join(options(field))}")
    if kind is FieldType.DATE and not _is_date(value):
        raise UsageError(f"{where} is a date, written as YYYY-MM-DD, not {value!r}")
    if kind is FieldType.NUMBER and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        raise UsageError(f"{where} is a number, written as digits such as 12, -3 or 0.5, not {value!r}")
    return value


def aliases_of(session: Session, field: ExtraField) -> dict[str, str]:
    """Accepted other spellings of a dropdown's options."""
    query = select(ExtraFieldAlias).where(ExtraFieldAlias.extra_field_id == field.id)
    return {a.alias: a.value for a in session.exec(query)}


def _store(session: Session, field: ExtraField, row: int, value: str, actor: str, secrets: SecretBox | None) -> str:
    if field.ftype == FieldType.SECRET:
        if secrets is None:
            raise UsageError(f"the field {field.name!r} is a secret: it can only be set where the key is at hand")
        value = secrets.encrypt(value, purpose=_purpose(field, row))
    else:
        value = checked_value(session, field, value)
    session.execute(_UPSERT, {"field": field.id, "place": row, "value": value, "actor": actor})
    audit.seal_changes(session)
    return value if field.ftype != FieldType.SECRET else audit.MASK


def _clear(session: Session, field: ExtraField, row: int, actor: str) -> bool:
    return bool(_remove(session, actor, _DATA.c.extrafieldid == field.id, _DATA.c.id == row))


def _remove(session: Session, actor: str, *mine: ColumnElement[bool]) -> int:
    # The trigger takes who deletes it from the row.
    session.execute(update(_DATA).where(*mine).values(changedby=actor))
    gone = session.execute(delete(_DATA).where(*mine))
    audit.seal_changes(session)
    return int(getattr(gone, "rowcount", 0))


def _effective(session: Session, wanted: list[ExtraField], place_id: int) -> list[EffectiveValue]:
    query = select(ExtraFieldData.extra_field_id, ExtraFieldData.id, ExtraFieldData.value).where(
        col(ExtraFieldData.extra_field_id).in_([f.id for f in wanted]),
        col(ExtraFieldData.id).in_((place_id, DEFAULT_ROW)),
    )
    stored = {(field_id, row): value for field_id, row, value in session.exec(query)}
    found: list[EffectiveValue] = []
    for field in wanted:
        own, default = stored.get((field.id or 0, place_id)), stored.get((field.id or 0, DEFAULT_ROW))
        value = own if own is not None else default
        if value is None:
            found.append(EffectiveValue("0" if field.ftype in _ZERO_WHEN_UNSET else None, "nothing"))
        else:
            shown = audit.MASK if field.ftype == FieldType.SECRET else value
            found.append(EffectiveValue(shown, "own" if own is not None else "default"))
    return found


def _purpose(field: ExtraField, row: int) -> str:
    """A token that is copied to another field or place is refused."""
    return f"extra field {field.ltguid} of {Form(field.form).name.lower()} {row}"


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
