"""What can be imported and exported: the kinds of rows, their own columns and the columns that name other things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.inventory.columns import COLUMNS, Column
from agent.model.fields import Form
from agent.model.places import Client, Computer, Contact, Equipment, Location, Software

FIELD_PREFIX = "field:"


@dataclass(frozen=True)
class Kind:
    """One kind of row. `refers` are columns that name another thing, `needed` those that a new row cannot do without.

    `late` are columns that name another row of the same kind, which may come later in the file.
    """

    name: str
    model: type[Any]
    form: Form | None
    columns: dict[str, Column]
    refers: tuple[str, ...]
    needed: tuple[str, ...]
    #: Together they tell whether a row is stored already.
    identity: tuple[str, ...] = ("external_id",)
    late: tuple[str, ...] = ()

    @property
    def own_columns(self) -> list[str]:
        """All columns but the fields', in the order of an export."""
        key = [c for c in self.identity if c in self.columns]
        return [*key, *self.refers, *self.late, *(c for c in self.columns if c not in key)]


def _computer_columns() -> dict[str, Column]:
    # A credential is named, not numbered: its number means another one in another installation.
    return {name: column for name, column in COLUMNS[Computer].items() if name != "credential_id"}


def _contact_columns() -> dict[str, Column]:
    return {name: column for name, column in COLUMNS[Contact].items() if name != "manager_id"}


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("clients", Client, Form.CLIENT, COLUMNS[Client], (), ("name",)),
        Kind("locations", Location, Form.LOCATION, COLUMNS[Location], ("client",), ("client", "name")),
        Kind(
            "computers", Computer, Form.COMPUTER, _computer_columns(), ("client", "location", "credential"),
            ("location", "name"),
        ),
        Kind(
            "contacts", Contact, Form.CONTACT, _contact_columns(), ("client", "location"), ("client", "name"),
            late=("manager",),
        ),
        Kind("equipment", Equipment, None, COLUMNS[Equipment], ("contact",), ("contact", "name")),
        Kind(
            "software", Software, None, COLUMNS[Software], ("computer",), ("computer", "name"),
            ("computer", "name", "version"),
        ),
    )
}  # fmt: skip
