"""A package: everything that one system needs, described by one file, `scripts/packages/<package>/package.yaml`.

The folder's name is the package's key (`microsoft_365`), its `name` what people read (`Microsoft 365`). Its scripts are the
folders beside the file; its monitors and alert templates stand in `monitors/` and `alert_templates/` and count only where
the package is applied. `scripts/packages/README.md` is the manual of this file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from agent.content.definitions import Definition, Name
from agent.content.loading import Document

#: The script that offboards a person as a whole, phase by phase.
WRAPPER = "User Offboarding Wrapper"
#: The wrappers that list child scripts for a person, by the number of their phase (`scripts/user_offboarding`).
PHASES = {
    1: "User Offboarding - 1 Initial Security Actions",
    2: "User Offboarding - 2 Access Revocation",
    3: "User Offboarding - 3 Data Preservation and Transfer",
    4: "User Offboarding - 4 License and Resource Reclamation",
    5: "User Offboarding - 5 Asset Management",
    6: "User Offboarding - 6 Administrative Cleanup",
    7: "User Offboarding - 7 Notifications and Documentation",
    8: "User Offboarding - 8 Scheduled Deletion",
}
_KEY = re.compile(r"[a-z][a-z0-9_]{0,59}")
_VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})(-[0-9A-Za-z.-]{1,40})?")
_STATUSES = ("Active", "On Leave", "Offboarding", "Terminated", "Inactive", "Former Employee")


def _key(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise ValueError(f"{value!r} must be a to z, 0 to 9 and `_`, and begin with a letter")
    return value


#: The name of a folder of a package or a script, a kind of credential, a name of a setting or a secret.
Key = Annotated[str, AfterValidator(_key)]


def version_key(version: str) -> tuple[int, int, int, bool, str]:
    """What versions are compared by: 1.2.0-rc.1 < 1.2.0 < 1.10.0. Raises ValueError for what is no version."""
    found = _VERSION.fullmatch(version)
    if not found:
        raise ValueError(f"{version!r} is no version: write MAJOR.MINOR.PATCH, such as 1.0.0")
    return int(found[1]), int(found[2]), int(found[3]), found[4] is None, found[4] or ""


class FieldShell(Definition):
    """An extra field that the package needs."""

    level: Literal["computer", "location", "client", "contact"] = "contact"
    name: Name
    type: Literal["text", "checkbox", "dropdown", "date", "number", "secret"] = "text"
    section: str = ""
    options: tuple[str, ...] = ()
    tooltip: str = ""
    default: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> FieldShell:
        if (self.type == "dropdown") != bool(self.options):
            raise ValueError("a dropdown needs `options`, and only a dropdown has them")
        if self.type == "secret" and self.default is not None:
            raise ValueError("a secret has no default in a file")
        return self


class SettingShell(Definition):
    """A setting of a credential: what it means, and whether it can be left out."""

    description: str
    required: bool = True
    default: str | None = None
    #: A whole expression that a value must match.
    pattern: str | None = None

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            return value if value is None else re.compile(value).pattern
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None


class SecretShell(Definition):
    """A secret of a credential: what it is. Its value never stands in a file."""

    description: str
    required: bool = True


class CredentialShell(Definition):
    """What a credential of a kind holds. `settings` and `secrets`: name -> what it is, or a mapping with more."""

    kind: Key
    #: The name that an import and `exeunt package apply` give to the empty credential.
    name: Name
    description: str = ""
    settings: dict[Key, SettingShell] = Field(default_factory=dict)
    secrets: dict[Key, SecretShell] = Field(default_factory=dict)
    #: The package works without it.
    optional: bool = False

    @field_validator("settings", "secrets", mode="before")
    @classmethod
    def _described(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: {"description": v} if isinstance(v, str) else v for k, v in value.items()}


class PropertyShell(Definition):
    """A system property that the package reads. It is set only where it has no value yet."""

    name: Name
    value: str = ""
    tooltip: str = ""
    secret: bool = False

    @model_validator(mode="after")
    def _no_secret_here(self) -> PropertyShell:
        if self.secret and self.value:
            raise ValueError("a secret property has no value in a file")
        return self


class PackageScript(Definition):
    """A script of the package, and where it is listed when the package is applied."""

    script: Key
    #: Phase 1 to 8 whose list it joins.
    phase: int | None = Field(None, ge=1, le=8)
    #: Another wrapper than that of a phase, by its name.
    wrapper: Name | None = None
    #: False: nothing lists it. Other scripts call it, or somebody starts it.
    listed: bool = True

    @model_validator(mode="after")
    def _one_place(self) -> PackageScript:
        if self.phase is not None and self.wrapper is not None:
            raise ValueError("a script takes either `phase` or `wrapper`")
        if not self.listed and (self.phase is not None or self.wrapper is not None):
            raise ValueError("a script that is not listed has neither `phase` nor `wrapper`")
        return self

    @property
    def joins(self) -> str | None:
        """The wrapper whose list it joins; None when it is not listed."""
        if not self.listed:
            return None
        return self.wrapper or PHASES[self.phase or 2]


class Revocation(StrEnum):
    """Kinds of systems in the order in which access is revoked (seed 002, "Revocation Priority")."""

    REMOTE_ACCESS = "remote_access"
    ADMINISTRATORS = "administrators"
    FINANCIAL = "financial"
    CUSTOMER_DATA = "customer_data"
    BUSINESS = "business"
    COLLABORATION = "collaboration"
    #: It revokes nothing: a ticket, a message, an asset list.
    NONE = "none"

    @property
    def rank(self) -> int:
        """0 for what is revoked first."""
        return list(Revocation).index(self)


class Criterion(Definition):
    """One thing that must be so before the package's scripts start. Exactly one of the forms below."""

    #: An extra field by its name, or a column of the contact as `contact.<column>`, with one comparison.
    field: Name | None = None
    is_: str | None = Field(None, alias="is")
    is_not: str | None = None
    in_: tuple[str, ...] | None = Field(None, alias="in")
    not_empty: bool | None = None
    #: The contact's status.
    status: str | None = None
    #: A date field (or `Termination Date`, `Last Working Day`, `Start Date` of the contact) is today or past, where the
    #: person works. An offboarding that was started at once counts as reached.
    date_reached: Name | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Criterion:
        if sum(f is not None for f in (self.field, self.status, self.date_reached)) != 1:
            raise ValueError("a criterion takes exactly one of `field`, `status`, `date_reached`")
        comparisons = sum(c is not None for c in (self.is_, self.is_not, self.in_, self.not_empty))
        if comparisons != (1 if self.field is not None else 0):
            raise ValueError("`field` takes exactly one of `is`, `is_not`, `in`, `not_empty`; other criteria take none")
        if self.not_empty is False:
            raise ValueError("`not_empty` can only be true")
        if self.status is not None and self.status not in _STATUSES:
            raise ValueError(f"{self.status!r} is no status: {', '.join(_STATUSES)}")
        return self

    def __str__(self) -> str:
        if self.status is not None:
            return f"the status is {self.status}"
        if self.date_reached is not None:
            return f"{self.date_reached} is reached"
        if self.not_empty:
            return f"{self.field} is not empty"
        if self.is_ is not None:
            return f"{self.field} is {self.is_}"
        if self.is_not is not None:
            return f"{self.field} is not {self.is_not}"
        return f"{self.field} is one of {', '.join(self.in_ or ())}"


