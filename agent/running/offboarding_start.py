"""Plan the offboardings of several people at once, and start what must not wait. Command line and API call this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlmodel import Session

from agent.errors import ExeuntError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.contacts import ContactOffboarding
from agent.running import user_offboardings as offboardings
from agent.running.planning import StoredPlan
from agent.running.user_offboardings import Planned, Request

if TYPE_CHECKING:
    from agent.running.doorbell import Port

#: From so many people on, they are left to the monitor instead of started at once (seed 003).
MANY = 3


@dataclass
class Outcome:
    """What became of the requests: all are planned, some are started as well."""

    planned: list[Planned] = field(default_factory=list)
    #: Security phases that were started at once.
    security: list[tuple[Planned, StoredPlan]] = field(default_factory=list)
    started: list[tuple[Planned, StoredPlan]] = field(default_factory=list)
    #: Planned, but not started: why.
    errors: list[tuple[Planned, str]] = field(default_factory=list)


def plan_and_start(
    installation: Installation, port: Port, requests: Sequence[Request], *, actor: str, replace: bool = False,
    settle: Callable[[StoredPlan], None] | None = None,
) -> Outcome:  # fmt: skip
    """Plan all or none; then start those that begin now, if they are few, and the security phases of high risk.

    settle: waits for the end of a security phase, so that the rest can follow at once; None: the monitor starts the
    rest. Raises what `user_offboardings.plan` raises; what fails after that is in the outcome.
    """
    done = Outcome()
    with installation.database.session() as session:
        done.planned = [offboardings.plan(session, r, actor=actor, replace=replace) for r in requests]
        for found in done.planned if len(requests) >= MANY else ():
            if found.begins_now:
                _leave_to_monitor(session, found.row)
    for found in done.planned:
        try:
            if found.resolved.values.immediate_disable and not _secured(installation, port, found, done, actor, settle):
                continue
            if found.begins_now and len(requests) < MANY:
                stored = offboardings.run_now(installation, port, [found.row.id], actor=actor)
                done.started.append((found, stored))
        except ExeuntError as error:
            # An error of one person does not keep the others from being started.
            done.errors.append((found, str(error)))
    return done


def _secured(
    installation: Installation, port: Port, found: Planned, done: Outcome, actor: str,
    settle: Callable[[StoredPlan], None] | None,
) -> bool:  # fmt: skip
    """Start the security phase; whether it is over, so that the whole may follow here."""
    draft = offboardings.draft_security(installation, found.row.id, actor=actor)
    stored = offboardings.start_security(installation, port, draft, found.row.id, actor=actor)
    done.security.append((found, stored))
    if settle is not None:
        settle(stored)
        return True
    with installation.database.session() as session:
        if found.begins_now:
            _leave_to_monitor(session, offboardings.find_row(session, found.row.id))
    return False


def _leave_to_monitor(session: Session, row: ContactOffboarding) -> None:
    """Due at once: the monitor's next scan finds it."""
    row.scheduled_for = row.scheduled_for or utcnow()
    session.add(row)
