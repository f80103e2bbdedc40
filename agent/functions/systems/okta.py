"""Functions `okta.*`: an account of Okta loses its sessions, groups, roles and factors, is deactivated, and deleted.

Okta's Management API (version 2026.06). An account is found by id or login, else by its address. What cannot be undone
there: a deactivation takes the account out of every application that Okta provisions.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.accounts import (
    Account,
    AccountFunction,
    AccountParameters,
    DeletesAccount,
    Work,
    ambiguous,
    each_removed,
)
from agent.functions.base import Function, Outcome
from agent.functions.confirming import settled
from agent.services.rest.client import Call, RestClient, path_of
from agent.services.rest.errors import RestRefused, Service
from agent.services.rest.paging import LinkHeader, Whole
from agent.services.rest.settings import RestSettings
from agent.services.rest.signing import api_key
from agent.services.rest.system import System

_GONE = "DEPROVISIONED"
_PASSWORD_BEFORE = "Okta password before"


class OktaSettings(RestSettings):
    """`url`: address of the organisation, such as https://contoso.okta.com."""


def _probe(client: RestClient) -> str:
    me = client.object(Call("GET", "/api/v1/users/me"))
    return f"signed in as {(me.get('profile') or {}).get('login')}"


SERVICE = Service(
    name="Okta", kind="okta", missing=frozenset({"E0000007"}), denied=frozenset({"E0000006", "E0000011"}),
    busy=frozenset({"E0000047"}),
    remedies={
        "E0000006": "Give the account whose API token it is the role of an administrator who may do this; an account "
        "with administrator roles needs a super administrator.",
        "E0000011": "The API token is wrong or has expired after 30 days without use: make a new one and enter it.",
    },
)  # fmt: skip
SYSTEM = System(
    service=SERVICE, Settings=OktaSettings, secrets=("token",), probe=_probe,
    signing=lambda settings, given: api_key(SERVICE, given["token"], prefix="SSWS "),
)  # fmt: skip


class OktaFunction(AccountFunction[AccountParameters]):
    """A function on one account of Okta."""

    rest = SYSTEM
    system = "Okta"
    Parameters = AccountParameters

    def find(self, client: RestClient, asked: str, parameters: AccountParameters) -> Account | None:
        """By id or login, else by the address in the profile."""
        return find_user(client, asked)


def find_user(client: RestClient, asked: str) -> Account | None:
    """The account of an id, login or address, None when there is none. Raises StepError when there are several."""
    try:
        return _account(client.object(Call("GET", path_of("api", "v1", "users", asked))))
    except RestRefused as error:
        if not error.missing:
            raise
    if "@" not in asked:
        return None
    quoted = asked.replace("\\", "\\\\").replace('"', '\\"')
    search = Call("GET", "/api/v1/users", {"search": f'profile.email eq "{quoted}"', "limit": "10"})
    found = [_account(user) for user in client.all(search, Whole())]
    if len(found) > 1:
        raise ambiguous(client, asked, [a.id for a in found])
    return found[0] if found else None


def _account(body: Mapping[str, Any]) -> Account:
    return Account(str(body["id"]), str((body.get("profile") or {}).get("login") or ""), body)


def _path(work: Work[Any], *parts: str) -> str:
    return path_of("api", "v1", "users", work.account.id, *parts)


def _status(work: Work[Any]) -> str:
    return str(work.client.object(Call("GET", _path(work))).get("status"))


def _to_status(work: Work[Any], act: str, good: tuple[str, ...]) -> dict[str, Any]:
    """Do what changes the status, unless it is so, and see that it has come to it."""
    before = str(work.account.body.get("status"))
    if before in good:
        return {"outcome": "already", "before": {"status": before}, "after": {"status": before}}
    query = {"sendEmail": "false"} if act == "deactivate" else {}
    work.client.send(Call("POST", _path(work, "lifecycle", act), query))
    after = settled(lambda: _status(work), lambda status: status in good, service=SERVICE.name)
    return {"outcome": "changed", "before": {"status": before}, "after": {"status": after}}


class Deactivate(OktaFunction):
    """Deactivates the account: nobody can sign in, and Okta takes it out of every application."""

    name = "okta.deactivate_user"
    summary = "Deactivate an account; Okta takes it out of all its applications, which cannot be undone"
    destructive = True
    repeatable = True
    impact = "The leaver can still sign in to Okta and everything behind it."
    critical = True
    rights = "Group or Organization Administrator"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"POST /api/v1/users/{parameters.user}/lifecycle/deactivate"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Note the applications, deactivate, and ask. Already deactivated is fine."""
        links = [] if work.account.body.get("status") == _GONE else _applications(work)
        return Outcome.succeeded(**_to_status(work, "deactivate", (_GONE,)), apps=links)

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether it is deactivated."""
        return work.account.body.get("status") == _GONE