class Notify(Definition):
    """Who is told by mail how the package's script ended."""

    on: Literal["failure", "always"] = "failure"
    #: Addresses, or what stands for some: `{{ manager }}`, `{{ it_notification_recipients }}`.
    recipients: tuple[str, ...] = Field(min_length=1)
    subject: str | None = None


class Ticketing(Definition):
    """Only in a package whose system keeps the ticket: how the packages after it comment that ticket.

    `function` gets `with`, and in its parameter `text` (or the one that `text` names) what is to be said.
    """

    function: str
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    text: str = "text"


class PackageDefinition(Definition):
    """`package.yaml`."""

    name: Name
    version: str
    description: str = Field(min_length=1)
    #: Who answers for it; shown in the list.
    publisher: str = ""
    fields: tuple[FieldShell, ...] = ()
    credentials: tuple[CredentialShell, ...] = ()
    properties: tuple[PropertyShell, ...] = ()
    #: Files in the folders `monitors/` and `alert_templates/` of the package.
    monitors: tuple[str, ...] = ()
    alert_templates: tuple[str, ...] = ()
    #: Folders of the package with a `script.yaml`, in their order. A text stands for `{script: text}`.
    scripts: tuple[PackageScript, ...] = ()
    revocation: Revocation = Revocation.BUSINESS
    criteria: tuple[Criterion, ...] = ()
    ticket_comment: bool = True
    ticketing: Ticketing | None = None
    notify: Notify | None = None
    #: File in the package's folder: which permissions to grant at the vendor, and how.
    documentation: str = "README.md"

    @field_validator("scripts", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        return [{"script": v} if isinstance(v, str) else v for v in value] if isinstance(value, list) else value

    @field_validator("version")
    @classmethod
    def _version(cls, value: str) -> str:
        version_key(value)
        return value

    @model_validator(mode="after")
    def _no_doubles(self) -> PackageDefinition:
        for what, names in (
            ("fields", [f"{f.level} {f.name}".casefold() for f in self.fields]),
            ("credentials", [c.name.casefold() for c in self.credentials]),
            ("properties", [p.name for p in self.properties]),
            ("scripts", [s.script for s in self.scripts]),
            ("monitors", list(self.monitors)),
            ("alert_templates", list(self.alert_templates)),
        ):
            if double := sorted({n for n in names if names.count(n) > 1}):
                raise ValueError(f"`{what}` names something twice: {', '.join(double)}")
        return self


@dataclass(frozen=True)
class LoadedPackage:
    """A package with the texts of all its files."""

    definition: PackageDefinition
    file: Path
    #: Path below the package's folder, with `/` -> text. What the digest is made of.
    files: Mapping[str, str]
    #: It comes with Exeunt; otherwise it is the workspace's own.
    shipped: bool = True
    document: Document = field(default_factory=lambda: Document(Path(), ""), repr=False, compare=False)

    @property
    def key(self) -> str:
        """Name of its folder."""
        return self.file.parent.name

    @property
    def name(self) -> str:
        """The package's name."""
        return self.definition.name

    @property
    def version(self) -> str:
        """The package's version."""
        return self.definition.version

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all its files, hexadecimal."""
        text = json.dumps(dict(self.files), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def snake(name: str) -> str:
    """How `{{ ... }}` names a field: `Zoom Id` -> `zoom_id`."""
    return re.sub(r"[^0-9a-z]+", "_", name.casefold()).strip("_")


def is_reached(day: str, today: date) -> bool:
    """Whether a date written YYYY-MM-DD is today or past. Raises ValueError."""
    return date.fromisoformat(day[:10]) <= today
