"""Zoom: deactivate a user, end what runs in its name, and delete or release it with its meetings handed to the manager.

Sources: Zoom REST API v2 (Users, Groups), and "Server-to-Server OAuth" for the grant `account_credentials`. Zoom hands its
Events over together with the rest as soon as somebody is named who takes over, and refuses a deletion without (code 300).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from agent.errors import StepError
from agent.failure_types import DATA_TRANSFER_FAILED, MANAGER_NOT_FOUND
from agent.functions.accounts import (
    Account,
    AccountFunction,
    AccountParameters,
    DeletesAccount,
    Work,
    ambiguous,
    each_removed,
)
from agent.functions.base import Finding, Function, Outcome, PreflightContext
from agent.functions.confirming import settled
from agent.services.rest.client import Call, RestClient, path_of
from agent.services.rest.errors import RestRefused, Service
from agent.services.rest.paging import PageNumber
from agent.services.rest.settings import RestSettings, https_address
from agent.services.rest.signing import Grant, Signing, tokens
from agent.services.rest.system import System

SERVICE = Service(
    name="Zoom", kind="zoom", missing=frozenset({"1001", "1010"}), denied=frozenset({"4711", "4700", "124"}),
    remedies={
        "4711": "Add the missing scope to the server-to-server app, then retry the run.",
        "300": "Zoom refuses it with these settings: name a licensed user who takes the data over.",
    },
)  # fmt: skip
_MEETINGS = PageNumber(entries="meetings", parameter="page_number", pages="page_count")


class ZoomSettings(RestSettings):
    """A server-to-server app of one Zoom account."""

    url: str = "https://api.zoom.us/v2"
    #: Where tokens are given.
    oauth_url: str = "https://zoom.us/oauth/token"
    account_id: str = Field(min_length=1, max_length=100)
    client_id: str = Field(min_length=1, max_length=100, pattern=r"^[^:\s]+$")

    @field_validator("oauth_url")
    @classmethod
    def _oauth(cls, value: str) -> str:
        return https_address(value)


def _signing(settings: ZoomSettings, secrets: Mapping[str, str]) -> Signing:
    secret = secrets["client_secret"]
    form = {"grant_type": "account_credentials", "account_id": settings.account_id}
    grant = Grant(settings.oauth_url, lambda: form, (settings.client_id, secret))
    return tokens(SERVICE, settings, grant, settings.account_id, secret)


def _probe(client: RestClient) -> str:
    found = client.object(Call("GET", "/users", {"page_size": "1"}))
    return f"it reads the {found.get('total_records', '')} users of the account".replace("  ", " ")


SYSTEM = System(
    service=SERVICE, Settings=ZoomSettings, secrets=("client_secret",), signing=_signing, probe=_probe
)  # fmt: skip


class ZoomFunction(AccountFunction[Any]):
    """A function on one user of Zoom."""

    rest = SYSTEM
    system = "Zoom"
    Parameters = AccountParameters
    destructive = True
    repeatable = True

    def find(self, client: RestClient, asked: str, parameters: Any) -> Account | None:
        """By id or address; Zoom takes either."""
        return find_user(client, asked)


def find_user(client: RestClient, asked: str) -> Account | None:
    """The user of an id or address, None when there is none. Raises StepError when Zoom gives another one."""
    try:
        body = client.object(Call("GET", path_of("users", asked)))
    except RestRefused as error:
        if error.missing:
            return None
        raise
    found = Account(str(body["id"]), str(body.get("email") or ""), body)
    if asked.casefold() not in (found.id.casefold(), found.name.casefold()):
        raise ambiguous(client, asked, [found.id])
    return found


def _path(work: Work[Any], *parts: str) -> str:
    return path_of("users", work.account.id, *parts)


class Deactivate(ZoomFunction):
    """Deactivates the user: nobody can sign in, the licence is free, and it can be undone."""

    name = "zoom.deactivate_user"
    summary = "Deactivate a user: no sign-in, the licence is freed, everything is kept, and it can be undone"
    impact = "The leaver can still sign in to Zoom."
    critical = True
    rights = "user:read:user:admin, user:update:status:admin"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"PUT /users/{parameters.user}/status action=deactivate"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Deactivate unless it is so, and ask."""
        before = work.account.body.get("status")
        if before == "inactive":
            return Outcome.succeeded(outcome="already", before={"status": before}, after={"status": before})
        work.client.send(Call("PUT", _path(work, "status"), json={"action": "deactivate"}))
        after = settled(lambda: self._status(work), lambda status: status == "inactive", service=SERVICE.name)
        return Outcome.succeeded(outcome="changed", before={"status": before}, after={"status": after})

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether it is deactivated."""
        return work.account.body.get("status") == "inactive"

    def _status(self, work: Work[AccountParameters]) -> str:
        return str(work.client.object(Call("GET", _path(work))).get("status"))


class RevokeSessions(ZoomFunction):
    """Signs the user out everywhere by taking the token of its single sign-on back."""

    name = "zoom.revoke_sessions"
    summary = "Sign a user out of Zoom on all devices"
    impact = "The leaver stays signed in where a session is open."
    critical = True
    rights = "user:read:user:admin, user:delete:token:admin"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"DELETE /users/{parameters.user}/token"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Revoke it. Zoom's word counts: there is nothing to ask."""
        work.client.send(Call("DELETE", _path(work, "token")))
        return Outcome.succeeded(outcome="changed", verified=False)


