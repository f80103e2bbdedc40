"""The account itself: sign-in, password, sessions, name, immutable id, and the group that blocks it."""

from __future__ import annotations

import secrets
from typing import Any

from pydantic import Field, field_validator

from agent.errors import AnswerLost, StepError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR
from agent.functions import handing_over
from agent.functions.base import Context, Finding, Outcome, PreflightContext
from agent.functions.handing_over import HandingOver, HandOverParameters
from agent.functions.microsoft365.base import (
    Account,
    UserFunction,
    UserParameters,
    Work,
    account_of,
    deleted_account,
    find_account,
    is_object_id,
    patch_user,
    settled,
)
from agent.functions.microsoft365.checks import SYSTEM
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, get, path_of, value_of
from agent.services.microsoft.tenant import Tenant

_PASSWORD_BEFORE = "Microsoft 365 password before"
_SESSIONS_BEFORE = "Microsoft 365 sessions before"
#: Microsoft Learn, "Revoke user access": an access token that was given out works until it expires.
_TOKENS = (
    "An access token that was issued before may work until it expires, up to 90 minutes; applications with continuous "
    "access evaluation end it within minutes."
)


class DisableSignIn(UserFunction[UserParameters]):
    """Blocks the leaver's sign-in."""

    name = "m365.disable_sign_in"
    summary = "Block the sign-in of an account"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "The leaver can still sign in."
    critical = True

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"PATCH /users/{parameters.user} accountEnabled=false"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Block, and ask."""
        outcome = patch_user(
            work, {"accountEnabled": False}, "accountEnabled", lambda user: user["accountEnabled"] is False
        )
        if not work.user.synced:
            return outcome
        warning = "The account is synchronised: disable it in the local Active Directory as well, or it may come back."
        return Outcome(outcome.state, {**outcome.result, "warning": warning})

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether sign-in is blocked."""
        return work.tenant.graph.call(work.get(select="accountEnabled"))["accountEnabled"] is False


class ResetPasswordParameters(HandOverParameters, UserParameters):
    """Whose password, and whether somebody gets to know it."""


class ResetPassword(UserFunction[ResetPasswordParameters]):
    """Sets a password that nobody knows. It is made here, sent once, and forgotten, or handed over by a one-time link."""

    name = "m365.reset_password"
    summary = "Set a random password that is kept nowhere; `hand_over` sends the manager a link that shows it once"
    Parameters = ResetPasswordParameters
    destructive = True
    impact = "The leaver's password still works where sign-in is not blocked."
    critical = True

    def preview(self, parameters: ResetPasswordParameters) -> str:
        """The call that would be made."""
        over = "; the manager gets a one-time link to it" if parameters.hand_over else ""
        return f"PATCH /users/{parameters.user} passwordProfile=(random, not kept){over}"

    def preflight(self, context: PreflightContext, parameters: ResetPasswordParameters) -> list[Finding]:
        """The account, and what would keep the password from being handed over."""
        return [*super().preflight(context, parameters), *handing_over.findings(context, parameters, SYSTEM)]

    def change(self, work: Work[ResetPasswordParameters]) -> Outcome:
        """Note when the password was last changed, change it, and see that this has moved."""
        if work.user.synced:
            raise StepError(
                "the account is synchronised: its password is kept in the local Active Directory",
                type=INTEGRATION_ERROR, code="OnPremisesMastered",
                remediation="Reset it there; with password hash synchronisation the tenant follows.",
            )  # fmt: skip
        ask = work.get(select="lastPasswordChangeDateTime")
        before = work.tenant.graph.call(ask).get("lastPasswordChangeDateTime")
        # Recorded first: if the answer is lost, only this tells whether the password was changed.
        work.context.set_state(_PASSWORD_BEFORE, f"{work.context.step_id} {before}")
        password = "Aa1!" + secrets.token_urlsafe(18 if work.parameters.hand_over else 60)
        handing = HandingOver.begin(work.context, work.parameters, password)
        try:
            after = self._set(work, ask, before, password)
        except (StepError, AnswerLost):
            # In doubt as well: a password that may not be in force is not handed over.
            handing.give_up()
            raise
        return Outcome.succeeded(
            outcome="changed", before={"last_changed": before}, after={"last_changed": after},
            **handing.finish(what=f"The account {work.user.upn}"),
        )  # fmt: skip

    def _set(self, work: Work[ResetPasswordParameters], ask: Call, before: Any, password: str) -> Any:
        """Change it, and give the time of the change as the directory has it. Raises the errors of the service."""
        profile = {"forceChangePasswordNextSignIn": True, "password": password}
        wrote, asked = work.tenant.graph.batch(
            [
                Call("PATCH", work.path(), {"passwordProfile": profile}),
                work.get(select="lastPasswordChangeDateTime", after=0),
            ]
        )
        value_of(wrote)
        after = settled(
            lambda: work.tenant.graph.call(ask), lambda user: user.get("lastPasswordChangeDateTime") != before,
            first=value_of(asked),
        )  # fmt: skip
        return after["lastPasswordChangeDateTime"]

    def done(self, work: Work[ResetPasswordParameters]) -> bool:
        """Whether it was changed since this step noted the time of the last change."""
        return _moved(work, _PASSWORD_BEFORE, "lastPasswordChangeDateTime")


