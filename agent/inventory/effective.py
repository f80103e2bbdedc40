"""Extra fields as they count for one place: its own level first, then the places around it, then the defaults."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sqlmodel import Session, and_, col, or_, select

from agent.model.fields import ExtraField, ExtraFieldAlias, ExtraFieldData, FieldType, Form

#: Levels from the nearest to the farthest.
NEAREST_FIRST = (Form.CONTACT, Form.COMPUTER, Form.LOCATION, Form.CLIENT)
_PLACES = {Form.CONTACT: "contact", Form.COMPUTER: "computer", Form.LOCATION: "location", Form.CLIENT: "client"}


class FieldValues(Mapping[str, str]):
    """Field name -> value that counts: the nearest place's own value, else the nearest default (facts 11.5).

    A field without any value is absent. Secrets are never in it. An accepted other spelling is given back as its option.
    """

    def __init__(self, values: Mapping[str, str], set_somewhere: frozenset[str]) -> None:
        self._values, self._set = dict(values), set_somewhere

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def is_set(self, name: str) -> bool:
        """Whether the value that counts is set: not empty and not `0`."""
        return self._values.get(name, "0") not in ("", "0")

    def is_set_anywhere(self, name: str) -> bool:
        """Whether any of the places around has it set, whatever a nearer one says: what an exclusion asks."""
        return name in self._set


def effective_values(session: Session, places: Mapping[str, Mapping[str, Any] | None]) -> FieldValues:
    """The fields of a place and the places around it. `places` maps client, location, ... to their columns."""
    ids = {form: place[f"{_PLACES[form]}_id"] for form in NEAREST_FIRST if (place := places.get(_PLACES[form]))}
    own = [and_(col(ExtraField.form) == form, col(ExtraFieldData.id).in_((place_id, 0))) for form, place_id in ids.items()]
    query = (
        select(ExtraField, ExtraFieldData)
        .join(ExtraFieldData, col(ExtraFieldData.extra_field_id) == col(ExtraField.id))
        .where(or_(*own), ExtraField.ftype != FieldType.SECRET)
    )
    aliases = {(a.extra_field_id, a.alias): a.value for a in session.exec(select(ExtraFieldAlias))}
    rows = [(f, d.id == 0, aliases.get((d.extra_field_id, d.value), d.value)) for f, d in session.exec(query)]
    rows.sort(key=lambda row: (row[1], NEAREST_FIRST.index(Form(row[0].form))))
    values: dict[str, str] = {}
    for field, _, value in rows:
        values.setdefault(field.name, value)
    overridden = {(f.form, f.name) for f, is_default, _ in rows if not is_default}
    set_anywhere = {
        f.name for f, is_default, v in rows if v not in ("", "0") and not (is_default and (f.form, f.name) in overridden)
    }
    return FieldValues(values, frozenset(set_anywhere))


def destructive_defaults(session: Session, forms: Collection[Form] = NEAREST_FIRST) -> list[str]:
    """Names of the destructive fields of these levels whose default row is set, so that every place counts as flagged."""
    query = (
        select(ExtraField.name)
        .join(ExtraFieldData, col(ExtraFieldData.extra_field_id) == col(ExtraField.id))
        .where(ExtraFieldData.id == 0, col(ExtraField.is_destructive).is_(True))
        .where(col(ExtraFieldData.value).not_in(("", "0")), col(ExtraField.form).in_([int(f) for f in forms]))
    )
    return sorted(session.exec(query))
