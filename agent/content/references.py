"""The grammar of values in scripts: what refers to something else, and how it is put in place. The only place for it.

As a mapping (the value keeps its type):

    {parameter: Name}   {global: Name}   {secret: credential}   {field: EDF name}   {property: _sysName}
    {state: Variable, default: until it is set}     {fact: computer.name}       {step: step name, value: key}
    {literal: anything, taken as it stands}

In a text, as in ConnectWise Automate: `@Name@` is a parameter, else a global parameter; `@Success@` and `@Failure@` are
the lists of the run; `%computername%` is a fact of the target, else a system property, without regard to case.
`@@` and `%%` stand for one `@` and one `%`; a sign that is no part of such a pair is itself.

`{{ zoom_id }}` is a value of the person, or of another target: an extra field in snake case (`Zoom Id`), an id in another
system, a column of the contact, or `manager`. What the plan can know is fixed by the plan; what is empty then is looked up
when the step runs. `{{{{` stands for two braces.
What was put in place is never looked at again: a value with `@Name@` in it stays that text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from agent.errors import UsageError

#: Keys of the mapping form. The kinds `variable`, `list`, `system` and `person` only stand in texts.
MAPPING_KINDS = ("parameter", "global", "secret", "field", "property", "state", "fact", "step")
#: Lists that exist only while a run is under way; parameters cannot have these names.
RUN_LISTS = ("Success", "Failure")
#: Values that steps change while a run is under way, so that the plan does not fix them.
CHANGING = ("offboarding_ticket", "offboarding_sequence")
#: Kinds whose value is known only while the run is under way.
RUNTIME_KINDS = frozenset({"step", "state", "list"})

_FORMS = {
    "step": "{step: name of the step, value: key of its result}",
    "state": "{state: name} or {state: name, default: text until it is set}",
}
_TEXT = re.compile(
    r"@@|%%|\{\{\{\{|@([A-Za-z_][A-Za-z0-9_]*)@|%([A-Za-z_][A-Za-z0-9_]*)%|\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}"
)


@dataclass(frozen=True)
class Reference:
    """Something whose value stands elsewhere. `key`: for `step` which value of its result, for `state` its default."""

    kind: str
    name: str
    key: str | None = None

    def __str__(self) -> str:
        if self.kind in ("variable", "list"):
            return f"@{self.name}@"
        if self.kind == "system":
            return f"%{self.name}%"
        if self.kind == "person":
            return f"{{{{ {self.name} }}}}"
        second = "default" if self.kind == "state" else "value"
        return f"{{{self.kind}: {self.name}" + (f", {second}: {self.key}}}" if self.key is not None else "}")


@dataclass(frozen=True)
class Template:
    """A text with references in it, in order."""

    parts: tuple[str | Reference, ...]


@dataclass(frozen=True)
class Literal:
    """A mapping, or anything else, that is taken as it stands."""

    value: object


Parsed = Any  # str, int, ... as they are; Reference; Template; Literal; dict and list of Parsed


def parse_value(value: object) -> Parsed:
    """A value as written: a Reference, a Template, a Literal, a list or dict of such, or the value itself.

    A text without references is given back as the text that it means (`@@` as `@`). Raises UsageError for a mapping
    that looks like a reference and is none.
    """
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, dict):
        return _parse_mapping(value)
    if isinstance(value, list | tuple):
        return [parse_value(item) for item in value]
    return value


def _parse_text(text: str) -> str | Reference | Template:
    parts: list[str | Reference] = []
    end = 0
    for match in _TEXT.finditer(text):
        parts += [text[end : match.start()], _meant(match)]
        end = match.end()
    parts.append(text[end:])
    joined: list[str | Reference] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    if not joined:
        return ""
    return joined[0] if len(joined) == 1 else Template(tuple(joined))


def _meant(match: re.Match[str]) -> str | Reference:
    variable, system, person = match.groups()
    if variable is not None:
        return Reference("list" if variable in RUN_LISTS else "variable", variable)
    if person is not None:
        return Reference("person", person)
    whole = match.group()
    return Reference("system", system) if system is not None else whole[: len(whole) // 2]


def _parse_mapping(value: dict[Any, Any]) -> Parsed:
    kinds = [k for k in value if k in MAPPING_KINDS]
    if list(value) == ["literal"]:
        return Literal(value["literal"])
    if not kinds:
        return {key: parse_value(item) for key, item in value.items()}
    kind = kinds[0]
    expected = {"step", "value"} if kind == "step" else {kind}
    allowed = {"state", "default"} if kind == "state" else expected
    if not expected <= set(value) <= allowed or not all(
        isinstance(v, str) and (v or k == "default") for k, v in value.items()
    ):
        form = _FORMS.get(kind, f"{{{kind}: name}}")
        raise UsageError(
            f"a mapping with the key `{kind}` is a reference and must read {form}; "
            "write {literal: {...}} around a mapping that is meant as it stands"
        )
    return Reference(kind, value[kind], value.get("value" if kind == "step" else "default"))


def references(value: object) -> list[Reference]:
    """All references in a value as written, in order. Raises UsageError as `parse_value` does."""
    return list(_references(parse_value(value)))


def _references(parsed: Parsed) -> Iterator[Reference]:
    if isinstance(parsed, Reference):
        yield parsed
    elif isinstance(parsed, Template):
        yield from (p for p in parsed.parts if isinstance(p, Reference))
    elif isinstance(parsed, dict):
        for item in parsed.values():
            yield from _references(item)
    elif isinstance(parsed, list):
        for item in parsed:
            yield from _references(item)


def resolve(value: object, lookup: Callable[[Reference], object]) -> Any:
    """A value as written with everything put in place of its references.

    `lookup` gives the value of a reference, and raises an error that names the places it searched when there is none.
    A value that is exactly one reference keeps the type of what it refers to. Raises UsageError when something is
    missing (None is missing, never an empty text), or cannot be part of a text.
    """
    return _resolve(parse_value(value), lookup)


def _resolve(parsed: Parsed, lookup: Callable[[Reference], object]) -> Any:
    if isinstance(parsed, Reference):
        return _found(parsed, lookup)
    if isinstance(parsed, Template):
        return "".join(p if isinstance(p, str) else _as_text(p, _found(p, lookup)) for p in parsed.parts)
    if isinstance(parsed, Literal):
        return parsed.value
    if isinstance(parsed, dict):
        return {key: _resolve(item, lookup) for key, item in parsed.items()}
    if isinstance(parsed, list):
        return [_resolve(item, lookup) for item in parsed]
    return parsed


def _found(reference: Reference, lookup: Callable[[Reference], object]) -> object:
    value = lookup(reference)
    if value is None:
        raise UsageError(f"{reference} has no value")
    return value


def _as_text(reference: Reference, value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return ", ".join(_as_text(reference, item) for item in value)
    raise UsageError(f"{reference} cannot be part of a text: use it as a value of its own")


def escape(text: str) -> str:
    """The way to write a text so that it means itself."""
    return text.replace("@", "@@").replace("%", "%%").replace("{{", "{{{{")


@dataclass(frozen=True)
class Subject:
    """What a condition looks at: `computer.name` -> ("computer", "name"); `step.App1.state` -> ("step", "App1")."""

    kind: str
    name: str


#: Places whose columns a condition can look at.
PLACES = ("computer", "location", "client", "contact")
OUTCOME_KEYS = ("screenconnect", "agent", "failure_ticket")


def parse_subject(text: str) -> Subject:
    """What the `value` of a condition names. Raises UsageError that lists what there is."""
    kind, _, name = text.partition(".")
    if kind == "step" and name.endswith(".state") and name != ".state":
        return Subject(kind, name.removesuffix(".state"))
    if text == "children.state":
        return Subject("children", "state")
    if kind == "outcome" and name in OUTCOME_KEYS:
        return Subject(kind, name)
    if kind in (*PLACES, "parameter", "property", "field") and name:
        return Subject(kind, name)
    raise UsageError(
        f"a condition cannot look at `{text}`; it looks at `computer.<column>` (location, client and contact "
        "likewise), `parameter.<name>`, `property.<name>`, `field.<EDF name>`, `step.<name>.state`, `children.state` "
        f"or `outcome.<key>` with one of {', '.join(OUTCOME_KEYS)}"
    )
