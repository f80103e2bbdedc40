"""A frozen configuration, as in production: what belongs to packages changes by an import only."""

from __future__ import annotations

from sqlmodel import Session

from agent.errors import Conflict
from agent.model.administration import SystemProperty
from agent.services.properties import FROZEN


def is_frozen(session: Session) -> bool:
    """Whether the configuration is frozen here."""
    row = session.get(SystemProperty, FROZEN)
    return row is not None and row.value == "1"


def refuse_when_frozen(session: Session, edit: str) -> None:
    """Raises Conflict that names the edit while the configuration is frozen."""
    if is_frozen(session):
        raise Conflict(
            f"{edit}: refused, since the configuration is frozen here ({FROZEN} is 1): change it in development, and "
            "bring it by `exeunt package import`"
        )
