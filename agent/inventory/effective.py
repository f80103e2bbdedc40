"""Extra fields as they count for one place: its own level first, then the places around it, then the defaults."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select as columns
from sqlmodel import Session, and_, col, or_, select

from agent.model.fields import ExtraField, ExtraFieldAlias, ExtraFieldData, FieldType, Form

#: Levels from the nearest to the farthest.
NEAREST_FIRST = (Form.CONTACT, Form.COMPUTER, Form.LOCATION, Form.CLIENT)
_PLACES = {Form.CONTACT: "contact", Form.COMPUTER: "computer", Form.LOCATION: "location", Form.CLIENT: "client"}
#: Places whose values are read by one statement.
_AT_ONCE = 500


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
    return effective_values_of(session, [places])[0]


def effective_values_of(
    session: Session, places: Sequence[Mapping[str, Mapping[str, Any] | None]]
) -> list[FieldValues]:
    """The same for many at once, in their order."""
    around = [
        {form: int(place[f"{_PLACES[form]}_id"]) for form in NEAREST_FIRST if (place := of.get(_PLACES[form]))}
        for of in places
    ]
    aliases = {(a.extra_field_id, a.alias): a.value for a in session.exec(select(ExtraFieldAlias))}
    found: list[FieldValues] = []
    for start in range(0, len(around), _AT_ONCE):
        part = around[start : start + _AT_ONCE]
        stored = _stored_values(session, part, aliases)
        found += [_values_for(ids, stored) for ids in part]
    return found


def _stored_values(
    session: Session, around: Sequence[Mapping[Form, int]], aliases: Mapping[tuple[int, str], str]
) -> dict[tuple[Form, int], list[tuple[str, str]]]:
    """(field name, value) by (level, id) of all these places; id 0 holds the defaults of a level."""
    ids = {form: sorted({0, *(of[form] for of in around if form in of)}) for form in NEAREST_FIRST}
    query = (
        columns(
            col(ExtraField.form), col(ExtraField.name), col(ExtraFieldData.id), col(ExtraFieldData.extra_field_id),
            col(ExtraFieldData.value),
        )
        .join(ExtraFieldData, col(ExtraFieldData.extra_field_id) == col(ExtraField.id))
        .where(
            or_(*(and_(col(ExtraField.form) == form, col(ExtraFieldData.id).in_(known)) for form, known in ids.items())),
            col(ExtraField.ftype) != FieldType.SECRET,
        )
    )  # fmt: skip
    found: dict[tuple[Form, int], list[tuple[str, str]]] = {}
    for form, name, place_id, field_id, value in session.execute(query):
        found.setdefault((Form(form), place_id), []).append((name, aliases.get((field_id, value), value)))
    return found


def _values_for(ids: Mapping[Form, int], stored: Mapping[tuple[Form, int], list[tuple[str, str]]]) -> FieldValues:
    values: dict[str, str] = {}
    set_anywhere: set[str] = set()
    overridden: set[tuple[Form, str]] = set()
    for form, place_id in ids.items():
        for name, value in stored.get((form, place_id), ()):
            values.setdefault(name, value)
            overridden.add((form, name))
            if value not in ("", "0"):
                set_anywhere.add(name)
    for form in ids:
        for name, value in stored.get((form, 0), ()):
            values.setdefault(name, value)
            if value not in ("", "0") and (form, name) not in overridden:
                set_anywhere.add(name)
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
