"""The account itself: suspended, moved, hidden, signed out, its password and second factor, and deleted."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from agent.failure_types import DATA_TRANSFER_FAILED
from agent.functions.accounts import Account, AccountFunction, AccountParameters, DeletesAccount, Work
from agent.functions.base import Outcome
from agent.functions.confirming import not_confirmed, settled
from agent.functions.systems.google.sign_in import SERVICE, SYSTEM, TRANSFERS, USERS, Pages, user_of
from agent.services.rest.client import Call, RestClient, path_of


class GoogleFunction(AccountFunction[Any]):
    """A function on one account of a Workspace."""

    rest = SYSTEM
    system = "Google Workspace"
    Parameters: ClassVar[type[AccountParameters]] = AccountParameters
    destructive = True
    repeatable = True
    rights = "admin.directory.user"

    def find(self, client: RestClient, asked: str, parameters: Any) -> Account | None:
        """By id, address or alias."""
        return find_user(client, asked)


def find_user(client: RestClient, asked: str) -> Account | None:
    """The account of an id, address or alias, None when there is none."""
    body = user_of(client, asked)
    return None if body is None else Account(str(body["id"]), str(body.get("primaryEmail") or ""), body)


def path(work: Work[Any], *parts: str) -> str:
    return path_of(*USERS, work.account.id, *parts)


class Change(GoogleFunction):
    """A function that changes properties of the account."""

    @abstractmethod
    def wanted(self, parameters: Any) -> Mapping[str, Any]:
        """The properties as they must be."""

    def preview(self, parameters: Any) -> str:
        """The call that would be made."""
        values = ", ".join(f"{name}={value}" for name, value in self.wanted(parameters).items())
        return f"PATCH /admin/directory/v1/users/{parameters.user} {values}"

    def change(self, work: Work[Any]) -> Outcome:
        """Change what is not so, and ask."""
        wanted = self.wanted(work.parameters)
        before = {name: work.account.body.get(name) for name in wanted}
        if before == wanted:
            return Outcome.succeeded(outcome="already", before=before, after=before)
        work.client.send(Call("PATCH", path(work), json=dict(wanted), may_repeat=True))
        settled(lambda: find_user(work.client, work.account.id), lambda user: is_so(user, wanted), service=SERVICE.name)
        return Outcome.succeeded(outcome="changed", before=before, after=dict(wanted))

    def done(self, work: Work[Any]) -> bool:
        """Whether they are so."""
        return is_so(work.account, self.wanted(work.parameters))


def is_so(user: Account | None, wanted: Mapping[str, Any]) -> bool:
    return user is not None and all(user.body.get(name) == value for name, value in wanted.items())


class Suspend(Change):
    """Suspends the account: nobody can sign in; mail and files stay, and it can be undone."""

    name = "google.suspend_user"
    summary = "Suspend an account: no sign-in, mail and files stay, and it can be undone"
    impact = "The leaver can still sign in to Google."
    critical = True

    def wanted(self, parameters: Any) -> Mapping[str, Any]:
        """Suspended."""
        return {"suspended": True}


class HideFromDirectory(Change):
    """Takes the account out of the global address list."""

    name = "google.hide_from_directory"
    summary = "Take an account out of the global address list"
    destructive = False
    impact = "The leaver is still listed."

    def wanted(self, parameters: Any) -> Mapping[str, Any]:
        """Not listed."""
        return {"includeInGlobalAddressList": False}


class UnitParameters(AccountParameters):
    """Where to."""

    #: Path of the organisational unit, such as `/Leavers`.
    org_unit: str = Field(pattern=r"^/", max_length=1000)


class MoveToOrgUnit(Change):
    """Moves the account into an organisational unit, whose settings count from then on."""

    name = "google.move_to_org_unit"
    summary = "Move an account into an organisational unit, such as one without services and licences"
    Parameters = UnitParameters
    destructive = False
    impact = "The settings of the leaver's former unit still count."

    def wanted(self, parameters: Any) -> Mapping[str, Any]:
        """The unit."""
        return {"orgUnitPath": parameters.org_unit}


class Act(GoogleFunction):
    """One call of which Google shows no result, and which may be made twice."""

    parts: ClassVar[tuple[str, ...]] = ()
    critical = True
    rights = "admin.directory.user.security"

    def preview(self, parameters: Any) -> str:
        """The call that would be made."""
        return f"POST /admin/directory/v1/users/{parameters.user}/{'/'.join(self.parts)}"

    def call(self, work: Work[Any]) -> Call:
        """The call."""
        return Call("POST", path(work, *self.parts), may_repeat=True)

    def change(self, work: Work[Any]) -> Outcome:
        """Google's word counts: there is nothing to ask."""
        work.client.send(self.call(work))
        return Outcome.succeeded(outcome="changed", verified=False)


