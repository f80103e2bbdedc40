"""Functions `connectwise_psa.*`: the leaver's contact becomes inactive, and the offboarding has its ticket, notes and time.

ConnectWise PSA (Manage), REST API 3.0. The vendor gives its description to partners only; what is used here is what the public
clients of that API agree on. One PSA holds the contacts of every client, so each act names the company, and a contact of
another one is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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
from agent.model.base import utcnow
from agent.services.rest.client import Call, RestClient, path_of
from agent.services.rest.errors import RestRefused, Service
from agent.services.rest.paging import PageNumber
from agent.services.rest.settings import RestSettings
from agent.services.rest.signing import Fixed, basic
from agent.services.rest.system import System

_SIZE = 500
_PAGES = PageNumber(parameter="page", size=_SIZE)
#: Identifier of a company: what people call its short name. Quotes and backslashes could end a condition.
COMPANY = r"^[^\"\\\s][^\"\\]{0,49}$"


class PsaSettings(RestSettings):
    """One PSA. `url`: such as https://api-na.myconnectwise.net/v4_6_release/apis/3.0."""

    #: The name of the company that one signs in with.
    company: str = Field(pattern=r"^[^+:\s]+$", max_length=100)
    #: Public key of the API member.
    public_key: str = Field(pattern=r"^[^:\s]+$", max_length=200)
    #: Client id of the integration, from developer.connectwise.com.
    client_id: str = Field(pattern=r"^[0-9A-Za-z-]{1,100}$")


SERVICE = Service(
    name="ConnectWise PSA", kind="connectwise_psa", missing=frozenset({"NotFound"}),
    denied=frozenset({"Unauthorized", "InsufficientPermissions", "SecurityNotAuthorized"}),
    remedies={
        "401": "Check company, public_key and private_key of the credential, and that its client_id is registered.",
        "403": "Give the security role of the API member what the manual of this package names.",
        "InvalidObject": "A name in the step is none of the PSA's: check board, status, work type and company.",
    },
)  # fmt: skip


def _signing(settings: PsaSettings, given: Mapping[str, str]) -> Fixed:
    signed = basic(SERVICE, f"{settings.company}+{settings.public_key}", given["private_key"])
    return Fixed({**signed.given, "clientId": settings.client_id})


def _probe(client: RestClient) -> str:
    found = client.object(Call("GET", "/company/contacts/count"))
    return f"it reads {found.get('count', 'the')} contacts"


SYSTEM = System(
    service=SERVICE, Settings=PsaSettings, secrets=("private_key",), signing=_signing, probe=_probe
)  # fmt: skip


class ContactParameters(AccountParameters):
    """Whose contact, and of which company."""

    #: The company's identifier in the PSA.
    company: str = Field(pattern=COMPANY)


class DeactivateParameters(ContactParameters):
    """What else is set."""

    #: Name of a contact type that the contact gets in place of its others, such as `Former Employee`; empty: they stay.
    contact_type: str = Field("", pattern=r"^[^\"\\]{0,50}$")


class DeactivateContact(AccountFunction[DeactivateParameters]):
    """Makes the leaver's contact inactive."""

    name = "connectwise_psa.deactivate_contact"
    summary = "Make a person's contact inactive; with `contact_type` also a former employee"
    rest = SYSTEM
    system = "ConnectWise PSA"
    Parameters = DeactivateParameters
    destructive = True
    repeatable = True
    impact = "The leaver is still an active contact: tickets and mail go there."
    rights = "Companies: Contacts, inquire and edit, all"

    def preview(self, parameters: DeactivateParameters) -> str:
        """The call that would be made."""
        more = f", types={parameters.contact_type}" if parameters.contact_type else ""
        return f"PATCH /company/contacts/{{{parameters.user} of {parameters.company}}} inactiveFlag=true{more}"

    def find(self, client: RestClient, asked: str, parameters: DeactivateParameters) -> Account | None:
        """By number or address, of that company only."""
        return find_contact(client, asked, parameters.company)

    def change(self, work: Work[DeactivateParameters]) -> Outcome:
        """Change what is not so, and ask."""
        before = _shown(work.account.body)
        if self._so(work, work.account.body):
            return Outcome.succeeded(outcome="already", before=before, after=before)
        operations: list[dict[str, Any]] = [{"op": "replace", "path": "inactiveFlag", "value": True}]
        if work.parameters.contact_type:
            operations.append({"op": "replace", "path": "types", "value": [{"name": work.parameters.contact_type}]})
        work.client.send(Call("PATCH", _contact(work.account.id), json=operations, may_repeat=True))
        after = settled(
            lambda: work.client.object(Call("GET", _contact(work.account.id))), lambda body: self._so(work, body),
            service=SERVICE.name,
        )  # fmt: skip
        return Outcome.succeeded(outcome="changed", before=before, after=_shown(after))

    def done(self, work: Work[DeactivateParameters]) -> bool:
        """Whether it is so."""
        return self._so(work, work.account.body)

    def _so(self, work: Work[DeactivateParameters], body: Mapping[str, Any]) -> bool:
        wanted = work.parameters.contact_type
        return body.get("inactiveFlag") is True and (not wanted or _types(body) == [wanted])