class RemoveSchedulers(ZoomFunction):
    """Nobody may schedule in the leaver's name any more, nor the leaver in somebody else's."""

    name = "zoom.remove_scheduling_privileges"
    summary = "End the scheduling privileges that a user gave to others, and those that others gave to it"
    impact = "Meetings can still be scheduled in the name of somebody else."
    rights = "user:read:list_assistants:admin, user:read:list_schedulers:admin and user:delete:... of both"
    kinds: tuple[str, ...] = ("assistants", "schedulers")

    def preview(self, parameters: AccountParameters) -> str:
        """The calls that would be made."""
        return "; ".join(f"DELETE /users/{parameters.user}/{kind}" for kind in self.kinds)

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Remove what there is, and ask."""
        before = self._held(work)
        for kind in self.kinds:
            if before[kind]:
                work.client.send(Call("DELETE", _path(work, kind)))
        if any(before.values()):
            settled(lambda: self._held(work), lambda held: not any(held.values()), service=SERVICE.name)
        return Outcome.succeeded(outcome="changed" if any(before.values()) else "already", **before)

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether there are none."""
        return not any(self._held(work).values())

    def _held(self, work: Work[AccountParameters]) -> dict[str, list[str]]:
        found = {kind: work.client.object(Call("GET", _path(work, kind))).get(kind) or [] for kind in self.kinds}
        return {kind: sorted(str(p.get("email") or p.get("id")) for p in people) for kind, people in found.items()}


class RemoveGroups(ZoomFunction):
    """Takes the user out of every group of the account."""

    name = "zoom.remove_from_groups"
    summary = "Remove a user from all groups of Zoom"
    impact = "The leaver keeps what the groups give."
    rights = "user:read:user:admin, group:delete:member:admin"

    def preview(self, parameters: AccountParameters) -> str:
        """The calls that would be made."""
        return f"DELETE /groups/{{id}}/members/{parameters.user} for each group"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Leave each, and look what is left."""
        items: list[dict[str, Any]] = [{"id": group} for group in self._groups(work)]
        return each_removed(
            work, "groups", items, lambda item: self._leave(work, item["id"]), lambda: self._groups(work)
        )

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether there are none."""
        return not work.account.body.get("group_ids")

    def _leave(self, work: Work[AccountParameters], group: str) -> None:
        work.client.send(Call("DELETE", path_of("groups", group, "members", work.account.id)))

    def _groups(self, work: Work[AccountParameters]) -> list[str]:
        return [str(group) for group in work.client.object(Call("GET", _path(work))).get("group_ids") or ()]


class TransferParameters(AccountParameters):
    """To whom what is handed over."""

    #: Address or id of the manager in Zoom; may be left empty only when nothing is handed over.
    transfer_to: str = Field("", max_length=320)
    transfer_meetings: bool = True
    transfer_webinars: bool = True
    transfer_recordings: bool = True

    @property
    def transfers(self) -> dict[str, bool]:
        """What is to be handed over, by Zoom's names."""
        return {
            "transfer_meeting": self.transfer_meetings, "transfer_webinar": self.transfer_webinars,
            "transfer_recording": self.transfer_recordings,
        }  # fmt: skip


