"""The leaver's groups and teams: memberships and ownerships, each judged by itself (facts 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from agent.errors import AnswerLost
from agent.functions.base import Outcome
from agent.functions.microsoft365.base import (
    UserFunction,
    UserParameters,
    Work,
    failed_item,
    judged,
    still_there,
    text_items,
)
from agent.functions.microsoft365.mailboxes import PersonName, mail, other_account
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.exchange import Answered, Cmdlet
from agent.services.microsoft.graph import Call, get, path_of

SELECT = (
    "id,displayName,mail,mailEnabled,securityEnabled,groupTypes,assignedLicenses,membershipRule,onPremisesSyncEnabled,"
    "resourceProvisioningOptions"
)
_GROUP = "#microsoft.graph.group"


class GroupParameters(UserParameters):
    """Who takes over, and what is left first."""

    #: Groups that are left before all others, one after the other: display names, addresses or ids, with semicolons.
    order: Annotated[tuple[str, ...], BeforeValidator(text_items)] = ()
    #: Account that becomes owner where the leaver is the last one, or `manager`; empty: such groups are reported.
    new_owner: PersonName | Literal[""] = ""


def kind_of(group: Mapping[str, Any]) -> str:
    """What sort of group it is, in the words of the admin centre."""
    if "Unified" in (group.get("groupTypes") or []):
        return "Microsoft 365 Group"
    if group.get("mailEnabled"):
        return "Mail-enabled Security Group" if group.get("securityEnabled") else "Distribution List"
    return "Security Group"


def is_team(group: Mapping[str, Any]) -> bool:
    """Whether it is a team as well."""
    return "Team" in (group.get("resourceProvisioningOptions") or [])


def kept_because(group: Mapping[str, Any]) -> str | None:
    """Why a membership cannot or must not be ended here (facts 3, rules 1 to 3); None when it can."""
    if group.get("assignedLicenses"):
        return "it assigns licences: it is left when the licences are removed"
    if group.get("membershipRule"):
        return "dynamic: its rule decides who is in it"
    if group.get("onPremisesSyncEnabled"):
        return "synchronised: it is changed in the local Active Directory"
    return None


def by_exchange(group: Mapping[str, Any]) -> bool:
    """Whether only Exchange can take a member out: distribution lists and mail-enabled security groups."""
    return bool(group.get("mailEnabled")) and "Unified" not in (group.get("groupTypes") or [])


def leave_by_graph(work: Work[Any], group_id: str) -> Call:
    """The call that ends a membership."""
    return Call("DELETE", path_of("groups", group_id, "members", work.user.id, "$ref"))


def leave_by_exchange(work: Work[Any], group_id: str) -> Cmdlet:
    """The cmdlet that ends a membership."""
    return mail(
        work, "Remove-DistributionGroupMember", Identity=group_id, Member=work.user.id,
        BypassSecurityGroupManagerCheck=True, Confirm=False,
    )  # fmt: skip


def leave(work: Work[Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Exception]:
    """End memberships, each by the service that can. Gives the errors by the groups' ids; not being in it is none."""
    graph = [g for g in groups if not by_exchange(g)]
    exchange = [g for g in groups if by_exchange(g)]
    found: list[tuple[str, Any]] = []
    if graph:
        replies = work.tenant.graph.batch([leave_by_graph(work, g["id"]) for g in graph])
        found += zip((g["id"] for g in graph), replies, strict=True)
    if exchange:
        answers = work.tenant.mail.invoke_all([leave_by_exchange(work, g["id"]) for g in exchange])
        found += [(g["id"], a) for g, a in zip(exchange, answers, strict=True) if not isinstance(a, Answered)]
    return {
        group_id: reply for group_id, reply in found
        if isinstance(reply, AnswerLost) or (isinstance(reply, ServiceRefused) and not reply.missing)
    }  # fmt: skip


@dataclass(frozen=True)
class _Membership:
    """A group that the leaver is in, owns, or both."""

    group: Mapping[str, Any]
    member: bool
    owner: bool


def _in_order(groups: Sequence[Mapping[str, Any]], order: Sequence[str]) -> list[Sequence[Mapping[str, Any]]]:
    """What is left together, in the order in which it is; a name that several groups have means all of them."""
    left, parts = list(groups), []
    for wanted in order:
        names = ("id", "displayName", "mail")
        some = [g for g in left if wanted.casefold() in {str(g.get(n) or "").casefold() for n in names}]
        left = [g for g in left if g not in some]
        parts.append(some)
    return [part for part in (*parts, left) if part]


def _handed_over(work: Work[GroupParameters]) -> dict[str, str]:
    """Teams that an earlier step of the run gave another owner, with that one."""
    steps = (s for s in work.context.finished_steps() if s.function == "m365.transfer_teams")
    return {
        str(team["team_id"]): str(team["new_owner"])
        for step in steps
        for team in step.result.get("teams") or ()
        if team.get("channel_id") is None and team.get("outcome") == "changed"
    }


