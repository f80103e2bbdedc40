"""Functions `halopsa.*`: the leaver's user becomes inactive, and the offboarding has its ticket, actions and time.

HaloPSA's REST API, of which the vendor shows the description to customers only; what is used here is what the public clients of
that API agree on. Halo takes a list of objects for every change, and calls the people of its clients users. One Halo holds
the users of every client, so each act names the client's number, and a user of another one is never touched.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.accounts import Account, AccountFunction, AccountParameters, Work, ambiguous
from agent.functions.base import Context, Function, Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.confirming import settled
from agent.functions.ticketing import (
    CreatesTicket,
    NoteParameters,
    SetsStatus,
    StatusParameters,
    TimeParameters,
    WritesNote,
)
from agent.services.rest.client import Call, RestClient, path_of
from agent.services.rest.errors import RestRefused, Service
from agent.services.rest.paging import PageNumber
from agent.services.rest.settings import RestSettings
from agent.services.rest.signing import Grant, Signing, tokens
from agent.services.rest.system import System

_SIZE = 100


class HaloSettings(RestSettings):
    """One Halo. `url`: such as https://contoso.halopsa.com."""

    client_id: str = Field(pattern=r"^[^:\s]+$", max_length=200)
    #: Name of the tenant, for a Halo that the vendor hosts.
    tenant: str = Field("", pattern=r"^[0-9A-Za-z-]*$", max_length=100)
    scope: str = Field("all", pattern=r"^[\w:]+( [\w:]+)*$")


SERVICE = Service(
    name="HaloPSA", kind="halopsa",
    remedies={
        "invalid_client": "Check client_id and client_secret of the credential, and that the application in Halo signs in by "
        "client id and secret.",
        "403": "Give the application in Halo, and the agent that it acts as, what the manual of this package names.",
    },
)  # fmt: skip


def _signing(settings: HaloSettings, given: Mapping[str, str]) -> Signing:
    secret = given["client_secret"]
    form = {
        "grant_type": "client_credentials", "client_id": settings.client_id, "client_secret": secret,
        "scope": settings.scope,
    }  # fmt: skip
    url = f"{settings.url}/auth/token" + (f"?tenant={settings.tenant}" if settings.tenant else "")
    return tokens(SERVICE, settings, Grant(url, lambda: form), settings.client_id, secret, settings.scope)


def _probe(client: RestClient) -> str:
    found = client.object(Call("GET", "/api/Users", {"count": "1"}))
    return f"it reads {found.get('record_count', 'the')} users"


SYSTEM = System(
    service=SERVICE, Settings=HaloSettings, secrets=("client_secret",), signing=_signing, probe=_probe
)  # fmt: skip


