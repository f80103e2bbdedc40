"""A new password on its way to the leaver's manager: a one-time link by mail, and nothing of it in results, reports or logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from agent.errors import ExeuntError, StepError
from agent.failure_types import MANAGER_NOT_FOUND
from agent.functions import exit_people as people
from agent.functions import people_messages
from agent.functions.base import Context, Finding, Parameters, PreflightContext
from agent.model.base import utcnow
from agent.model.places import Contact
from agent.model.runs import ScriptRun
from agent.services import handover, mail
from agent.services.smtp import addresses

MESSAGE = "handover"


@dataclass(frozen=True)
class Offer:
    """A link that waits to be sent. Its text holds the token: it goes into the message only."""

    token: str
    recipient: str
    link: str
    expires_at: datetime
    person: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Offer(to {self.recipient!r})"


class HandOverParameters(Parameters):
    """Whether somebody gets to know a new password."""

    #: Send the leaver's manager a link that shows the password once. Needs EXEUNT_PUBLIC_URL.
    hand_over: bool = False
    #: Hours for which the link works.
    hand_over_hours: int = Field(72, ge=1, le=336)


@dataclass(frozen=True)
class HandingOver:
    """A new password's way to the manager; nothing at all where that was not asked for."""

    context: Context
    asked: bool
    offered: Offer | None = None
    failure: Mapping[str, Any] | None = None

    @staticmethod
    def begin(context: Context, parameters: HandOverParameters, secret: str) -> HandingOver:
        """Make the link before the password is set, so that none is set that cannot be handed over without saying so."""
        if not parameters.hand_over:
            return HandingOver(context, False)
        reason = hindrance(context)
        if reason is not None:
            return HandingOver(context, True, failure={"sent_to": None, "reason": reason})
        return HandingOver(context, True, offer(context, secret, hours=parameters.hand_over_hours))

    def give_up(self) -> None:
        """The password may not be in force: its link ends."""
        if self.offered is not None:
            withdraw(self.context, self.offered)

    def finish(self, *, what: str) -> dict[str, Any]:
        """The password is in force: send the link. The result says whether somebody can get at it."""
        if not self.asked:
            return {"recoverable": False}
        told = self.failure
        if self.offered is not None:
            try:
                told = send(self.context, self.offered, what=what)
            except StepError as error:
                withdraw(self.context, self.offered)
                told = not_handed_over(error)
        assert told is not None
        return {"recoverable": told["sent_to"] is not None, "handover": dict(told)}


def findings(context: PreflightContext, parameters: HandOverParameters, system: str) -> list[Finding]:
    """What would keep the new password from being handed over."""
    reason = hindrance(context) if parameters.hand_over else None
    if reason is None:
        return []
    said = f"the new password would be set and could not be handed over: {reason}"
    return [Finding("error", system, said, "Mend that, or do not ask for the hand-over.")]


def hindrance(context: Context) -> str | None:
    """Why nothing can be handed over here, in words; None when it can."""
    if context.installation.settings.public_url is None:
        return "EXEUNT_PUBLIC_URL is not set, so there is no address for a link"
    try:
        _recipient(context)
    except StepError as error:
        return str(error)
    return None


def offer(context: Context, secret: str, *, hours: int) -> Offer:
    """Keep a secret for the leaver's manager. Raises StepError when there is no manager with an address."""
    recipient, person = _recipient(context)
    installation, life = context.installation, timedelta(hours=hours)
    with installation.database.session() as session:
        token = handover.create(
            session, installation.secrets, secret, client_id=context.client_id, subject_id=context.step_id, life=life,
            actor=context.started_by,
        )  # fmt: skip
    link = f"{installation.settings.public_url}{handover.path(token)}"
    return Offer(token, recipient, link, utcnow() + life, person)


def send(context: Context, offered: Offer, *, what: str) -> dict[str, Any]:
    """Queue the message; the result for the step, which names neither link nor token."""
    installation = context.installation
    client = context.places.get("client") or {}
    found = {
        "person": offered.person, "client": str(client.get("name", "")), "what": what, "link": offered.link,
        "expires": f"{offered.expires_at:%Y-%m-%d %H:%M} UTC", "run": context.root_id,
    }  # fmt: skip
    subject, body = people_messages.render(installation.settings.workspace, str(client.get("slug", "")), MESSAGE, found)
    with installation.database.session() as session:
        stored = mail.queue_mail(
            session, key=f"handover:step:{context.step_id}:{offered.expires_at.timestamp()}", client_id=context.client_id,
            run_id=context.root_id, recipient=offered.recipient, subject=subject, body=body, box=installation.secrets,
        )  # fmt: skip
    return {
        "sent_to": offered.recipient, "mail": stored.id, "expires_at": offered.expires_at.isoformat(timespec="seconds")
    }  # fmt: skip


def withdraw(context: Context, offered: Offer) -> None:
    """The secret is not in force: its link ends."""
    with context.installation.database.session() as session:
        handover.revoke(session, offered.token, actor=context.started_by)


def not_handed_over(error: ExeuntError) -> dict[str, Any]:
    """The result when the message could not be made."""
    return {"sent_to": None, "reason": str(error)}


def _recipient(context: Context) -> tuple[str, dict[str, Any]]:
    """The manager's address, and what is told of the person."""
    with context.installation.database.reading() as session:
        run = session.get(ScriptRun, context.root_id)
        contact = session.get(Contact, context.target_id) if context.target_kind == "contact" else None
        name = str((context.places.get(context.target_kind) or {}).get("name", context.target_id))
        person = people.employee_info(session, contact, name, people.inputs_of(session, run))
    address = str(person["manager_email"] or "")
    try:
        found = addresses(address)
    except ValueError:
        found = []
    if len(found) != 1:
        raise StepError(
            f"the leaver's manager has no mail address: {address!r}", type=MANAGER_NOT_FOUND, code="manager_not_found",
            remediation="Set the contact's manager, or give --manager ADDRESS.",
        )  # fmt: skip
    return found[0], person
