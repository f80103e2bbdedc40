"""Which applications were seen on a computer, with the uninstall strings that were stored for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Table, delete, insert, update
from sqlmodel import Session, SQLModel, col, select

from agent.errors import UsageError
from agent.inventory.lookup import get
from agent.model.base import utcnow
from agent.model.places import Computer, Software

_SOFTWARE: Table = SQLModel.metadata.tables["software"]


@dataclass(frozen=True)
class SeenApplication:
    """An application as the computer names it. Name and version together tell two of them apart."""

    name: str
    version: str = ""
    publisher: str = ""
    uninstall_string: str = ""


def list_software(session: Session, computer_id: int) -> list[Software]:
    """What was last seen on a computer, by name and version."""
    query = select(Software).where(Software.computer_id == computer_id)
    return list(session.exec(query.order_by(col(Software.name), col(Software.version))))


def store_seen(
    session: Session, computer_id: int, seen: Iterable[SeenApplication], *, at: datetime | None = None, complete: bool = False
) -> None:  # fmt: skip
    """Store what was seen. `complete`: it is all there is, and what was not seen is forgotten. Not audited: it is frequent.

    A missing uninstall string keeps the one that is stored. Raises NotFound, and UsageError for an application without a name.
    """
    get(session, Computer, computer_id)
    at = at or utcnow()
    stored = {(s.name, s.version): s.software_id for s in list_software(session, computer_id)}
    found = {(a.name, a.version): a for a in seen}
    if any(not name for name, _ in found):
        raise UsageError(f"an application without a name was reported for computer {computer_id}")
    new: list[dict[str, object]] = []
    known: list[dict[str, object]] = []
    for identity, application in found.items():
        row = {"computerid": computer_id, "name": application.name, "version": application.version, "seenat": at}
        row |= {"publisher": application.publisher, "uninstallstring": application.uninstall_string}
        (known if identity in stored else new).append(row)
    if new:
        session.execute(insert(_SOFTWARE), new)
    for row in known:
        changes = {k: v for k, v in row.items() if v not in ("", None)}
        session.execute(
            update(_SOFTWARE)
            .where(_SOFTWARE.c.softwareid == stored[str(row["name"]), str(row["version"])])
            .values(changes)
        )
    if complete:
        for identity in stored.keys() - found.keys():
            session.execute(delete(_SOFTWARE).where(_SOFTWARE.c.softwareid == stored[identity]))
    session.expire_all()