def _list(client: RestClient, path: str, entries: str, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """All entries of a list, page by page."""
    asked = {**query, "pageinate": "true", "page_size": str(_SIZE), "page_no": "1"}
    return client.all(Call("GET", path, asked), PageNumber(entries=entries, parameter="page_no", size=_SIZE))


class UserParameters(AccountParameters):
    """Whose user, and of which of Halo's clients."""

    #: Number of the client in Halo.
    client: int = Field(ge=1)


class DeactivateUser(AccountFunction[UserParameters]):
    """Makes the leaver's user inactive."""

    name = "halopsa.deactivate_user"
    summary = "Make a person's user inactive in HaloPSA"
    rest = SYSTEM
    system = "HaloPSA"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "The leaver is still an active user: portal, tickets and mail go on."
    rights = "edit:customers, and an agent who may edit users"

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"POST /api/Users [{{id of {parameters.user} at client {parameters.client}, inactive: true}}]"

    def find(self, client: RestClient, asked: str, parameters: UserParameters) -> Account | None:
        """By number or address, of that client only."""
        return find_user(client, asked, parameters.client)

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Change it, unless it is so, and ask."""
        if self.done(work):
            return Outcome.succeeded(outcome="already", after={"inactive": True})
        change = [{"id": int(work.account.id), "inactive": True}]
        work.client.send(Call("POST", "/api/Users", json=change, may_repeat=True))
        settled(
            lambda: work.client.object(Call("GET", path_of("api", "Users", work.account.id))),
            lambda body: body.get("inactive") is True, service=SERVICE.name,
        )  # fmt: skip
        before = {"inactive": work.account.body.get("inactive")}
        return Outcome.succeeded(outcome="changed", before=before, after={"inactive": True})

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether it is inactive."""
        return work.account.body.get("inactive") is True


def find_user(client: RestClient, asked: str, halo_client: int) -> Account | None:
    """The user of a number or an address at a client, None when there is none. Raises StepError for several."""
    if asked.isascii() and asked.isdigit():
        try:
            found = [client.object(Call("GET", path_of("api", "Users", asked)))]
        except RestRefused as error:
            if not error.missing:
                raise
            return None
    elif "@" in asked:
        query = {"search": asked, "client_id": str(halo_client), "includeinactive": "true"}
        found = [dict(u) for u in _list(client, "/api/Users", "users", query)]
        # The search also finds addresses that only contain it.
        found = [u for u in found if str(u.get("emailaddress")).casefold() == asked.casefold()]
    else:
        return None
    mine = [u for u in found if u.get("client_id") == halo_client]
    if len(mine) > 1:
        raise ambiguous(client, asked, [str(u["id"]) for u in mine])
    return Account(str(mine[0]["id"]), str(mine[0].get("name") or ""), mine[0]) if mine else None


class CreateParameters(BaseParameters):
    """A ticket."""

    #: Number of the client in Halo.
    client: int = Field(ge=1)
    summary: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=30_000)
    #: Number of the ticket type; 0: Halo's default.
    ticket_type: int = Field(0, ge=0)
    #: Address or number of the user that it is about; one that Halo does not have is left out.
    user: str = Field("", max_length=320)


class CreateTicket(CreatesTicket[CreateParameters]):
    """Creates the ticket of this offboarding, once. Its mark stands in the summary, which Halo's search reads."""

    name = "halopsa.create_ticket"
    summary = "Create the offboarding's ticket, once per run, and keep its number in the field Offboarding Ticket"
    rest = SYSTEM
    system = "HaloPSA"
    Parameters = CreateParameters
    rights = "edit:tickets, read:customers"

    def preview(self, parameters: CreateParameters) -> str:
        """The call that would be made."""
        return (
            f"POST /api/Tickets {parameters.summary!r} for client {parameters.client}, unless there is one of this run"
        )

    def existing(self, client: RestClient, context: Context, parameters: CreateParameters) -> str | None:
        """By the mark in the summary, at that client."""
        mark = self.run_mark(context)
        found = _list(client, "/api/Tickets", "tickets", {"search": mark, "client_id": str(parameters.client)})
        mine = [t for t in found if f"[{mark}]" in str(t.get("summary")) and t.get("client_id") == parameters.client]
        return str(mine[0]["id"]) if mine else None

    def create(self, client: RestClient, context: Context, parameters: CreateParameters) -> str:
        """Create it. What is written shows as HTML, so it is quoted."""
        body: dict[str, Any] = {
            "summary": f"{' '.join(parameters.summary.split())} [{self.run_mark(context)}]",
            "details_html": _html(parameters.description or parameters.summary), "client_id": parameters.client,
        }  # fmt: skip
        if parameters.ticket_type:
            body["tickettype_id"] = parameters.ticket_type
        user = find_user(client, parameters.user, parameters.client) if parameters.user else None
        if user is not None:
            body["user_id"] = int(user.id)
        return str(client.object(Call("POST", "/api/Tickets", json=[body]))["id"])


def _html(text: str) -> str:
    return html.escape(text.strip()).replace("\n", "<br>")


