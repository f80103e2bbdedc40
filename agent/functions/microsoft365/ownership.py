"""Files of SharePoint and Teams that only the leaver owns get another owner before the leaver is taken out.

A site belongs to its administrators; the files of a private or shared channel belong to the channel's own site, whose owners are
those of the channel (Microsoft Learn, "Teams and SharePoint integration"). So owners are what is handed over, not files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import AnswerLost
from agent.failure_types import DATA_TRANSFER_FAILED
from agent.functions.base import Outcome
from agent.functions.microsoft365 import grants
from agent.functions.microsoft365.base import (
    Account,
    UserFunction,
    UserParameters,
    Work,
    failed_item,
    judged,
    still_there,
)
from agent.functions.microsoft365.mailboxes import PersonName, other_account
from agent.functions.microsoft365.onedrive import ALL_SITES, SiteParameters, named_sites
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, Reply, get, path_of, value_of

_GROUP = "#microsoft.graph.group"
_MEMBER = "#microsoft.graph.aadUserConversationMember"


class TransferSitesParameters(SiteParameters):
    """Who takes over, and which sites are looked at."""

    #: An account, or `manager`: becomes administrator of the site collections.
    new_owner: PersonName


class TransferSites(UserFunction[TransferSitesParameters]):
    """Makes somebody administrator of every site that the leaver administers, or whose group the leaver owns."""

    name = "m365.transfer_sites"
    summary = (
        "Make an account administrator of the SharePoint sites that an account administers or whose groups it owns"
    )
    Parameters = TransferSitesParameters
    repeatable = True
    failure_type = DATA_TRANSFER_FAILED
    impact = "Files on the leaver's sites may be left without an owner."

    def preview(self, parameters: TransferSitesParameters) -> str:
        """The calls that would be made."""
        where = ", ".join(parameters.sites) or "every site collection but OneDrives"
        return f"ensureuser and IsSiteAdmin=true for {parameters.new_owner} on {where} where {parameters.user} is the owner"

    def change(self, work: Work[TransferSitesParameters]) -> Outcome:
        """Find the leaver's sites, hand each over, and ask each who administers it."""
        new = other_account(work, work.parameters.new_owner)
        asked, found, refused = self._owned(work)
        items = [*refused, *(self._give(work, site, why, new) for site, why in found.items())]
        return judged(items, "sites", sites_asked=asked, new_owner=new.upn)

    def _owned(self, work: Work[TransferSitesParameters]) -> tuple[int, dict[str, str], list[dict[str, Any]]]:
        """Number of sites asked, the leaver's sites with the reason, and what became of those that refused to tell."""
        asks = [work.get("ownedObjects", top="999"), *([] if work.parameters.sites else [ALL_SITES])]
        owned, *listed = work.tenant.graph.lists(*asks)
        sites = named_sites(listed[0]) if listed else list(work.parameters.sites)
        found = dict.fromkeys(self._of_groups(work, owned), "owner of the site's group")
        refused = []
        for site in sites:
            try:
                known = work.tenant.sharepoint.user(site, work.user.upn)
            except ServiceRefused as error:
                if error.passing:
                    raise
                refused.append({"site": site, **failed_item(error)})
                continue
            if known and known.get("IsSiteAdmin"):
                found.setdefault(site, "administrator")
        return len(sites), found, refused

    def _of_groups(self, work: Work[TransferSitesParameters], owned: Sequence[Mapping[str, Any]]) -> list[str]:
        """Sites of the Microsoft 365 groups among what the leaver owns."""
        groups = [o for o in owned if o.get("@odata.type") == _GROUP and "Unified" in (o.get("groupTypes") or [])]
        asks = [get("groups", str(g["id"]), "sites", "root", select="webUrl") for g in groups]
        found = []
        for reply in work.tenant.graph.batch(asks) if asks else []:
            if isinstance(reply, ServiceRefused) and reply.missing:
                continue
            found.append(str(value_of(reply)["webUrl"]).rstrip("/"))
        wanted = set(work.parameters.sites)
        return [site for site in found if not wanted or site in wanted]

    def _give(self, work: Work[TransferSitesParameters], site: str, why: str, new: Account) -> dict[str, Any]:
        item: dict[str, Any] = {"site": site, "reason": why, "new_owner": new.upn}
        try:
            if self._administers(work, site, new):
                return {**item, "outcome": "already"}
            # Written down first: a rollback takes it away again.
            grants.keep(work, [grants.Grant(kind="admin_given", where=site, what=new.upn)])
            lost: AnswerLost | None = None
            try:
                number = work.tenant.sharepoint.ensure_user(site, new.upn)
                work.tenant.sharepoint.set_site_admin(site, number, True)
            except AnswerLost as error:
                lost = error
            there = self._administers(work, site, new)
        except ServiceRefused as error:
            if error.passing:
                raise
            return {**item, **failed_item(error)}
        return {**item, "outcome": "changed"} if there else {**item, **still_there("SharePoint", lost)}

    def _administers(self, work: Work[TransferSitesParameters], site: str, who: Account) -> bool:
        known = work.tenant.sharepoint.user(site, who.upn)
        return bool(known and known.get("IsSiteAdmin"))

    def done(self, work: Work[TransferSitesParameters]) -> bool:
        """Whether somebody else administers each of the leaver's sites."""
        new = other_account(work, work.parameters.new_owner)
        _, found, refused = self._owned(work)
        return not refused and all(self._administers(work, site, new) for site in found)


class TransferTeamsParameters(UserParameters):
    """Who takes over."""

    #: An account, or `manager`.
    new_owner: PersonName


