"""Contacts that were added by hand, and whom an import knows by an external id: one person stays one contact.

A row whose external id nobody has takes over the one contact of its client that has its e-mail address, user principal name
or employee id, and no external id but the one that was made for it. Anything less certain is refused: a guess could give one
person's last day to another.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from agent.errors import Conflict
from agent.inventory.lookup import get
from agent.model.base import is_made_id
from agent.model.places import Contact

#: Columns that tell a person within a client, in the order in which a fault names them.
_KEYS = ("email", "upn", "employee_id")
#: Joins that are told one by one.
MOST_TOLD = 100


@dataclass(frozen=True)
class _Known:
    """A contact as it was before the import."""

    contact_id: int
    external_id: str
    name: str
    employee_id: str
    status: str

    @property
    def by_hand(self) -> bool:
        return is_made_id(self.external_id)

    def __str__(self) -> str:
        own = "no external id" if self.by_hand else f"the external id {self.external_id!r}"
        return f"id:{self.contact_id} = {self.name!r} with {own}"


class CannotJoin(Conflict):
    """A row fits contacts, and which one it means is not certain. Carries the column."""

    def __init__(self, reason: str, column: str) -> None:
        self.column = column
        super().__init__(reason)


class Joining:
    """Finds the contact that a row with a new external id means. Contacts of a client are read once, before it gets new ones."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clients: dict[int, dict[tuple[str, str], list[_Known]]] = {}
        #: Contact -> the line that took it over, and the external id that it had.
        self._joined: dict[int, tuple[int, str]] = {}
        #: Lines that fit a contact with another external id: right only if that one has a line of its own.
        self._doubtful: list[tuple[int, str, _Known]] = []
        #: What was taken over, in words.
        self.told: list[str] = []

    @property
    def count(self) -> int:
        """How many contacts were taken over."""
        return len(self._joined)

    def contact(self, line: int, values: Mapping[str, Any]) -> Contact | None:
        """The contact that a row takes over, None when it is about somebody new. Raises CannotJoin."""
        client_id = values.get("client_id")
        if client_id is None:
            return None
        keys = [(name, _folded(values.get(name))) for name in _KEYS]
        known = self._of(client_id)
        fits = {
            c.contact_id: (name, c) for name, value in reversed(keys) if value for c in known.get((name, value), ())
        }
        if not fits:
            return None
        column, one = next(iter(sorted(fits.values(), key=lambda fit: _KEYS.index(fit[0]))))
        if len(fits) > 1 and any(c.by_hand for _, c in fits.values()):
            listed = ", ".join(str(c) for _, c in list(fits.values())[:5])
            raise CannotJoin(f"it fits more than one contact of the client: {listed}; {_way_out(values)}", column)
        if not one.by_hand:
            # An address is given again when somebody has left: a new colleague is nobody of whom HR tells no more.
            self._doubtful += [(line, name, c) for name, c in fits.values() if c.status != "Former Employee"]
            return None
        return self._taken(line, column, one, values)

    def _taken(self, line: int, column: str, one: _Known, values: Mapping[str, Any]) -> Contact:
        if one.contact_id in self._joined:
            raise CannotJoin(f"line {self._joined[one.contact_id][0]} is about the same contact, {one}", column)
        other = _folded(values.get("employee_id"))
        if other and one.employee_id and other != _folded(one.employee_id):
            raise CannotJoin(
                f"{one} has another employee id ({one.employee_id!r}): it may be somebody else; {_way_out(values)}", column
            )  # fmt: skip
        self._joined[one.contact_id] = (line, one.external_id)
        if len(self.told) < MOST_TOLD:
            self.told.append(f"line {line}: {values['external_id']} is id:{one.contact_id} {one.name}, by {column}")
        return get(self._session, Contact, one.contact_id)

    def settle(self, lines: Mapping[tuple[Any, ...], int]) -> Iterator[tuple[int, str, str]]:
        """(line, column, reason) for what only the whole file can tell. `lines`: identity of a row -> its line."""
        for line, column, other in self._doubtful:
            if (other.external_id,) not in lines:
                yield line, column, (
                    f"{other} fits, and no line of the file has that id: give the line that id, or change the contact's"
                )  # fmt: skip
        for line, external_id in self._joined.values():
            if (external_id,) in lines:
                yield lines[external_id,], "external_id", f"line {line} is about the same contact"

    def _of(self, client_id: int) -> Mapping[tuple[str, str], list[_Known]]:
        if client_id not in self._clients:
            found: dict[tuple[str, str], list[_Known]] = defaultdict(list)
            columns = ("contact_id", "external_id", "name", "employee_id", "status", "email", "upn")
            query = select(*(col(getattr(Contact, c)) for c in columns)).where(col(Contact.client_id) == client_id)
            for contact_id, external_id, name, employee_id, status, email, upn in self._session.execute(query):
                one = _Known(contact_id, external_id, name, employee_id, status)
                for key, value in zip(_KEYS, (email, upn, employee_id), strict=True):
                    if value:
                        found[key, _folded(value)].append(one)
            self._clients[client_id] = dict(found)
        return self._clients[client_id]


def _folded(value: Any) -> str:
    return str(value or "").strip().casefold()


def _way_out(values: Mapping[str, Any]) -> str:
    external_id = shlex.quote(str(values["external_id"]))
    return f"give the right one its external id first: exeunt inventory set --contact id:N external_id={external_id}"
