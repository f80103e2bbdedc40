"""Functions `assets.*` beside `assets.create_return_list`: people are reminded of what is not back, and what came back is noted.

What somebody has, until when it must be back and what became of it stand in the inventory (`exeunt equipment`). The ticket
`Equipment to return` tells people, and is closed once nothing is out any more.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import Field, field_validator
from sqlmodel import Session

from agent.errors import UsageError
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.contacts import NoParameters, person
from agent.functions.tickets import about_target, target_key
from agent.inventory.contacts import equipment_of
from agent.model.base import utcnow
from agent.model.places import Equipment
from agent.services import mail, tickets
from agent.services.smtp import addresses

_OUT = ("assigned", "missing")


class RemindParameters(BaseParameters):
    """Who is reminded."""

    #: Addresses divided by commas; empty: nobody, and the step is skipped.
    to: str = Field("", max_length=2000)

    @field_validator("to")
    @classmethod
    def _addresses(cls, value: str) -> str:
        try:
            addresses(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return value


class Remind(Function[RemindParameters]):
    """Sends one mail a day with everything that is not back, and notes it on the return ticket."""

    name = "assets.remind"
    summary = "Remind by mail of equipment that is not back, at most once a day, and note it on the return ticket"
    Parameters = RemindParameters
    repeatable = True

    def preview(self, parameters: RemindParameters) -> str:
        """What would be done."""
        return f"send a list of what is not back to {parameters.to or 'nobody'}"

    def do(self, context: Context, parameters: RemindParameters) -> Outcome:
        """Queue the mail, once a day for the same recipients. Skipped when nothing is out."""
        with context.installation.database.session() as session:
            contact = person(session, context)
            out = _out(session, context)
            if not out:
                return Outcome.skipped("nothing is out")
            if not parameters.to.strip():
                return Outcome.skipped("nobody is named who is reminded")
            who = hashlib.sha256(parameters.to.encode()).hexdigest()[:12]
            name = tickets.one_line(contact.name)
            queued = mail.queue_mail(
                session, key=f"equipment-reminder:{contact.contact_id}:{utcnow():%Y-%m-%d}:{who}",
                client_id=contact.client_id, run_id=context.root_id, recipient=parameters.to,
                subject=f"Equipment of {name} is to be returned",
                body=f"This is on record as not yet returned by {name}:\n\n" + "".join(map(_line, out)),
            )  # fmt: skip
            ticket = tickets.find_open(session, target_key(context, "equipment"))
            if ticket is not None and ticket.id is not None:
                tickets.add_comment(
                    session, ticket.id, author=context.root_script, run_id=context.root_id, client_id=context.client_id,
                    origin=f"mail:{queued.id}", text=f"{parameters.to} was reminded of:\n" + "".join(map(_line, out)),
                )  # fmt: skip
            return Outcome.succeeded(mail=queued.id, equipment=[_shown(e) for e in out], ticket=ticket and ticket.id)


class NoteReceived(Function[NoParameters]):
    """Notes on the return ticket what came back, and closes it when nothing is out any more."""

    name = "assets.note_received"
    summary = "Note on the return ticket what came back, and close it when nothing is out any more"
    Parameters = NoParameters
    repeatable = True

    def preview(self, parameters: NoParameters) -> str:
        """What would be done."""
        return "note what came back on the person's return ticket; close it if that is everything"

    def do(self, context: Context, parameters: NoParameters) -> Outcome:
        """Comment or close. Skipped when no such ticket is open."""
        with context.installation.database.session() as session:
            person(session, context)
            key = target_key(context, "equipment")
            ticket = tickets.find_open(session, key)
            if ticket is None or ticket.id is None:
                return Outcome.skipped("no return ticket is open")
            known, out = equipment_of(session, contact_id=context.target_id), _out(session, context)
            back = [e for e in known if e.state not in _OUT]
            text = "Back:\n" + ("".join(map(_line, back)) or "  - nothing\n")
            if out:
                text += "\nStill out:\n" + "".join(map(_line, out))
                tickets.open_or_comment(
                    session, key=key, origin=f"step:{context.step_id}", subject=ticket.subject, body=text,
                    author=context.root_script, **about_target(context),
                )  # fmt: skip
            else:
                tickets.close(session, ticket.id, author=context.root_script, comment=text)
            return Outcome.succeeded(
                ticket=ticket.id, outcome="open" if out else "closed", back=[_shown(e) for e in back],
                out=[_shown(e) for e in out],
            )  # fmt: skip


def _out(session: Session, context: Context) -> list[Equipment]:
    return [e for e in equipment_of(session, contact_id=context.target_id) if e.state in _OUT]


def _line(item: Equipment) -> str:
    parts = [f"{item.quantity} x {tickets.one_line(item.name)}"]
    parts += [f"serial {tickets.one_line(item.serial)}"] if item.serial else []
    parts += [f"until {item.due}"] if item.due and item.state in _OUT else []
    parts += [item.state] if item.state != "assigned" else []
    parts += [tickets.one_line(item.note)] if item.note else []
    return f"  - {', '.join(parts)}\n"


def _shown(item: Equipment) -> dict[str, Any]:
    return {"id": item.equipment_id, "name": item.name, "serial": item.serial, "due": item.due, "state": item.state}


FUNCTIONS: dict[str, type[Function[Any]]] = {f.name: f for f in (Remind, NoteReceived)}