class RemoveGroups(UserFunction[GroupParameters]):
    """Takes the leaver out of all groups and teams, and says of each that stays why it stays."""

    name = "m365.remove_from_groups"
    summary = "Leave all groups and teams, hand ownership over where the leaver is the last owner; one result per group"
    Parameters = GroupParameters
    destructive = True
    repeatable = True
    impact = "The leaver keeps what the group gives access to."

    def preview(self, parameters: GroupParameters) -> str:
        """The calls that would be made."""
        owner = f"; where it is the last owner, {parameters.new_owner} becomes owner" if parameters.new_owner else ""
        return (
            f"DELETE /groups/{{id}}/members/{parameters.user}/$ref, or Remove-DistributionGroupMember, for every group but "
            f"dynamic, synchronised and licence groups{owner}"
        )

    def change(self, work: Work[GroupParameters]) -> Outcome:
        """Hand over ownership, leave, and ask again which groups there are."""
        memberships = self._memberships(work)
        handed = self._end_ownership(work, [m for m in memberships if m.owner])
        stuck = {group_id for group_id, result in handed.items() if result.get("outcome")}
        leaving = [
            m.group for m in memberships if m.member and not kept_because(m.group) and m.group["id"] not in stuck
        ]  # fmt: skip
        errors: dict[str, Exception] = {}
        for some in _in_order(leaving, work.parameters.order):
            errors |= leave(work, some)
        now = {m.group["id"]: m for m in self._memberships(work)} if leaving or handed else {
            m.group["id"]: m for m in memberships
        }  # fmt: skip
        items = [self._item(m, now.get(m.group["id"]), handed, errors) for m in memberships]
        return judged(items, "groups", removed=sum(i["outcome"] == "removed" for i in items))

    def done(self, work: Work[GroupParameters]) -> bool:
        """Whether only groups are left that cannot be left here."""
        return all(kept_because(m.group) and not m.owner for m in self._memberships(work))

    def _memberships(self, work: Work[GroupParameters]) -> list[_Membership]:
        member, owned = work.tenant.graph.lists(
            work.get("memberOf", "microsoft.graph.group", select=SELECT, top="999"), work.get("ownedObjects", top="999")
        )
        owns = {str(o["id"]): o for o in owned if o.get("@odata.type") == _GROUP}
        found = [_Membership(g, True, str(g["id"]) in owns) for g in member]
        known = {m.group["id"] for m in found}
        return found + [_Membership(g, False, True) for group_id, g in owns.items() if group_id not in known]

    def _end_ownership(self, work: Work[GroupParameters], owned: list[_Membership]) -> dict[str, dict[str, Any]]:
        """End each ownership, after a new owner was made where there is no other. Gives what became of each."""
        asks = [get("groups", m.group["id"], "owners", select="id", top="999") for m in owned]
        others = [
            {str(o["id"]) for o in owners} - {work.user.id}
            for owners in (work.tenant.graph.lists(*asks) if asks else [])
        ]
        before = _handed_over(work)
        results: dict[str, dict[str, Any]] = {}
        calls: list[tuple[str, Call]] = []
        for membership, other in zip(owned, others, strict=True):
            group = membership.group
            if not other and not work.parameters.new_owner:
                results[group["id"]] = {
                    "outcome": "failed", "code": "last_owner",
                    "reason": "the leaver is the last owner: give `new_owner`, or make somebody owner",
                }  # fmt: skip
                continue
            given = before.get(group["id"])
            results[group["id"]] = {"owner_transferred": not other or given is not None}
            if given is not None:
                results[group["id"]]["new_owner"] = given
            if not other:
                new = other_account(work, work.parameters.new_owner)
                results[group["id"]]["new_owner"] = new.upn
                body = work.tenant.graph.reference("users", new.id)
                calls.append(
                    (group["id"], Call("POST", path_of("groups", group["id"], "owners", "$ref"), body, may_repeat=True))
                )
                if is_team(group):
                    # A team shows its owners only when they are members too.
                    member = work.tenant.graph.reference("directoryObjects", new.id)
                    calls.append(
                        (
                            group["id"],
                            Call("POST", path_of("groups", group["id"], "members", "$ref"), member, may_repeat=True),
                        )
                    )
        self._make_owners(work, calls, results)
        ending = [group_id for group_id, result in results.items() if not result.get("outcome")]
        ends = [Call("DELETE", path_of("groups", g, "owners", work.user.id, "$ref")) for g in ending]
        for group_id, reply in zip(ending, work.tenant.graph.batch(ends) if ends else [], strict=True):
            if isinstance(reply, AnswerLost) or (isinstance(reply, ServiceRefused) and not reply.missing):
                results[group_id] |= failed_item(reply)
        return results

    def _make_owners(
        self, work: Work[GroupParameters], calls: list[tuple[str, Call]], results: dict[str, dict[str, Any]]
    ) -> None:
        for (group_id, _), reply in zip(
            calls, work.tenant.graph.batch([c for _, c in calls]) if calls else [], strict=True
        ):
            already = isinstance(reply, ServiceRefused) and reply.status == 400 and "already exist" in str(reply)
            if isinstance(reply, Exception) and not already:
                results[group_id] |= failed_item(reply)

    def _item(
        self,
        was: _Membership,
        now: _Membership | None,
        handed: Mapping[str, dict[str, Any]],
        errors: Mapping[str, Exception],
    ) -> dict[str, Any]:
        group = was.group
        item: dict[str, Any] = {
            "id": group["id"], "name": group.get("displayName"), "mail": group.get("mail"), "type": kind_of(group),
            "team": is_team(group), "outcome": "removed",
        }  # fmt: skip
        item |= handed.get(group["id"], {})
        if now is None:
            return {**item, "outcome": "removed"}
        if item["outcome"] != "removed":
            return item
        reason = kept_because(group)
        if reason is not None and not now.owner:
            return {**item, "outcome": "kept", "reason": reason}
        return {**item, **still_there("the directory", errors.get(group["id"]))}