class RevokeSessions(UserFunction[UserParameters]):
    """Ends every session: refresh tokens and browser cookies are refused from now on."""

    name = "m365.revoke_sessions"
    summary = "Revoke all sessions and refresh tokens of an account"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "The leaver stays signed in on devices that are signed in."
    critical = True

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"POST /users/{parameters.user}/revokeSignInSessions"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Revoke, and see that the time from which sessions count has moved."""
        field = "signInSessionsValidFromDateTime"
        before = work.tenant.graph.call(work.get(select=field)).get(field)
        work.context.set_state(_SESSIONS_BEFORE, f"{work.context.step_id} {before}")
        wrote, asked = work.tenant.graph.batch(
            [Call("POST", work.path("revokeSignInSessions"), may_repeat=True), work.get(select=field, after=0)]
        )
        value_of(wrote)
        after = settled(
            lambda: work.tenant.graph.call(work.get(select=field)), lambda user: user.get(field) != before,
            first=value_of(asked),
        )  # fmt: skip
        return Outcome.succeeded(
            outcome="changed", before={"sessions_valid_from": before}, after={"sessions_valid_from": after[field]},
            issued_access_tokens=_TOKENS,
        )  # fmt: skip

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether the time from which sessions count has moved since this step noted it."""
        return _moved(work, _SESSIONS_BEFORE, "signInSessionsValidFromDateTime")


def _moved(work: Work[Any], variable: str, field: str) -> bool:
    step, _, before = (work.context.state(variable) or "").partition(" ")
    if step != work.context.step_id:
        return False
    return str(work.tenant.graph.call(work.get(select=field)).get(field)) != before


class PrefixParameters(UserParameters):
    """Which prefix."""

    prefix: str = Field("Former - ", min_length=1, max_length=60)


class SetDisplayNamePrefix(UserFunction[PrefixParameters]):
    """Shows in every list that the account is a former one."""

    name = "m365.set_display_name_prefix"
    summary = "Put a prefix such as `Former - ` before the display name"
    Parameters = PrefixParameters
    repeatable = True
    impact = "The account is listed by its old name."

    def preview(self, parameters: PrefixParameters) -> str:
        """The call that would be made."""
        return f"PATCH /users/{parameters.user} displayName={parameters.prefix!r} + its display name"

    def change(self, work: Work[PrefixParameters]) -> Outcome:
        """Read the name, and put the prefix before it once."""
        name = work.tenant.graph.call(work.get(select="displayName"))["displayName"]
        prefix = work.parameters.prefix
        if name.startswith(prefix):
            return Outcome.succeeded(outcome="already", before={"displayName": name}, after={"displayName": name})
        # 256 is the longest display name of the directory.
        wanted = (prefix + name)[:256]
        return patch_user(work, {"displayName": wanted}, "displayName", lambda user: user["displayName"] == wanted)

    def done(self, work: Work[PrefixParameters]) -> bool:
        """Whether the name has the prefix."""
        name = work.tenant.graph.call(work.get(select="displayName"))["displayName"]
        return str(name).startswith(work.parameters.prefix)


