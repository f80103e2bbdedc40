"""What a package refers to and does not bring: scripts, functions, wrappers, credentials, properties, fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, select

from agent.content.definitions import ScriptDefinition
from agent.content.packages import PackageDefinition, snake
from agent.content.references import references
from agent.content.repository import ContentRepository
from agent.errors import UsageError
from agent.functions import registry
from agent.inventory import extra_fields
from agent.model.administration import Credential, SystemProperty
from agent.model.fields import Form
from agent.model.places import Contact
from agent.services import properties

#: Dates of a person that criteria name and that are no extra fields.
_COLUMNS = frozenset({"termination_date", "last_working_day", "start_date"})


@dataclass(frozen=True, order=True)
class Piece:
    """One thing by its kind and name: `function zoom.delete_user`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


def needed(definition: PackageDefinition, scripts: Iterable[ScriptDefinition]) -> set[Piece]:
    """Everything that a package and its scripts refer to."""
    found = {Piece("script", s.joins) for s in definition.scripts if s.joins is not None}
    if definition.ticketing is not None:
        found.add(Piece("function", definition.ticketing.function))
        found |= set(_referred(definition.ticketing.with_))
    for criterion in definition.criteria:
        name = criterion.field or criterion.date_reached
        if name is not None and not name.startswith("contact."):
            found.add(Piece("field", name))
    for recipient in definition.notify.recipients if definition.notify else ():
        found |= set(_referred(recipient))
    for script in scripts:
        for step in script.steps:
            found |= {Piece("function", step.function)} if step.function else set()
            found |= {Piece("script", step.script)} if step.script else set()
            found |= set(_referred(step.with_, script.parameters))
    return found


def _referred(value: Any, parameters: Mapping[str, Any] | None = None) -> Iterator[Piece]:
    kinds = {"secret": "credential", "property": "property", "field": "field", "person": "value"}
    for reference in references(value):
        inputs = {snake(n) for n in parameters or ()}
        if reference.kind in kinds and not (reference.kind == "person" and reference.name.casefold() in inputs):
            yield Piece(kinds[reference.kind], reference.name)


def missing(
    session: Session, content: ContentRepository, definitions: Sequence[PackageDefinition],
    scripts: Sequence[ScriptDefinition],
) -> list[Piece]:  # fmt: skip
    """What these packages refer to and neither bring nor find here, by kind and name."""
    brought = {Piece("field", f.name) for d in definitions for f in d.fields}
    brought |= {Piece("credential", c.name) for d in definitions for c in d.credentials}
    brought |= {Piece("property", p.name) for d in definitions for p in d.properties}
    brought |= {Piece("script", s.name) for s in scripts}
    brought |= {Piece("field", f.name) for form in Form for f in extra_fields.fields(session, form)}
    brought |= {Piece("credential", n) for n in session.exec(select(Credential.name))}
    brought |= {Piece("property", n) for n in session.exec(select(SystemProperty.name))}
    brought |= {Piece("property", n) for n in properties.CATALOGUE}
    values = {snake(p.name) for p in brought if p.kind == "field"} | set(Contact.model_fields) | {"manager"}
    wanted = {piece for definition in definitions for piece in needed(definition, ())}
    wanted |= {p for s in scripts for p in needed(_NOTHING, [s])}
    return sorted(p for p in wanted - brought if not _is_here(p, content, values))


_NOTHING = PackageDefinition(name="-", version="0.0.0", description="-")


def _is_here(piece: Piece, content: ContentRepository, values: set[str]) -> bool:
    name = snake(piece.name)
    if piece.kind in ("field", "value"):
        # An id may also stand among the person's ids in other systems.
        return name in values or name in _COLUMNS or (piece.kind == "value" and name.endswith("_id"))
    if piece.kind not in ("script", "function"):
        return False
    try:
        if piece.kind == "script":
            content.script(piece.name)
        else:
            registry.get(piece.name)
    except UsageError:
        return False
    return True