def _applications(work: Work[Any]) -> list[str]:
    found = work.client.all(Call("GET", _path(work, "appLinks")), LinkHeader())
    return sorted({str(link.get("label") or link.get("appName") or "") for link in found} - {""})


class Suspend(OktaFunction):
    """Suspends the account: nobody can sign in; groups and applications stay, and it can be undone."""

    name = "okta.suspend_user"
    summary = "Suspend an account: no sign-in, groups and applications stay, and it can be undone"
    destructive = True
    repeatable = True
    impact = "The leaver can still sign in to Okta and everything behind it."
    critical = True
    rights = "Group or Organization Administrator"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"POST /api/v1/users/{parameters.user}/lifecycle/suspend"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Suspend, and ask. An account that is deactivated stays so."""
        return Outcome.succeeded(**_to_status(work, "suspend", ("SUSPENDED", _GONE)))

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether nobody can sign in."""
        return work.account.body.get("status") in ("SUSPENDED", _GONE)


class ClearSessions(OktaFunction):
    """Ends every session of the account and takes back the tokens that Okta issued to it."""

    name = "okta.clear_sessions"
    summary = "End all sessions of an account, revoke its tokens and forget its devices"
    destructive = True
    repeatable = True  # what is ended cannot be ended further; Okta shows no sessions, so asking tells nothing
    impact = "The leaver stays signed in where a session is open."
    critical = True
    rights = "Group or Organization Administrator"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"DELETE /api/v1/users/{parameters.user}/sessions?oauthTokens=true&forgetDevices=true"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """End them. Okta's word counts: there is nothing to ask."""
        work.client.send(Call("DELETE", _path(work, "sessions"), {"oauthTokens": "true", "forgetDevices": "true"}))
        return Outcome.succeeded(outcome="changed", verified=False)


class ResetPassword(OktaFunction):
    """Sets a password that nobody knows. It is made here, sent once, and forgotten."""

    name = "okta.reset_password"
    summary = "Set a random password that is kept nowhere"
    destructive = True
    impact = "The leaver's password still works where sign-in is not blocked."
    critical = True
    rights = "Group or Organization Administrator"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"POST /api/v1/users/{parameters.user} credentials.password=(random, not kept)"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Note when it was last changed, change it, and see that this has moved."""
        before = work.account.body.get("passwordChanged")
        # Recorded first: if the answer is lost, only this tells whether the password was changed.
        work.context.set_state(_PASSWORD_BEFORE, f"{work.context.step_id} {before}")
        # Okta takes at most 72 characters.
        password = {"password": {"value": "Aa1!" + secrets.token_urlsafe(50)}}
        work.client.send(Call("POST", _path(work), json={"credentials": password}))
        after = settled(
            lambda: find_user(work.client, work.account.id),
            lambda user: user is not None and user.body.get("passwordChanged") != before, service=SERVICE.name,
        )  # fmt: skip
        shown = after.body.get("passwordChanged") if after else None
        return Outcome.succeeded(
            outcome="changed", recoverable=False, before={"last_changed": before}, after={"last_changed": shown}
        )

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether it was changed since this step noted the time of the last change."""
        step, _, before = (work.context.state(_PASSWORD_BEFORE) or "").partition(" ")
        return step == work.context.step_id and str(work.account.body.get("passwordChanged")) != before


class ResetFactors(OktaFunction):
    """Takes every second factor off the account."""

    name = "okta.reset_factors"
    summary = "Remove all second factors of an account"
    destructive = True
    repeatable = True
    impact = "The leaver's authenticators still count as theirs."
    rights = "Group or Organization Administrator"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"POST /api/v1/users/{parameters.user}/lifecycle/reset_factors"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Reset, unless there are none, and ask."""
        before = self._factors(work)
        if not before:
            return Outcome.succeeded(outcome="already", factors=[])
        work.client.send(Call("POST", _path(work, "lifecycle", "reset_factors"), may_repeat=True))
        settled(lambda: self._factors(work), lambda left: not left, service=SERVICE.name)
        return Outcome.succeeded(outcome="changed", factors=before)

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether there are none."""
        return not self._factors(work)

    def _factors(self, work: Work[AccountParameters]) -> list[str]:
        found = work.client.all(Call("GET", _path(work, "factors")), LinkHeader())
        return [str(f.get("factorType")) for f in found]


