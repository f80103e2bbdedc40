"""What functions on tickets of another system share: a ticket is created once per run, and a note is written once per step and text.

What was written carries a mark, which is looked for before anything is sent and again when an answer was lost. Searches of
such systems lag behind, so they are asked for a while.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from agent.errors import AnswerLost, StepError
from agent.functions.accounts import RestFunction
from agent.functions.base import Context, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.confirming import settled
from agent.functions.contacts import keep_ticket
from agent.services.rest.client import RestClient

#: Looks for a ticket whose creation got no answer: about half a minute in all.
SEARCH_LOOKS = 7
P = TypeVar("P", bound=BaseParameters)


def mark_of(context: Context, text: str) -> str:
    """Tells what this step wrote from everything else; people see it as a reference."""
    digest = hashlib.sha256(f"{context.step_id}\n{text}".encode()).hexdigest()[:12]
    return f"(Exeunt run {context.root_id}, {digest})"


class TicketFunction(RestFunction[P]):
    """A function on tickets: what to do, and how to ask whether it is so."""

    impact = "The ticket does not tell how far the offboarding is."
    repeatable = True

    def do(self, context: Context, parameters: P) -> Outcome:
        """Do it. Raises StepError, AnswerLost when it may have been done, CannotConnect when nothing was sent."""
        with self.opened(context, parameters) as client:
            return self.act(client, context, parameters)

    def verify(self, context: Context, parameters: P) -> bool | None:
        """Ask the system."""
        with self.opened(context, parameters) as client:
            return self.is_so(client, context, parameters)

    @abstractmethod
    def act(self, client: RestClient, context: Context, parameters: P) -> Outcome:
        """Do it and ask back."""

    @abstractmethod
    def is_so(self, client: RestClient, context: Context, parameters: P) -> bool | None:
        """Whether the system says that it is so."""


class CreatesTicket(TicketFunction[P]):
    """Creates the ticket of this offboarding, once, and keeps its id in the contact's field Offboarding Ticket."""

    impact = "The offboarding has no ticket there."

    @abstractmethod
    def existing(self, client: RestClient, context: Context, parameters: P) -> str | None:
        """The id of the run's ticket, found by `run_mark`."""

    @abstractmethod
    def create(self, client: RestClient, context: Context, parameters: P) -> str:
        """Create it with `run_mark`, and give its id."""

    def shown(self, client: RestClient, key: str) -> dict[str, Any]:
        """What else the result tells of the ticket, such as its address."""
        return {}

    def run_mark(self, context: Context) -> str:
        """Tells the run's ticket from every other."""
        return f"exeunt-{context.root_id}"

    def act(self, client: RestClient, context: Context, parameters: P) -> Outcome:
        """Look for the run's ticket, create it if there is none, and keep its id."""
        variable = f"{client.service.name} ticket of {context.root_id}"
        begun = context.state(variable) is not None
        key, outcome = self._looked(client, context, parameters, SEARCH_LOOKS if begun else 1), "already"
        if key is None:
            # Recorded first: a worker that comes after this one looks longer before it creates a second ticket.
            context.set_state(variable, context.step_id)
            key, outcome = self._created(client, context, parameters), "created"
        keep_ticket(context, key)
        return Outcome.succeeded(outcome=outcome, ticket=key, **self.shown(client, key))

    def is_so(self, client: RestClient, context: Context, parameters: P) -> bool:
        """Whether the run has a ticket, whose id is then kept."""
        key = self.existing(client, context, parameters)
        if key is not None:
            keep_ticket(context, key)
        return key is not None

    def _created(self, client: RestClient, context: Context, parameters: P) -> str:
        try:
            return self.create(client, context, parameters)
        except AnswerLost:
            found = self._looked(client, context, parameters, SEARCH_LOOKS)
            if found is None:
                raise
            return found

    def _looked(self, client: RestClient, context: Context, parameters: P, looks: int) -> str | None:
        try:
            return settled(
                lambda: self.existing(client, context, parameters), lambda key: key is not None, looks=looks,
                service=client.service.name,
            )  # fmt: skip
        except StepError as error:
            if error.code != "not_confirmed":
                raise
            return None


class NoteParameters(BaseParameters):
    """A note on a ticket."""

    #: Number of the ticket.
    ticket: str = Field(pattern=r"^[1-9]\d{0,17}$")
    text: str = Field(min_length=1, max_length=30_000)
    #: Only the provider's own people see it.
    internal: bool = True


class TimeParameters(NoteParameters):
    """Work on a ticket."""

    hours: float = Field(gt=0, le=24)


class WritesNote(TicketFunction[Any]):
    """Writes a note on a ticket, once per step and text. Time that was worked is a note with hours."""

    Parameters: ClassVar[type[NoteParameters]] = NoteParameters

    @abstractmethod
    def texts(self, client: RestClient, parameters: Any) -> list[str]:
        """What was written on the ticket so far."""

    @abstractmethod
    def write(self, client: RestClient, context: Context, parameters: Any, text: str) -> object:
        """Write it, and give the note's id."""

    def act(self, client: RestClient, context: Context, parameters: Any) -> Outcome:
        """Write it, unless this step did."""
        if self.is_so(client, context, parameters):
            return Outcome.succeeded(outcome="already", ticket=parameters.ticket)
        made = self.write(client, context, parameters, f"{parameters.text}\n\n{mark_of(context, parameters.text)}")
        return Outcome.succeeded(outcome="created", ticket=parameters.ticket, note=made)

    def is_so(self, client: RestClient, context: Context, parameters: Any) -> bool:
        """Whether a note has this step's mark."""
        mark = mark_of(context, parameters.text)
        return any(mark in text for text in self.texts(client, parameters))


class StatusParameters(BaseParameters):
    """Where a ticket is to go."""

    ticket: str = Field(pattern=r"^[1-9]\d{0,17}$")
    #: Name of the status.
    status: str = Field(min_length=1, max_length=100)


class SetsStatus(TicketFunction[Any]):
    """Moves a ticket to another status."""

    Parameters = StatusParameters
    impact = "The ticket stays in its status."

    @abstractmethod
    def status(self, client: RestClient, parameters: StatusParameters) -> str:
        """The name of the status that it has."""

    @abstractmethod
    def move(self, client: RestClient, parameters: StatusParameters) -> None:
        """Send it."""

    def act(self, client: RestClient, context: Context, parameters: StatusParameters) -> Outcome:
        """Move it unless it is there, and see that it arrived."""
        before = self.status(client, parameters)
        if _same(before, parameters.status):
            return Outcome.succeeded(outcome="already", ticket=parameters.ticket, before=before, after=before)
        self.move(client, parameters)
        after = settled(
            lambda: self.status(client, parameters), lambda s: _same(s, parameters.status), service=client.service.name
        )  # fmt: skip
        return Outcome.succeeded(outcome="changed", ticket=parameters.ticket, before=before, after=after)

    def is_so(self, client: RestClient, context: Context, parameters: StatusParameters) -> bool:
        """Whether it has that status."""
        return _same(self.status(client, parameters), parameters.status)


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()
