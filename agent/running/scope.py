"""What a value in a script can refer to while it is planned, and the form in which it is stored.

A stored parameter is one of `{"value": ...}` (resolved, final), `{"secret": credential}` (opened only when the step
runs, never stored) or `{"deferred": ..., "known": {...}}` (needs the result of an earlier step; what was known when the
plan was made is fixed in `known`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.content.references import CHANGING, RUNTIME_KINDS, Reference, parse_value, references, resolve
from agent.errors import UsageError
from agent.inventory.person_values import person_value
from agent.running.targets import Target

StoredForm = dict[str, Any]


def reference_key(reference: Reference) -> str:
    """How a reference is named among the `known` ones."""
    return f"{reference.kind}:{reference.name}"


@dataclass(frozen=True)
class Scope:
    """Everything that can be looked up for one script on one target."""

    target: Target
    parameters: Mapping[str, StoredForm]
    globals: Mapping[str, str]
    properties: Mapping[str, str]
    fields: Mapping[str, str]

    def form(self, raw: object) -> StoredForm:
        """The stored form of a value as written. Raises UsageError naming what is missing and where it was sought."""
        parsed = parse_value(raw)
        if isinstance(parsed, Reference):
            if parsed.kind == "secret":
                return {"secret": parsed.name}
            held = self._held(parsed)
            if held is not None:
                return held
        found = references(raw)
        later = {r for r in found if r.kind in RUNTIME_KINDS or (r.kind == "person" and self._person(r.name) is None)}
        if not later:
            return {"value": resolve(raw, self.look_up)}
        known = {reference_key(r): self.look_up(r) for r in found if r not in later}
        return {"deferred": raw, "known": known}

    def _person(self, name: str) -> str | None:
        """A value of the person, if the plan can know it."""
        if name.casefold() in CHANGING:
            return None
        given = self.parameters.get("manager_email" if name == "manager" else name, {}).get("value")
        return person_value(name, self.fields, self.target.places) or (str(given) if given else None)

    def _held(self, reference: Reference) -> StoredForm | None:
        """The stored form of the parameter that a reference names, if it names one."""
        if reference.kind in ("parameter", "variable"):
            return self.parameters.get(reference.name)
        return None

    def look_up(self, reference: Reference) -> object:
        """The value of a reference that is known while planning. Raises UsageError."""
        name, sought = reference.name, []
        if reference.kind == "person":
            return self._person(name)
        for place, values in self._places(reference.kind):
            sought.append(place)
            if name in values:
                return values[name]
        if reference.kind in ("fact", "system"):
            sought.append("facts of the target")
            try:
                return self.target.fact(name)
            except KeyError:
                pass
        raise UsageError(f"{name!r} is set nowhere; looked at: {', '.join(sought)}")

    def _places(self, kind: str) -> list[tuple[str, Mapping[str, object]]]:
        values = {k: form["value"] for k, form in self.parameters.items() if "value" in form}
        given: tuple[str, Mapping[str, object]] = ("parameters", values)
        constant: tuple[str, Mapping[str, object]] = ("globals", self.globals)
        properties: tuple[str, Mapping[str, object]] = ("system properties", self.properties)
        fields: tuple[str, Mapping[str, object]] = ("extra fields", self.fields)
        places: dict[str, list[tuple[str, Mapping[str, object]]]] = {
            "parameter": [given],
            "global": [constant],
            "variable": [given, constant],
            "property": [properties],
            "field": [fields],
            "system": [properties],
        }
        return places.get(kind, [])


def known_look_up(known: Mapping[str, object], reference: Reference) -> object:
    """The value of a reference that was fixed when the plan was made. Raises KeyError."""
    return known[reference_key(reference)]
