"""The leaver's OneDrive, and what the leaver may do in SharePoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from agent.errors import AnswerLost, StepError
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
    not_confirmed,
    still_there,
)
from agent.functions.microsoft365.delegation import Delegates
from agent.functions.microsoft365.mailboxes import GIGABYTE, other_account
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, get, path_of, value_of
from agent.services.microsoft.settings import https_address


class OneDriveAccessParameters(UserParameters):
    """To whom, and how."""

    delegates: Delegates
    #: `site_admin`: everything, by SharePoint, which needs a sign-in by certificate; `write`: all that inherits from the
    #: root folder, by Graph.
    access: Literal["site_admin", "write"] = "site_admin"


def drive_of(work: Work[Any]) -> dict[str, Any] | None:
    """Id, address, site and size of the OneDrive; None when there is none."""
    drive, root = work.tenant.graph.batch(
        [work.get("drive", select="id,webUrl,quota"), work.get("drive", "root", select="id,sharepointIds")]
    )
    if isinstance(drive, ServiceRefused) and drive.missing:
        return None
    found, top = value_of(drive), value_of(root)
    used = (found.get("quota") or {}).get("used")
    return {
        "id": found["id"], "root": top["id"], "url": found.get("webUrl"),
        "site": (top.get("sharepointIds") or {}).get("siteUrl"),
        "size_gb": None if used is None else round(used / GIGABYTE, 2),
    }  # fmt: skip


class GrantAccess(UserFunction[OneDriveAccessParameters]):
    """Lets delegates into the OneDrive."""

    name = "m365.grant_onedrive_access"
    summary = "Give accounts access to the OneDrive of an account; the result has its address"
    Parameters = OneDriveAccessParameters
    repeatable = True
    failure_type = DATA_TRANSFER_FAILED
    impact = "Nobody else can open the leaver's files."

    def preview(self, parameters: OneDriveAccessParameters) -> str:
        """The calls that would be made."""
        names = ", ".join(parameters.delegates)
        if parameters.access == "write":
            return f"POST /drives/{{id}}/items/{{root}}/invite with the role write for {names} ({parameters.user})"
        return f"ensureuser and IsSiteAdmin=true for {names} on the OneDrive site of {parameters.user}"

    def change(self, work: Work[OneDriveAccessParameters]) -> Outcome:
        """Give it to each, go on after one that fails, and ask who has it."""
        drive = drive_of(work)
        if drive is None:
            return Outcome.skipped("the account has no OneDrive")
        items = []
        for asked in work.parameters.delegates:
            item: dict[str, Any] = {"delegate": asked}
            try:
                who = other_account(work, asked)
                item |= {"delegate": who.upn, "id": who.id}
                items.append({**item, **self._give(work, drive, who)})
            except StepError as error:
                if isinstance(error, ServiceRefused) and error.passing:
                    raise
                items.append({**item, "granted": False, **failed_item(error)})
        return judged(
            items, "delegates", onedrive_url=drive["url"], onedrive_size_gb=drive["size_gb"], access=work.parameters.access,
        )  # fmt: skip

    def _give(self, work: Work[OneDriveAccessParameters], drive: Mapping[str, Any], who: Account) -> dict[str, Any]:
        if self._has(work, drive, who):
            return {"outcome": "already", "granted": True}
        lost: AnswerLost | None = None
        try:
            self._grant(work, drive, who)
        except AnswerLost as error:
            lost = error
        if not self._has(work, drive, who):
            return {"granted": False, **still_there("SharePoint", lost)}
        return {"outcome": "granted", "granted": True}

    def _grant(self, work: Work[OneDriveAccessParameters], drive: Mapping[str, Any], who: Account) -> None:
        if work.parameters.access == "write":
            body = {
                "recipients": [{"objectId": who.id}], "roles": ["write"], "requireSignIn": True, "sendInvitation": False
            }  # fmt: skip
            work.tenant.graph.call(
                Call("POST", path_of("drives", drive["id"], "items", drive["root"], "invite"), body, may_repeat=True)
            )
        else:
            grants.keep(work, [grants.Grant(kind="admin_given", where=drive["site"], what=who.upn)])
            number = work.tenant.sharepoint.ensure_user(drive["site"], who.upn)
            work.tenant.sharepoint.set_site_admin(drive["site"], number, True)

    def _has(self, work: Work[OneDriveAccessParameters], drive: Mapping[str, Any], who: Account) -> bool:
        if work.parameters.access == "site_admin":
            found = work.tenant.sharepoint.user(drive["site"], who.upn)
            return bool(found and found.get("IsSiteAdmin"))
        permissions = work.tenant.graph.all(get("drives", drive["id"], "items", drive["root"], "permissions"))
        return any(
            who.id in _people(p) and {"write", "owner"} & set(p.get("roles") or []) and not p.get("inheritedFrom")
            for p in permissions
        )  # fmt: skip

    def done(self, work: Work[OneDriveAccessParameters]) -> bool:
        """Whether all of them have it."""
        drive = drive_of(work)
        return drive is not None and all(
            self._has(work, drive, other_account(work, asked)) for asked in work.parameters.delegates
        )


def _people(permission: Mapping[str, Any]) -> set[str]:
    """Object ids of the accounts of a permission."""
    given = [permission.get("grantedToV2"), *(permission.get("grantedToIdentitiesV2") or [])]
    return {str(g["user"]["id"]) for g in given if g and (g.get("user") or {}).get("id")}


class DisableSharing(UserFunction[UserParameters]):
    """Ends the sharing of the OneDrive with people outside the company."""

    name = "m365.disable_onedrive_sharing"
    summary = "Switch off external sharing of the OneDrive"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "Files of the leaver stay shared with people outside."

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"SharePoint administration: SharingCapability=Disabled on the OneDrive site of {parameters.user}"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Switch it off, and ask."""
        drive = drive_of(work)
        if drive is None:
            return Outcome.skipped("the account has no OneDrive")
        before = work.tenant.sharepoint.sharing(drive["site"])
        if before != "disabled":
            grants.keep(work, [grants.Grant(kind="sharing", where=drive["site"], what=before)])
            work.tenant.sharepoint.set_sharing(drive["site"], "disabled")
            if work.tenant.sharepoint.sharing(drive["site"]) != "disabled":
                raise not_confirmed("SharePoint accepted it and does not show it")
        return Outcome.succeeded(
            outcome="already" if before == "disabled" else "changed", before=before, after="disabled",
            onedrive_url=drive["url"],
        )  # fmt: skip

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether it is off."""
        drive = drive_of(work)
        return drive is None or work.tenant.sharepoint.sharing(drive["site"]) == "disabled"


#: The question for every site of the tenant.
ALL_SITES = get("sites", "getAllSites", select="webUrl,isPersonalSite")


def _sites(value: Any) -> Any:
    sites = value.replace(",", " ").split() if isinstance(value, str) else value
    return tuple(https_address(str(site)) for site in sites)


class SiteParameters(UserParameters):
    """Where."""

    #: Addresses of site collections; empty: all of the tenant but the OneDrives.
    sites: Annotated[tuple[str, ...], BeforeValidator(_sites)] = ()


class RemoveSharePointGrants(UserFunction[SiteParameters]):
    """Takes the leaver out of site collections: direct permissions, and places in the sites' own groups."""

    name = "m365.remove_sharepoint_direct_grants"
    summary = "Remove direct permissions of an account on SharePoint sites; needs a sign-in by certificate"
    Parameters = SiteParameters
    destructive = True
    repeatable = True
    impact = "The leaver keeps permissions on SharePoint sites."

    def preview(self, parameters: SiteParameters) -> str:
        """The calls that would be made."""
        where = ", ".join(parameters.sites) or "every site collection but OneDrives"
        return f"siteusers/removebyloginname for {parameters.user} on {where}"

    def change(self, work: Work[SiteParameters]) -> Outcome:
        """Ask each site, remove where the leaver is known, and ask again."""
        sites = sites_of(work)
        items = []
        for site in sites:
            item: dict[str, Any] = {"site": site, "outcome": "removed"}
            try:
                known = work.tenant.sharepoint.user(site, work.user.upn)
                if known is None:
                    continue
                grants.keep(work, [grants.on_site(work, site, known)])
                item |= self._remove(work, site)
            except ServiceRefused as error:
                if error.passing:
                    raise
                item |= failed_item(error)
            items.append(item)
        return judged(items, "sites", sites_asked=len(sites), removed=sum(i["outcome"] == "removed" for i in items))

    def _remove(self, work: Work[SiteParameters], site: str) -> dict[str, Any]:
        lost: AnswerLost | None = None
        try:
            work.tenant.sharepoint.remove_user(site, work.user.upn)
        except AnswerLost as error:
            lost = error
        gone = work.tenant.sharepoint.user(site, work.user.upn) is None
        return {} if gone else still_there("SharePoint", lost)

    def done(self, work: Work[SiteParameters]) -> bool:
        """Whether no site knows the leaver."""
        return all(work.tenant.sharepoint.user(site, work.user.upn) is None for site in sites_of(work))


def sites_of(work: Work[Any]) -> list[str]:
    """Addresses of the site collections to look at: those of the parameter `sites`, else all but the OneDrives."""
    if work.parameters.sites:
        return list(work.parameters.sites)
    return named_sites(work.tenant.graph.all(ALL_SITES))


def named_sites(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The addresses of sites as Graph lists them, without OneDrives."""
    return [str(s["webUrl"]).rstrip("/") for s in found if s.get("webUrl") and not s.get("isPersonalSite")]