def _contact(key: str) -> str:
    return path_of("company", "contacts", key)


def _types(body: Mapping[str, Any]) -> list[str]:
    return [str(t.get("name")) for t in body.get("types") or ()]


def _shown(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"inactive": body.get("inactiveFlag"), "types": _types(body)}


def find_contact(client: RestClient, asked: str, company: str) -> Account | None:
    """The contact of a number or an address at a company, None when there is none. Raises StepError for several."""
    if asked.isascii() and asked.isdigit():
        try:
            found = [client.object(Call("GET", _contact(asked)))]
        except RestRefused as error:
            if not error.missing:
                raise
            return None
    elif "@" in asked and not set('"\\') & set(asked):
        query = {
            "conditions": f'company/identifier="{company}"', "pageSize": str(_SIZE), "page": "1",
            "childConditions": f'communicationItems/value="{asked}" and communicationItems/communicationType="Email"',
        }  # fmt: skip
        found = client.all(Call("GET", "/company/contacts", query), _PAGES)
        found = [c for c in found if asked.casefold() in _addresses(c)]
    else:
        return None
    mine = [c for c in found if str((c.get("company") or {}).get("identifier")).casefold() == company.casefold()]
    if len(mine) > 1:
        raise ambiguous(client, asked, [str(c["id"]) for c in mine])
    if not mine:
        return None
    name = " ".join(str(mine[0].get(part) or "") for part in ("firstName", "lastName")).strip()
    return Account(str(mine[0]["id"]), name, mine[0])


def _addresses(contact: Mapping[str, Any]) -> list[str]:
    items = contact.get("communicationItems") or ()
    return [str(i.get("value")).casefold() for i in items if i.get("communicationType") == "Email"]


class CreateParameters(BaseParameters):
    """A ticket."""

    company: str = Field(pattern=COMPANY)
    #: Name of the service board.
    board: str = Field(min_length=1, max_length=50)
    summary: str = Field(min_length=1, max_length=255)
    description: str = Field("", max_length=30_000)
    #: Address or number of the contact that it is about; empty: none.
    contact: str = Field("", max_length=320)


class CreateTicket(CreatesTicket[CreateParameters]):
    """Creates the service ticket of this offboarding, once."""

    name = "connectwise_psa.create_ticket"
    summary = (
        "Create the offboarding's service ticket, once per run, and keep its number in the field Offboarding Ticket"
    )
    rest = SYSTEM
    system = "ConnectWise PSA"
    Parameters = CreateParameters
    rights = "Service Desk: Service Tickets, inquire and add, all"

    def preview(self, parameters: CreateParameters) -> str:
        """The call that would be made."""
        return f"POST /service/tickets {parameters.summary!r} on {parameters.board} for {parameters.company}, unless there is one of this run"

    def existing(self, client: RestClient, context: Context, parameters: CreateParameters) -> str | None:
        """By the ticket's external reference."""
        query = {
            "conditions": f'externalXRef="{self.run_mark(context)}"',
            "fields": "id,externalXRef",
            "pageSize": "10",
        }
        found = client.json(Call("GET", "/service/tickets", query)) or []
        return next((str(t["id"]) for t in found if t.get("externalXRef") == self.run_mark(context)), None)

    def create(self, client: RestClient, context: Context, parameters: CreateParameters) -> str:
        """Create it; the PSA takes 100 characters of summary."""
        body: dict[str, Any] = {
            "summary": " ".join(parameters.summary.split())[:100], "board": {"name": parameters.board},
            "company": {"identifier": parameters.company}, "externalXRef": self.run_mark(context),
        }  # fmt: skip
        if parameters.description.strip():
            body["initialDescription"] = parameters.description
        if parameters.contact:
            contact = find_contact(client, parameters.contact, parameters.company)
            if contact is not None:
                body["contact"] = {"id": int(contact.id)}
        return str(client.object(Call("POST", "/service/tickets", json=body))["id"])


def _ticket(key: str, *parts: str) -> str:
    return path_of("service", "tickets", key, *parts)