@dataclass(frozen=True)
class _Place:
    """A team (without a channel), or a private or shared channel of it, with its members as they are."""

    team: str
    team_name: str
    channel: str | None
    channel_name: str | None
    members: Sequence[Mapping[str, Any]]

    @property
    def parts(self) -> tuple[str, ...]:
        """Of the path of its members."""
        return ("teams", self.team, *(("channels", self.channel) if self.channel else ()), "members")

    def member(self, who: str) -> Mapping[str, Any] | None:
        """Somebody's membership."""
        return next((m for m in self.members if str(m.get("userId")) == who), None)

    def owners(self) -> set[str]:
        """Object ids of the owners."""
        return {str(m.get("userId")) for m in self.members if "owner" in (m.get("roles") or [])}

    def shown(self) -> dict[str, Any]:
        """The form in results."""
        return {"team_id": self.team, "team": self.team_name, "channel_id": self.channel, "channel": self.channel_name}


class TransferTeams(UserFunction[TransferTeamsParameters]):
    """Makes somebody owner of every team, private and shared channel of which the leaver is the only owner."""

    name = "m365.transfer_teams"
    summary = "Make an account owner of the teams and channels whose only owner an account is; with them go their files"
    Parameters = TransferTeamsParameters
    repeatable = True
    failure_type = DATA_TRANSFER_FAILED
    impact = "Teams or channels, and their files, may be left without an owner."

    def preview(self, parameters: TransferTeamsParameters) -> str:
        """The calls that would be made."""
        return (
            f"POST /teams/{{id}}/members and /teams/{{id}}/channels/{{id}}/members with the role owner for "
            f"{parameters.new_owner} wherever {parameters.user} is the only owner"
        )

    def change(self, work: Work[TransferTeamsParameters]) -> Outcome:
        """Find them, hand each over, team before channel, and ask each who owns it."""
        new = other_account(work, work.parameters.new_owner)
        places = self._places(work)
        alone = [p for p in places if p.owners() == {work.user.id}]
        if not alone:
            return Outcome.succeeded(teams=[], teams_asked=len({p.team for p in places}), outcome="already")
        # Only who is in a team can be in its channels: the members of the teams come first.
        teams = {p.team: p for p in places if p.channel is None}
        joining = {p.team for p in alone if p.channel and teams[p.team].member(new.id) is None} - {
            p.team for p in alone if p.channel is None
        }
        self._make(work, [self._add(work, teams[t], new, owner=False) for t in sorted(joining)])
        replies: dict[tuple[str, str | None], Reply] = {}
        for stage in ([p for p in alone if p.channel is None], [p for p in alone if p.channel]):
            replies |= dict(
                zip(map(_key, stage), self._make(work, [self._owner(work, p, new) for p in stage]), strict=True)
            )
        now = {_key(p): p for p in self._members(work, alone)}
        items = []
        for place in alone:
            item = {**place.shown(), "new_owner": new.upn, "outcome": "changed"}
            reply = replies[_key(place)]
            items.append(item if new.id in now[_key(place)].owners() else {**item, **still_there("Teams", reply)})
        return judged(items, "teams", teams_asked=len(teams), new_owner=new.upn)

    def done(self, work: Work[TransferTeamsParameters]) -> bool:
        """Whether the leaver is nowhere the only owner."""
        return not any(p.owners() == {work.user.id} for p in self._places(work))

    def _places(self, work: Work[TransferTeamsParameters]) -> list[_Place]:
        """The leaver's teams, and those of their channels that have members of their own."""
        teams = work.tenant.graph.all(work.get("joinedTeams", select="id,displayName"))
        asks = [get("teams", str(t["id"]), "channels", filter="membershipType ne 'standard'") for t in teams]
        bare = [_Place(str(t["id"]), str(t.get("displayName") or ""), None, None, ()) for t in teams]
        for team, found in zip(list(bare), work.tenant.graph.lists(*asks) if asks else [], strict=True):
            bare += [
                _Place(team.team, team.team_name, str(c["id"]), str(c.get("displayName") or ""), ())
                for c in found if c.get("membershipType") != "standard"
            ]  # fmt: skip
        return self._members(work, bare)

    def _members(self, work: Work[TransferTeamsParameters], places: Sequence[_Place]) -> list[_Place]:
        asks = [get(*p.parts) for p in places]
        lists = work.tenant.graph.lists(*asks) if asks else []
        return [
            _Place(p.team, p.team_name, p.channel, p.channel_name, found)
            for p, found in zip(places, lists, strict=True)
        ]

    def _owner(self, work: Work[TransferTeamsParameters], place: _Place, new: Account) -> Call:
        """The call that makes somebody owner: of a member, or of one who is not there yet."""
        known = place.member(new.id)
        if known is None:
            return self._add(work, place, new, owner=True)
        body = {"@odata.type": _MEMBER, "roles": ["owner"]}
        return Call("PATCH", path_of(*place.parts, str(known["id"])), body)

    def _add(self, work: Work[TransferTeamsParameters], place: _Place, new: Account, *, owner: bool) -> Call:
        bound = f"{work.tenant.graph.base}/users('{new.id}')"
        body = {"@odata.type": _MEMBER, "roles": ["owner"] if owner else [], "user@odata.bind": bound}
        return Call("POST", path_of(*place.parts), body, may_repeat=True)

    def _make(self, work: Work[TransferTeamsParameters], calls: Sequence[Call]) -> list[Reply]:
        return work.tenant.graph.batch(calls) if calls else []


def _key(place: _Place) -> tuple[str, str | None]:
    return place.team, place.channel