class _Leaves(DeletesAccount[TransferParameters], ZoomFunction):
    """Takes the user out of the account, after meetings, webinars and recordings are given to the manager."""

    Parameters = TransferParameters
    impact = "The user is still in the Zoom account, and the data still belongs to it."
    rights = "user:read:user:admin, user:delete:user:admin, meeting:read:list_meetings:admin"
    action: Literal["delete", "disassociate"]

    def preview(self, parameters: TransferParameters) -> str:
        """The call that would be made."""
        return _removal(parameters.user, self.action, parameters, parameters.transfer_to or "(nobody)").doing

    def preflight(self, context: PreflightContext, parameters: TransferParameters) -> list[Finding]:
        """The leaver and the manager."""
        found = super().preflight(context, parameters)
        if not parameters.transfer_to:
            return [
                *found,
                *(
                    [Finding.of(SERVICE.name, _no_manager("nobody is named"))]
                    if any(parameters.transfers.values())
                    else []
                ),
            ]
        with self.opened(context, parameters) as client:
            if find_user(client, parameters.transfer_to) is None:
                found.append(Finding.of(SERVICE.name, _no_manager(f"{parameters.transfer_to!r} is no user of Zoom")))
        return found

    def change(self, work: Work[TransferParameters]) -> Outcome:
        """Look who takes over, remove the user, and see that it is gone and its meetings are the manager's."""
        heir = _heir(work)
        meetings = _upcoming(work.client, work.account.id) if heir and work.parameters.transfer_meetings else set()
        query = {"transferred_to": heir.name, "meetings": len(meetings)} if heir else {}
        outcome = super().change(work)
        if heir is not None and meetings:
            lost = self._lost(work, heir, meetings)
            if lost:
                return Outcome.failed(_not_handed_over(lost, heir), **outcome.result, **query)
        return Outcome(
            outcome.state, {**outcome.result, **query, "handed_over": self._asked_for(work, heir)}, outcome.error
        )

    def delete(self, work: Work[TransferParameters]) -> None:
        """Send it."""
        heir = _heir(work)
        # A user who never accepted the invitation cannot be deleted, only released (Zoom API, "Delete a user").
        action = "disassociate" if work.account.body.get("status") == "pending" else self.action
        work.client.send(_removal(work.account.id, action, work.parameters, heir.name if heir else ""))

    def _lost(self, work: Work[TransferParameters], heir: Account, meetings: set[str]) -> set[str]:
        try:
            settled(
                lambda: meetings - _upcoming(work.client, heir.id), lambda missing: not missing, service=SERVICE.name
            )  # fmt: skip
        except StepError as error:
            if error.code != "not_confirmed":
                raise
            return meetings - _upcoming(work.client, heir.id)
        return set()

    def _asked_for(self, work: Work[TransferParameters], heir: Account | None) -> list[str]:
        return [
            name.removeprefix("transfer_") + "s"
            for name, wanted in work.parameters.transfers.items()
            if heir and wanted
        ]


class Delete(_Leaves):
    """Deletes the user and its data for good."""

    name = "zoom.delete_user"
    summary = "Delete a user for good; meetings, webinars, recordings and Zoom Events go to the manager"
    action = "delete"


class Disassociate(_Leaves):
    """Releases the user: it keeps a free account of its own, outside the organisation."""

    name = "zoom.disassociate_user"
    summary = "Release a user from the account; meetings, webinars, recordings and Zoom Events go to the manager"
    action = "disassociate"


def _removal(user: str, action: str, parameters: TransferParameters, heir: str) -> Call:
    query = {"action": action}
    if parameters.transfer_to:
        query |= {
            "transfer_email": heir,
            **{name: str(wanted).lower() for name, wanted in parameters.transfers.items()},
        }
    return Call("DELETE", path_of("users", user), query)


def _heir(work: Work[TransferParameters]) -> Account | None:
    """Who takes over; None when nothing is handed over. Raises StepError (MANAGER_NOT_FOUND)."""
    asked = work.parameters.transfer_to.strip()
    if not asked:
        if any(work.parameters.transfers.values()):
            raise _no_manager("nobody is named who takes over the meetings, webinars and recordings")
        return None
    found = find_user(work.client, asked)
    if found is None:
        raise _no_manager(f"there is no user {asked!r} in Zoom")
    if found.id == work.account.id:
        raise _no_manager(f"{asked!r} is the leaver")
    if found.body.get("status", "active") != "active":
        raise _no_manager(f"{asked!r} is {found.body['status']} in Zoom")
    return found


def _no_manager(why: str) -> StepError:
    return StepError(
        f"the data cannot be handed over: {why}", type=MANAGER_NOT_FOUND, code="manager_not_found",
        impact="Nothing was changed in Zoom: the user and its data are as they were.",
        remediation="Enter the contact's manager with the address that he or she has in Zoom, then retry the run.",
    )  # fmt: skip


def _not_handed_over(lost: set[str], heir: Account) -> StepError:
    return StepError(
        f"the user is gone, and {len(lost)} meetings are not {heir.name}'s: {', '.join(sorted(lost)[:10])}",
        type=DATA_TRANSFER_FAILED, code="not_confirmed", impact="Nobody can change these meetings.",
        remediation="Look at the manager's meetings in Zoom; Zoom's support can bring data of a deleted user back.",
    )  # fmt: skip


def _upcoming(client: RestClient, user: str) -> set[str]:
    """Ids of the meetings that are still to come."""
    call = Call("GET", path_of("users", user, "meetings"), {"type": "upcoming", "page_size": "300"})
    return {str(meeting["id"]) for meeting in client.all(call, _MEETINGS)}


FUNCTIONS: dict[str, type[Function[Any]]] = {
    f.name: f for f in (Deactivate, RevokeSessions, RemoveSchedulers, RemoveGroups, Delete, Disassociate)
}
