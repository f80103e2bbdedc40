"""Slack: sign the user out, take it out of channels and out of the workspace.

Slack Web API. It says no with status 200 and `ok: false`. `admin.*` needs an Enterprise organisation and a token of its owner or
admin; in other plans accounts are deactivated by Slack's SCIM service, see the package SCIM Application.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from agent.functions.accounts import (
    Account,
    AccountFunction,
    AccountParameters,
    DeletesAccount,
    Work,
    each_removed,
)
from agent.functions.base import Context, Function, Outcome
from agent.services.rest.client import Call, RestClient
from agent.services.rest.errors import RestRefused, Service
from agent.services.rest.paging import PageToken
from agent.services.rest.settings import RestSettings
from agent.services.rest.signing import bearer
from agent.services.rest.system import System

_ID = re.compile(r"[UW][A-Z0-9]{2,30}")
_CHANNELS = PageToken(entries="channels", next="response_metadata.next_cursor", parameter="cursor")
SERVICE = Service(
    name="Slack", kind="slack",
    missing=frozenset({"user_not_found", "users_not_found", "user_not_visible", "channel_not_found", "not_in_channel"}),
    denied=frozenset(
        {
            "not_authed", "invalid_auth", "account_inactive", "token_revoked", "token_expired", "missing_scope", "no_permission",
            "not_allowed_token_type", "org_login_required", "enterprise_is_restricted", "restricted_action", "not_an_admin",
            "cannot_modify_user", "access_denied", "feature_not_enabled",
        }
    ),
    busy=frozenset({"ratelimited", "rate_limited", "internal_error", "fatal_error", "request_timeout", "service_unavailable"}),
    refuses=lambda body: isinstance(body, Mapping) and body.get("ok") is False,
    remedies={
        "missing_scope": "Add the scope that the manual names to the Slack app, install it again, and enter the new token.",
        "not_allowed_token_type": "Use a user token (xoxp-) of an owner or admin of the organisation.",
        "feature_not_enabled": "admin.* needs an Enterprise organisation: deactivate by SCIM, see the package Slack.",
    },
)  # fmt: skip


class SlackSettings(RestSettings):
    """One workspace."""

    url: str = "https://slack.com/api"
    #: Id of the workspace that people are removed from; empty: that of the token.
    team_id: str = Field("", pattern=r"^([TE][A-Z0-9]{2,30})?$")


def _probe(client: RestClient) -> str:
    me = client.object(Call("GET", "/auth.test"))
    return f"signed in as {me.get('user')} in the workspace {me.get('team')} ({me.get('team_id')})"


SYSTEM = System(
    service=SERVICE, Settings=SlackSettings, secrets=("token",), probe=_probe,
    signing=lambda settings, given: bearer(SERVICE, given["token"]),
)  # fmt: skip


class SlackFunction(AccountFunction[AccountParameters]):
    """A function on one user of Slack."""

    rest = SYSTEM
    system = "Slack"
    Parameters = AccountParameters
    destructive = True
    repeatable = True

    def find(self, client: RestClient, asked: str, parameters: AccountParameters) -> Account | None:
        """By id or mail address. By the address Slack finds nobody who is deactivated."""
        return find_user(client, asked)


def find_user(client: RestClient, asked: str) -> Account | None:
    """The user of an id or a mail address, None when there is none."""
    by_id = Call("GET", "/users.info", {"user": asked})
    call = by_id if _ID.fullmatch(asked) else Call("GET", "/users.lookupByEmail", {"email": asked})
    try:
        user = client.object(call).get("user") or {}
    except RestRefused as error:
        if error.missing:
            return None
        raise
    profile = user.get("profile") or {}
    return Account(str(user["id"]), str(profile.get("email") or user.get("name") or ""), user)


class ResetSessions(SlackFunction):
    """Ends every session of the user, on computers and phones."""

    name = "slack.reset_sessions"
    summary = "End all sessions of a user, on the web, on computers and on phones"
    impact = "The leaver stays signed in to Slack where a session is open."
    critical = True
    rights = "users:read, users:read.email, admin.users:write (Enterprise)"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"POST /admin.users.session.reset user_id={parameters.user}"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """End them. Slack's word counts: there is nothing to ask."""
        work.client.send(
            Call("POST", "/admin.users.session.reset", form={"user_id": work.account.id}, may_repeat=True)
        )  # fmt: skip
        return Outcome.succeeded(outcome="changed", verified=False)


