"""What the functions need of a directory: LDAP stands behind it (`ldap`), or PowerShell's own cmdlets (`powershell`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol
from uuid import UUID


class Scope(Enum):
    """How far a search goes below its base."""

    BASE = "BASE"
    CHILDREN = "LEVEL"
    SUBTREE = "SUBTREE"


@dataclass(frozen=True)
class Entry:
    """An object as it was read. Attributes that it does not have, or that may not be read, are absent."""

    dn: str
    #: Names in lower case.
    attributes: Mapping[str, tuple[bytes, ...]]

    def raw(self, name: str) -> bytes | None:
        """The first value as bytes."""
        return next(iter(self.attributes.get(name.lower(), ())), None)

    def text(self, name: str) -> str | None:
        """The first value as text."""
        value = self.raw(name)
        return None if value is None else value.decode("utf-8", "replace")

    def texts(self, name: str) -> tuple[str, ...]:
        """All values as texts."""
        return tuple(v.decode("utf-8", "replace") for v in self.attributes.get(name.lower(), ()))

    def number(self, name: str) -> int | None:
        """The first value as an integer."""
        value = self.raw(name)
        return None if value is None else int(value)

    def flag(self, name: str) -> bool:
        """Whether a boolean attribute is set to true."""
        return self.raw(name) == b"TRUE"

    @property
    def guid(self) -> UUID:
        """The object's own id. Raises KeyError when objectGUID was not asked for."""
        return UUID(bytes_le=self.attributes["objectguid"][0])


@dataclass(frozen=True)
class Change:
    """One change of one attribute. The values are not shown: one may be a password."""

    kind: Literal["replace", "delete", "add"]
    attribute: str
    #: None of them with `replace` or `delete`: the attribute is removed.
    values: tuple[str | bytes, ...] = field(default=(), repr=False)


class Directory(Protocol):
    """A conversation with one directory of one client. Connects on first use; not shared between threads.

    Every method raises AccessDenied when the credential or the controller's certificate is refused, CannotConnect when
    no controller can be reached and nothing was changed in this conversation, AnswerLost when something was sent that
    may have been carried out, and DirectoryRefused when the directory said no.
    """

    @property
    def controller(self) -> str:
        """Name of the domain controller that answers."""

    @property
    def base(self) -> str:
        """Below this name, and nowhere else, stands what belongs to the client."""

    @property
    def naming_context(self) -> str:
        """Name of the whole domain."""

    @property
    def schema_context(self) -> str:
        """Name of the schema."""

    @property
    def configuration_context(self) -> str:
        """Name of the forest's configuration."""

    def search(
        self, base: str, filter_text: str, attributes: Sequence[str], *, scope: Scope = Scope.SUBTREE,
        deleted: bool = False, limit: int | None = None,
    ) -> list[Entry]:  # fmt: skip
        """Objects that match, page by page, at most `limit`. `deleted`: also those in the recycle bin."""

    def read(self, dn: str, attributes: Sequence[str], *, deleted: bool = False) -> Entry | None:
        """One object by its name, None when there is none."""

    def modify(self, dn: str, changes: Sequence[Change]) -> None:
        """Change one object: all of the changes or none."""

    def set_password(self, dn: str, password: str) -> None:
        """Set the password of an account, as somebody who does not know the old one."""

    def move(self, dn: str, rdn: str, parent: str) -> None:
        """Put an object below another one. `rdn`: the first part of its name, which stays as it is."""

    def delete(self, dn: str, *, subtree: bool = False) -> None:
        """Delete an object; `subtree`: with what stands below it."""

    def restore(self, deleted: Entry, name: str, parent: str) -> None:
        """Put a deleted object, found with its objectGUID, below a parent. `name`: its common name from then on."""

    def close(self) -> None:
        """Let go of the connection. Never raises."""