class SignOut(Act):
    """Signs the account out everywhere."""

    name = "google.sign_out"
    summary = "Sign an account out of all web and device sessions"
    parts = ("signOut",)
    impact = "The leaver stays signed in where a session is open."


class InvalidateBackupCodes(Act):
    """Makes the backup codes of the second factor worthless."""

    name = "google.invalidate_backup_codes"
    summary = "Make the backup codes of an account's second factor worthless"
    parts = ("verificationCodes", "invalidate")
    impact = "The leaver's backup codes still work."


class ResetPassword(Act):
    """Sets a password that nobody knows. It is made here, sent, and forgotten."""

    name = "google.reset_password"
    summary = "Set a random password that is kept nowhere"
    impact = "The leaver's password still works where sign-in is not blocked."
    rights = "admin.directory.user"

    def preview(self, parameters: Any) -> str:
        """The call that would be made."""
        return f"PATCH /admin/directory/v1/users/{parameters.user} password=(random, not kept)"

    def call(self, work: Work[Any]) -> Call:
        """Set one; Google takes 8 to 100 characters."""
        return Call("PATCH", path(work), json={"password": "Aa1!" + secrets.token_urlsafe(64)}, may_repeat=True)


class TurnOffSecondFactor(GoogleFunction):
    """Takes the second factor off, with the leaver's phones and keys, once nobody can sign in."""

    name = "google.remove_second_factor"
    summary = "Turn two-step verification of an account off, which removes its phones and keys"
    impact = "The leaver's phone and keys still count as theirs."
    rights = "admin.directory.user.security"

    def preview(self, parameters: Any) -> str:
        """The call that would be made."""
        return f"POST /admin/directory/v1/users/{parameters.user}/twoStepVerification/turnOff"

    def change(self, work: Work[Any]) -> Outcome:
        """Turn it off, and ask."""
        if self.done(work):
            return Outcome.succeeded(outcome="already")
        work.client.send(Call("POST", path(work, "twoStepVerification", "turnOff"), may_repeat=True))
        off = {"isEnrolledIn2Sv": False}
        settled(lambda: find_user(work.client, work.account.id), lambda user: is_so(user, off), service=SERVICE.name)
        return Outcome.succeeded(outcome="changed")

    def done(self, work: Work[Any]) -> bool:
        """Whether it is off."""
        return work.account.body.get("isEnrolledIn2Sv") is False


class Delete(DeletesAccount[Any], GoogleFunction):
    """Deletes the account; for 20 days an administrator can restore it. What was not handed over goes with it."""

    name = "google.delete_user"
    summary = "Delete an account; an administrator can restore it for 20 days"

    def preview(self, parameters: Any) -> str:
        """The call that would be made."""
        return f"DELETE /admin/directory/v1/users/{parameters.user}, unless data is still being handed over"

    def delete(self, work: Work[Any]) -> None:
        """Delete it. Raises StepError while Google is still handing data over."""
        if "admin.datatransfer" in getattr(work.client.settings, "scopes", ""):
            call = Call("GET", TRANSFERS, {"oldOwnerUserId": work.account.id})
            states = [t.get("overallTransferStatusCode") for t in work.client.all(call, Pages(entries="dataTransfers"))]
            if "inProgress" in states:
                raise not_confirmed("Google is still handing the data over", DATA_TRANSFER_FAILED)
        work.client.send(Call("DELETE", path(work)))