class LeaveChannels(SlackFunction):
    """Takes the user out of every channel that the token's owner may manage."""

    name = "slack.remove_from_channels"
    summary = "Remove a user from all public and private channels but #general"
    impact = "The leaver is still in channels."
    rights = "users:read, users:read.email, channels:read, groups:read, channels:write, groups:write"

    def preview(self, parameters: AccountParameters) -> str:
        """The calls that would be made."""
        return f"POST /conversations.kick channel={{id}} user={parameters.user} for each channel"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Leave each, and look what is left. Nobody can leave the channel of the whole workspace."""
        items = [self._item(channel) for channel in self._channels(work)]
        return each_removed(
            work, "channels", items, lambda item: self._kick(work, item["id"]),
            lambda: [str(channel["id"]) for channel in self._channels(work)],
        )  # fmt: skip

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether only the channel of the whole workspace is left."""
        return all(channel.get("is_general") for channel in self._channels(work))

    def _kick(self, work: Work[AccountParameters], channel: str) -> None:
        form = {"channel": channel, "user": work.account.id}
        work.client.send(Call("POST", "/conversations.kick", form=form, may_repeat=True))

    def _channels(self, work: Work[AccountParameters]) -> list[Mapping[str, Any]]:
        query = {
            "user": work.account.id,
            "types": "public_channel,private_channel",
            "exclude_archived": "true",
            "limit": "200",
        }
        return work.client.all(Call("GET", "/users.conversations", query), _CHANNELS)

    def _item(self, channel: Mapping[str, Any]) -> dict[str, Any]:
        item = {"id": str(channel["id"]), "name": channel.get("name")}
        return item | ({"outcome": "kept", "reason": "everybody is in it"} if channel.get("is_general") else {})


class RemoveFromWorkspace(DeletesAccount[AccountParameters], SlackFunction):
    """Takes the user out of the workspace. What it wrote stays, and an admin can let it in again."""

    name = "slack.remove_from_workspace"
    summary = (
        "Remove a user from the workspace of an Enterprise organisation; messages and files stay, and it can be undone"
    )
    deletes_account = False
    impact = "The leaver is still in the workspace."
    critical = True
    rights = "users:read, users:read.email, admin.users:write (Enterprise)"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"POST /admin.users.remove user_id={parameters.user}"

    def find(self, client: RestClient, asked: str, parameters: AccountParameters) -> Account | None:
        """A user who is in the workspace."""
        found = find_user(client, asked)
        return None if found is None or found.body.get("deleted") else found

    def gone(self, context: Context, client: RestClient, parameters: AccountParameters) -> bool:
        """Whether this function removed the user, or Slack says that it is deactivated."""
        if super().gone(context, client, parameters):
            return True
        found = find_user(client, parameters.user)
        return found is not None and bool(found.body.get("deleted"))

    def delete(self, work: Work[AccountParameters]) -> None:
        """Send it."""
        assert isinstance(work.client.settings, SlackSettings)
        team = work.client.settings.team_id or str(work.client.object(Call("GET", "/auth.test")).get("team_id"))
        form = {"team_id": team, "user_id": work.account.id}
        work.client.send(Call("POST", "/admin.users.remove", form=form, may_repeat=True))


FUNCTIONS: dict[str, type[Function[Any]]] = {f.name: f for f in (ResetSessions, LeaveChannels, RemoveFromWorkspace)}