class RemoveGroups(OktaFunction):
    """Takes the leaver out of every group of Okta's own."""

    name = "okta.remove_from_groups"
    summary = "Remove an account from all groups of Okta; those of a directory or an application are named"
    destructive = True
    repeatable = True
    impact = "The leaver keeps what the groups give."
    rights = "Group Administrator"

    def preview(self, parameters: AccountParameters) -> str:
        """The calls that would be made."""
        return f"DELETE /api/v1/groups/{{id}}/users/{parameters.user} for each group of the type OKTA_GROUP"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Leave each, and look what is left. `Everyone` and groups that another directory keeps stay."""
        items = [self._item(group) for group in self._groups(work)]
        return each_removed(
            work, "groups", items,
            lambda item: _sent(work, Call("DELETE", path_of("api", "v1", "groups", item["id"], "users", work.account.id))),
            lambda: [g["id"] for g in self._groups(work)],
        )  # fmt: skip

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether only groups are left that are kept elsewhere."""
        return not any(g.get("type") == "OKTA_GROUP" for g in self._groups(work))

    def _groups(self, work: Work[AccountParameters]) -> list[Mapping[str, Any]]:
        return work.client.all(Call("GET", _path(work, "groups")), LinkHeader())

    def _item(self, group: Mapping[str, Any]) -> dict[str, Any]:
        item = {"id": str(group["id"]), "name": (group.get("profile") or {}).get("name"), "type": group.get("type")}
        if group.get("type") == "OKTA_GROUP":
            return item
        why = "everybody is in it" if group.get("type") == "BUILT_IN" else "its members are kept in another directory"
        return {**item, "outcome": "kept", "reason": why}


class RemoveRoles(OktaFunction):
    """Takes every administrator role off the account."""

    name = "okta.remove_admin_roles"
    summary = "Remove all administrator roles of an account; those that a group gives go with the group"
    destructive = True
    repeatable = True
    impact = "The leaver is still an administrator."
    critical = True
    rights = "Super Administrator"

    def preview(self, parameters: AccountParameters) -> str:
        """The calls that would be made."""
        return f"DELETE /api/v1/users/{parameters.user}/roles/{{id}} for each role"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Take each off, and look what is left."""
        items = [self._item(role) for role in self._roles(work)]
        return each_removed(
            work, "roles", items, lambda item: _sent(work, Call("DELETE", _path(work, "roles", item["id"]))),
            lambda: [r["id"] for r in self._roles(work)],
        )  # fmt: skip

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether none of its own is left."""
        return all(r.get("assignmentType") == "GROUP" for r in self._roles(work))

    def _roles(self, work: Work[AccountParameters]) -> list[Mapping[str, Any]]:
        return work.client.all(Call("GET", _path(work, "roles")), LinkHeader())

    def _item(self, role: Mapping[str, Any]) -> dict[str, Any]:
        item = {"id": str(role["id"]), "name": role.get("label") or role.get("type")}
        by_group = {"outcome": "kept", "reason": "a group gives it: it goes with the group"}
        return item | (by_group if role.get("assignmentType") == "GROUP" else {})


def _sent(work: Work[Any], call: Call) -> None:
    work.client.send(call)


class Delete(DeletesAccount[AccountParameters], OktaFunction):
    """Deletes the account for good, once it is deactivated."""

    name = "okta.delete_user"
    summary = "Delete a deactivated account for good"
    rights = "Group or Organization Administrator"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"DELETE /api/v1/users/{parameters.user}, if it is deactivated"

    def delete(self, work: Work[AccountParameters]) -> None:
        """Delete it. Raises StepError while it is active: Okta would only deactivate it, and without a word."""
        if work.account.body.get("status") != _GONE:
            raise StepError(
                f"the account {work.account.name} is {work.account.body.get('status')}, not deactivated",
                type=INTEGRATION_ERROR, code="not_deactivated",
                remediation="Deactivate it first: okta.deactivate_user.",
            )  # fmt: skip
        work.client.send(Call("DELETE", _path(work), {"sendEmail": "false"}))


FUNCTIONS: dict[str, type[Function[Any]]] = {
    f.name: f
    for f in (
        Deactivate, Suspend, ClearSessions, ResetPassword, ResetFactors, RemoveGroups, RemoveRoles, Delete,
    )
}  # fmt: skip