class AddNote(WritesNote):
    """Writes a note on a ticket."""

    name = "connectwise_psa.add_note"
    summary = "Write a note on a service ticket, once per step and text"
    rest = SYSTEM
    system = "ConnectWise PSA"
    rights = "Service Desk: Service Tickets, inquire and edit, all"

    def preview(self, parameters: NoteParameters) -> str:
        """The call that would be made."""
        return f"POST /service/tickets/{parameters.ticket}/notes {parameters.text[:200]!r}"

    def texts(self, client: RestClient, parameters: NoteParameters) -> list[str]:
        """All notes."""
        call = Call("GET", _ticket(parameters.ticket, "notes"), {"pageSize": str(_SIZE), "page": "1"})
        return [str(n.get("text") or "") for n in client.all(call, _PAGES)]

    def write(self, client: RestClient, context: Context, parameters: NoteParameters, text: str) -> object:
        """In the discussion, or in the internal analysis."""
        body = {
            "text": text,
            "detailDescriptionFlag": not parameters.internal,
            "internalAnalysisFlag": parameters.internal,
        }
        return client.object(Call("POST", _ticket(parameters.ticket, "notes"), json=body)).get("id")


class EntryParameters(TimeParameters):
    """Whose work, and of which type."""

    #: Identifier of the member; empty: the API member itself.
    member: str = Field("", max_length=50)
    work_type: str = Field("", max_length=50)
    billable: str = Field("DoNotBill", pattern=r"^(Billable|DoNotBill|NoCharge|NoDefault)$")


class AddTime(WritesNote):
    """Enters time on a ticket."""

    name = "connectwise_psa.add_time"
    summary = "Enter time on a service ticket, once per step and text"
    rest = SYSTEM
    system = "ConnectWise PSA"
    Parameters: ClassVar[type[NoteParameters]] = EntryParameters
    impact = "The time is not entered."
    rights = "Time & Expense: Time Entry, inquire and add, all"

    def preview(self, parameters: EntryParameters) -> str:
        """The call that would be made."""
        return f"POST /time/entries {parameters.hours} h on ticket {parameters.ticket}"

    def texts(self, client: RestClient, parameters: EntryParameters) -> list[str]:
        """Notes of all entries of the ticket."""
        conditions = f'chargeToType="ServiceTicket" and chargeToId={parameters.ticket}'
        call = Call("GET", "/time/entries", {"conditions": conditions, "pageSize": str(_SIZE), "page": "1"})
        return [str(e.get("notes") or "") for e in client.all(call, _PAGES)]

    def write(self, client: RestClient, context: Context, parameters: EntryParameters, text: str) -> object:
        """An entry from now on; the PSA takes times without fractions of a second."""
        body: dict[str, Any] = {
            "chargeToId": int(parameters.ticket), "chargeToType": "ServiceTicket", "actualHours": parameters.hours,
            "timeStart": utcnow().strftime("%Y-%m-%dT%H:%M:%SZ"), "billableOption": parameters.billable, "notes": text,
            "addToInternalAnalysisFlag": parameters.internal, "addToDetailDescriptionFlag": not parameters.internal,
        }  # fmt: skip
        if parameters.member:
            body["member"] = {"identifier": parameters.member}
        if parameters.work_type:
            body["workType"] = {"name": parameters.work_type}
        return client.object(Call("POST", "/time/entries", json=body)).get("id")


class SetStatus(SetsStatus):
    """Moves a ticket to another status of its board."""

    name = "connectwise_psa.set_status"
    summary = "Move a service ticket to another status of its board"
    rest = SYSTEM
    system = "ConnectWise PSA"
    rights = "Service Desk: Service Tickets, inquire and edit, all"

    def preview(self, parameters: StatusParameters) -> str:
        """The call that would be made."""
        return f"PATCH /service/tickets/{parameters.ticket} status={parameters.status}"

    def status(self, client: RestClient, parameters: StatusParameters) -> str:
        """The name of its status."""
        found = client.object(Call("GET", _ticket(parameters.ticket))).get("status")
        if not isinstance(found, Mapping):
            raise StepError(f"the ticket {parameters.ticket} shows no status", type=INTEGRATION_ERROR, code="no_status")
        return str(found.get("name"))

    def move(self, client: RestClient, parameters: StatusParameters) -> None:
        """Replace it."""
        operations = [{"op": "replace", "path": "status", "value": {"name": parameters.status}}]
        client.send(Call("PATCH", _ticket(parameters.ticket), json=operations, may_repeat=True))


FUNCTIONS: dict[str, type[Function[Any]]] = {
    f.name: f for f in (DeactivateContact, CreateTicket, AddNote, AddTime, SetStatus)
}  # fmt: skip