class HaloNote(WritesNote):
    """An action on a ticket; with hours it is time that was worked."""

    rest = SYSTEM
    system = "HaloPSA"
    rights = "edit:tickets"

    def texts(self, client: RestClient, parameters: NoteParameters) -> list[str]:
        """Notes of all actions."""
        found = _list(client, "/api/Actions", "actions", {"ticket_id": parameters.ticket, "excludesys": "true"})
        return [f"{a.get('note') or ''} {a.get('note_html') or ''}" for a in found]

    def body(self, parameters: Any) -> dict[str, Any]:
        """What else stands in the action."""
        return {"outcome": "Private Note" if parameters.internal else "Public Note"}

    def write(self, client: RestClient, context: Context, parameters: Any, text: str) -> object:
        """Add the action."""
        action = {
            "ticket_id": int(parameters.ticket), "note_html": _html(text), "hiddenfromuser": parameters.internal,
            "sendemail": False, **self.body(parameters),
        }  # fmt: skip
        return client.object(Call("POST", "/api/Actions", json=[action])).get("id")


class AddNote(HaloNote):
    """Writes a note on a ticket."""

    name = "halopsa.add_note"
    summary = "Write a note on a ticket, once per step and text"

    def preview(self, parameters: NoteParameters) -> str:
        """The call that would be made."""
        return f"POST /api/Actions on ticket {parameters.ticket} {parameters.text[:200]!r}"


class WorkParameters(TimeParameters):
    """Whether the client pays for it by Halo's rules."""

    charge: Literal["no", "yes"] = "no"


class AddTime(HaloNote):
    """Enters time on a ticket."""

    name = "halopsa.add_time"
    summary = "Enter time on a ticket as an action, once per step and text"
    Parameters: ClassVar[type[NoteParameters]] = WorkParameters
    impact = "The time is not entered."

    def preview(self, parameters: WorkParameters) -> str:
        """The call that would be made."""
        return f"POST /api/Actions {parameters.hours} h on ticket {parameters.ticket}"

    def body(self, parameters: Any) -> dict[str, Any]:
        """Hours, and whether they are billed."""
        return {**super().body(parameters), "timetaken": parameters.hours, "actisbillable": parameters.charge == "yes"}


class SetStatus(SetsStatus):
    """Moves a ticket to another status."""

    name = "halopsa.set_status"
    summary = "Move a ticket to another status, by the status's name"
    rest = SYSTEM
    system = "HaloPSA"
    rights = "edit:tickets"

    def preview(self, parameters: StatusParameters) -> str:
        """The call that would be made."""
        return f"POST /api/Tickets [{{id: {parameters.ticket}, status: {parameters.status}}}]"

    def status(self, client: RestClient, parameters: StatusParameters) -> str:
        """The name of its status."""
        number = client.object(Call("GET", path_of("api", "Tickets", parameters.ticket))).get("status_id")
        return next((name for key, name in self._known(client) if key == number), str(number))

    def move(self, client: RestClient, parameters: StatusParameters) -> None:
        """Set its number. Raises StepError for a name that Halo does not have."""
        known = self._known(client)
        number = next((key for key, name in known if name.casefold() == parameters.status.casefold()), None)
        if number is None:
            raise StepError(
                f"HaloPSA has no status {parameters.status!r}: {', '.join(name for _, name in known)}",
                type=INTEGRATION_ERROR, code="no_status", remediation="Write the name of a status as Halo has it.",
            )  # fmt: skip
        change = [{"id": int(parameters.ticket), "status_id": number}]
        client.send(Call("POST", "/api/Tickets", json=change, may_repeat=True))

    def _known(self, client: RestClient) -> list[tuple[Any, str]]:
        found = client.json(Call("GET", "/api/Status"))
        return (
            [(s.get("id"), str(s.get("name"))) for s in found if isinstance(s, Mapping)]
            if isinstance(found, list)
            else []
        )


FUNCTIONS: dict[str, type[Function[Any]]] = {
    f.name: f for f in (DeactivateUser, CreateTicket, AddNote, AddTime, SetStatus)
}  # fmt: skip
