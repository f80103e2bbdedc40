"""Verifying the audit trail without keeping others from writing: it may be long, and all of it is read."""

from __future__ import annotations

from dataclasses import dataclass

from agent import audit
from agent.audit_text import Head
from agent.database import Database


@dataclass(frozen=True)
class Verdict:
    """What was found: the faults, and the end of the trail up to which it was read."""

    faults: tuple[str, ...]
    head: Head


def verify(database: Database, *, noted: Head | None = None) -> Verdict:
    """Find entries that were changed, removed or inserted. `noted`: an end of the trail that was kept elsewhere.

    A short transaction takes over what the database logged; the trail itself is read in one that only reads and sees
    one moment, whatever is written meanwhile.
    """
    with database.session() as session:
        had_head = audit.seal(session)
    with database.reading() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        faults = audit.verify_sealed(session, had_head=had_head, noted=noted)
        return Verdict(tuple(faults), audit.head(session))