class ClearImmutableId(UserFunction[UserParameters]):
    """Takes away the mark by which an account was joined to one of the local directory."""

    name = "m365.clear_immutable_id"
    summary = "Clear the immutable id, once the account is no longer synchronised; a deleted account is restored first"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "A new local account could be joined to the leaver's account."

    def preview(self, parameters: UserParameters) -> str:
        """The calls that would be made."""
        return (
            f"if /users/{parameters.user} was deleted with the end of its synchronisation, POST /directory/deletedItems/"
            "{id}/restore; then PATCH onPremisesImmutableId=null"
        )

    def account(self, tenant: Tenant, context: Context, parameters: UserParameters) -> Account:
        """The account; one that is deleted is restored."""
        try:
            return find_account(tenant, parameters.user)
        except StepError as error:
            gone = deleted_account(context, parameters.user, tenant.id) if error.type == ACCOUNT_NOT_FOUND else None
            if gone is None:
                raise
        return account_of(tenant.graph.call(_restore(gone)))

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Clear it. Raises StepError (still_synchronised) while the local directory owns the account."""
        if work.user.synced:
            raise StepError(
                "the account is still synchronised", type=INTEGRATION_ERROR, code="still_synchronised",
                remediation="Take it out of the synchronisation; give the step `retries`, or run it again afterwards.",
            )  # fmt: skip
        field = "onPremisesImmutableId"
        return patch_user(work, {field: None}, field, lambda user: user.get(field) is None)

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether it is empty."""
        return work.tenant.graph.call(work.get(select="onPremisesImmutableId")).get("onPremisesImmutableId") is None


def _restore(object_id: str) -> Call:
    return Call("POST", path_of("directory", "deletedItems", object_id, "restore"), {}, may_repeat=True)


class BlockGroupParameters(UserParameters):
    """Which group."""

    #: Object id of the group that a Conditional Access rule blocks.
    group: str

    @field_validator("group")
    @classmethod
    def _id(cls, value: str) -> str:
        if not is_object_id(value):
            raise ValueError("write the group's object id: a name may be that of several groups")
        return value


class AddToBlockGroup(UserFunction[BlockGroupParameters]):
    """Adds the leaver to a group that a Conditional Access rule keeps out."""

    name = "m365.add_to_block_group"
    summary = "Add an account to a group that Conditional Access blocks"
    Parameters = BlockGroupParameters
    repeatable = True
    impact = "Conditional Access does not keep the leaver out."

    def preview(self, parameters: BlockGroupParameters) -> str:
        """The call that would be made."""
        return f"POST /groups/{parameters.group}/members/$ref with /users/{parameters.user}"

    def change(self, work: Work[BlockGroupParameters]) -> Outcome:
        """Add, unless the leaver is in it. Raises StepError for a group that takes no members."""
        group = work.parameters.group
        found, member = work.tenant.graph.batch(
            [get("groups", group, select="id,displayName,membershipRule,onPremisesSyncEnabled"), self._membership(work)]
        )
        body = value_of(found)
        shown = {"group": {"id": group, "name": body.get("displayName")}}
        if group in value_of(member)["value"]:
            return Outcome.succeeded(outcome="already", **shown)
        if body.get("membershipRule") or body.get("onPremisesSyncEnabled"):
            raise StepError(
                f"the group {group} is {'dynamic' if body.get('membershipRule') else 'synchronised'} and takes no "
                "members here", type=INTEGRATION_ERROR, code="group_takes_no_members",
                remediation="Name a group with assigned members.",
            )  # fmt: skip
        add = Call(
            "POST", path_of("groups", group, "members", "$ref"),
            work.tenant.graph.reference("directoryObjects", work.user.id), may_repeat=True,
        )  # fmt: skip
        try:
            work.tenant.graph.call(add)
        except ServiceRefused as error:
            if error.status != 400 or "already exist" not in str(error):
                raise
        settled(lambda: self.done(work), lambda member: member)
        return Outcome.succeeded(outcome="changed", **shown)

    def done(self, work: Work[BlockGroupParameters]) -> bool:
        """Whether the leaver is in it."""
        return work.parameters.group in work.tenant.graph.call(self._membership(work))["value"]

    def _membership(self, work: Work[BlockGroupParameters]) -> Call:
        return Call("POST", work.path("getMemberGroups"), {"securityEnabledOnly": False}, question=True)
