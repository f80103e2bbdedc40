"""Content as it was read: the definition, its file, and the texts that belong to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from agent.content.definitions import AlertTemplateDefinition, ClientScripts, MonitorDefinition, ScriptDefinition
from agent.content.loading import Document


def _nowhere() -> Document:
    return Document(Path(), "")


@dataclass(frozen=True)
class LoadedScript:
    """A script with the texts of all its bodies."""

    definition: ScriptDefinition
    file: Path
    #: Name of its folder.
    key: str
    #: File name -> text, those of `verify` too.
    bodies: Mapping[str, str]
    #: Slug of the client whose duplicate it is; None for a shared script.
    client: str | None
    document: Document = field(default_factory=_nowhere, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The script's name."""
        return self.definition.name

    def content(self) -> dict[str, Any]:
        """What a stored revision holds: everything that decides what the script does. Plain JSON."""
        definition = self.definition.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {"definition": definition, "bodies": dict(self.bodies)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of `content()`, hexadecimal."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def from_content(content: Mapping[str, Any]) -> tuple[ScriptDefinition, dict[str, str]]:
    """The definition and the bodies of a stored revision, without loss. Raises pydantic.ValidationError."""
    definition = ScriptDefinition.model_validate(content["definition"], by_alias=True, by_name=False)
    return definition, dict(content["bodies"])


@dataclass(frozen=True)
class LoadedMonitor:
    """An internal monitor with the text of its SQL (None for the table form)."""

    definition: MonitorDefinition
    file: Path
    sql: str | None
    document: Document = field(default_factory=_nowhere, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The monitor's name."""
        return self.definition.name


@dataclass(frozen=True)
class LoadedAlertTemplate:
    """An alert template."""

    definition: AlertTemplateDefinition
    file: Path
    document: Document = field(default_factory=_nowhere, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The alert template's name."""
        return self.definition.name


@dataclass(frozen=True)
class LoadedClient:
    """Which scripts a client's wrappers run."""

    definition: ClientScripts
    file: Path
    slug: str
    document: Document = field(default_factory=_nowhere, repr=False, compare=False)


@dataclass(frozen=True)
class ChildSelection:
    """The child scripts of a wrapper for one client, and why these."""

    scripts: tuple[LoadedScript, ...]
    source: Literal["client", "partner"]
    reason: str
