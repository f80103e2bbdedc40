"""Computers that are offline, or to be left alone, when their run's turn comes: the run waits, and may fizzle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.installation import Installation
from agent.inventory.contact import probe_contacts
from agent.model.base import utcnow
from agent.model.runs import ScriptRun
from agent.running.last_look import rests
from agent.running.targets import Target
from agent.transports.base import Identification

#: Seconds between two looks at a computer that is offline.
LOOK_AGAIN = 60.0


@dataclass(frozen=True)
class Offline:
    """The computer cannot be reached now, or is to be left alone."""

    reason: str
    look_again_in: float
    #: The run has waited longer than `expires_at`: it fizzled (facts 11.6).
    expired: bool


def check_online(installation: Installation, run: ScriptRun, target: Target) -> Offline | None:
    """None when the run may start. A computer without recent contact is probed once before it counts as offline."""
    expired = run.expires_at is not None and utcnow() >= run.expires_at
    resting = rests(installation, run)
    if resting is not None:
        return Offline(resting, LOOK_AGAIN, expired)
    computer = target.places.get("computer")
    if computer is None or computer["transport"] == "local":
        return None
    contact = computer["last_contact"]
    recent = utcnow() - timedelta(seconds=installation.settings.online_seconds)
    if contact is not None and datetime.fromisoformat(contact) >= recent:
        return None
    answers: dict[int, Identification] = {}
    probe_contacts(installation, computer_ids=[target.id], report=answers.__setitem__)
    answer = answers.get(target.id)
    if answer is not None and answer.reachable:
        return None
    return Offline(f"offline: {answer.detail if answer else 'it has no transport'}", LOOK_AGAIN, expired)
