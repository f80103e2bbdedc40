"""What `{{ name }}` stands for: a value of the person, or of the other target, by one name in snake case. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.content.packages import snake
from agent.model.places import Contact

Places = Mapping[str, Mapping[str, Any] | None]


def person_value(name: str, fields: Mapping[str, str], places: Places) -> str | None:
    """An extra field whose name in snake case it is; the id in another system (`zoom_id` is that of `zoom`); a column of
    the contact. None when none of them is filled in: an empty text is no value.

    `fields`: the extra fields as they count for the target; `places`: contact, client, ... -> their columns.
    """
    wanted, contact = name.casefold(), places.get("contact") or {}
    for field in sorted(fields):
        if snake(field) == wanted and fields[field].strip():
            return fields[field]
    system = wanted.removesuffix("_id")
    ids = contact.get("external_ids") or {}
    if system != wanted:
        for key in sorted(ids):
            if snake(str(key)) == system and str(ids[key]).strip():
                return str(ids[key])
    if wanted == "manager":
        wanted = "manager_email"
    value = contact.get(wanted)
    return str(value) if wanted in Contact.model_fields and value not in (None, "", {}) else None
