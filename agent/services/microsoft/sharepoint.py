"""SharePoint by its REST interface and, for the sharing of a site, by the tenant's administration (CSOM).

SharePoint takes app-only tokens of a certificate only. Sources: Microsoft Learn, "SharePoint REST service" (users, the
`MERGE` of a user), "Granting access via Entra ID App-Only", MS-CSOM for `ProcessQuery`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import quoteattr

from agent.errors import StepError
from agent.failure_types import INTEGRATION_ERROR, PERMISSION_DENIED
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.sending import Channel, decoded

#: Class of the tenant's administration in CSOM, and the sharing capabilities of a site by their numbers.
_TENANT_CLASS = "{268004ae-ef6b-4e9b-8425-127220d84719}"
SHARING = ("disabled", "external_users", "external_users_and_guests", "existing_external_users")
_JSON = {"Accept": "application/json;odata=nometadata"}


def login_name(user_principal_name: str) -> str:
    """How SharePoint names an account: the claim of its user principal name."""
    return f"i:0#.f|membership|{user_principal_name}"


class SharePointClient:
    """SharePoint of one tenant. `channel` makes the channel of a host, because each host has its own scope."""

    def __init__(self, channel: Callable[[str], Channel], *, by_certificate: bool, admin_url: str) -> None:
        self._make, self._by_certificate, self._admin_url = channel, by_certificate, admin_url
        self._channels: dict[str, Channel] = {}

    @property
    def wrote(self) -> bool:
        """Whether anything but a question was sent."""
        return any(channel.wrote for channel in self._channels.values())

    def ensure_user(self, site: str, user_principal_name: str) -> int:
        """The number of an account in a site, which is made known there if need be. Raises ServiceRefused."""
        body = self._post(site, "/_api/web/ensureuser", {"logonName": login_name(user_principal_name)}, "ensureuser")
        return int(body["Id"])

    def user(self, site: str, user_principal_name: str) -> Mapping[str, Any] | None:
        """What a site knows of an account; None when it knows nothing of it."""
        name = quote("'" + login_name(user_principal_name).replace("'", "''") + "'", safe="")
        channel = self._channel(site)
        try:
            answer = channel.send(
                "GET", f"{site}/_api/web/siteusers(@v)?@v={name}", doing="GET siteusers", repeatable=True, reads=True,
                headers=_JSON,
            )  # fmt: skip
        except ServiceRefused as error:
            # SharePoint says 404, or 500 with `-2146232832, Microsoft.SharePoint.SPException`, for an unknown user.
            if error.missing or "SPException" in (error.code or ""):
                return None
            raise
        found: Mapping[str, Any] = decoded(answer)
        return found

    def set_site_admin(self, site: str, user_number: int, value: bool) -> None:
        """Make an account an administrator of a site collection, or no longer."""
        self._post(
            site, f"/_api/web/getuserbyid({user_number})", {"IsSiteAdmin": value}, "MERGE user",
            {"X-HTTP-Method": "MERGE", "IF-MATCH": "*"},
        )  # fmt: skip

    def remove_user(self, site: str, user_principal_name: str) -> None:
        """Take an account out of a site: its direct permissions and its places in the site's groups."""
        name = quote("'" + login_name(user_principal_name).replace("'", "''") + "'", safe="")
        self._post(site, f"/_api/web/siteusers/removebyloginname(@v)?@v={name}", None, "removebyloginname")

    def rights(self, site: str, user_number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of the site's groups that an account is in, and of the role definitions that it has directly on the site."""
        groups = self._ids(site, f"/_api/web/getuserbyid({user_number})/groups?$select=Id", "GET groups")
        roles = self._ids(
            site, f"/_api/web/roleassignments/getbyprincipalid({user_number})/roledefinitionbindings?$select=Id",
            "GET roledefinitionbindings",
        )  # fmt: skip
        return groups, roles

    def give(
        self, site: str, user_principal_name: str, user_number: int, groups: Sequence[int], roles: Sequence[int]
    ) -> None:
        """Put an account into groups of a site, and assign role definitions of the site to it directly."""
        login = {"LoginName": login_name(user_principal_name)}
        for group in groups:
            self._post(site, f"/_api/web/sitegroups({group})/users", login, "POST group users")
        for role in roles:
            path = f"/_api/web/roleassignments/addroleassignment(principalid={user_number},roledefid={role})"
            self._post(site, path, None, "addroleassignment")

    def _ids(self, site: str, path: str, doing: str) -> tuple[int, ...]:
        try:
            answer = self._channel(site).send(
                "GET", site + path, doing=doing, repeatable=True, reads=True, headers=_JSON
            )
        except ServiceRefused as error:
            # An account without an assignment of its own is answered like one that there is not.
            if error.missing or "SPException" in (error.code or ""):
                return ()
            raise
        found = decoded(answer)
        return tuple(int(e["Id"]) for e in (found.get("value") or []))

    def sharing(self, site: str) -> str:
        """The sharing capability of a site, one of SHARING. Raises StepError."""
        found = self._query(_site_query(site, '<Property Name="SharingCapability" ScalarProperty="true" />', ""))
        value = next((e["SharingCapability"] for e in found if isinstance(e, dict) and "SharingCapability" in e), None)
        if not isinstance(value, int) or not 0 <= value < len(SHARING):
            raise _failure("the sharing of the site was not told")
        return SHARING[value]

    def set_sharing(self, site: str, value: str) -> None:
        """Set the sharing capability of a site to one of SHARING. Raises StepError; errors stand in the body of a 200."""
        change = (
            '<SetProperty Id="20" ObjectPathId="2" Name="SharingCapability">'
            f'<Parameter Type="Enum">{SHARING.index(value)}</Parameter>'
            '</SetProperty><Method Name="Update" Id="21" ObjectPathId="2" />'
        )
        self._query(_site_query(site, "", change), reads=False)

    def _post(
        self, site: str, path: str, body: Any, doing: str, headers: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        answer = self._channel(site).send(
            "POST", site + path, doing=doing, repeatable=True, reads=False, json=body,
            headers={**_JSON, "Content-Type": "application/json;odata=nometadata", **(headers or {})},
        )  # fmt: skip
        found = decoded(answer) if answer.content else {}
        return found if isinstance(found, dict) else {}

    def _query(self, query: str, *, reads: bool = True) -> list[Any]:
        if not self._admin_url:
            raise StepError(
                "the credential microsoft365 has no sharepoint_admin_url", type=INTEGRATION_ERROR,
                code="wrong_credential", impact="The sharing of the OneDrive stays as it is.",
                remediation="Set it: exeunt credential update ... --setting sharepoint_admin_url=https://...",
            )  # fmt: skip
        answer = self._channel(self._admin_url).send(
            "POST", f"{self._admin_url}/_vti_bin/client.svc/ProcessQuery", doing="ProcessQuery", repeatable=True,
            reads=reads, content=query, headers={"Content-Type": "text/xml"},
        )  # fmt: skip
        found = decoded(answer)
        if not isinstance(found, list) or not found or not isinstance(found[0], dict):
            raise _failure("the administration of SharePoint answered with something else than a list")
        trouble = found[0].get("ErrorInfo")
        if trouble:
            denied = "AccessDenied" in str(trouble.get("ErrorTypeName")) or "Unauthorized" in str(trouble)
            raise _failure(str(trouble.get("ErrorMessage"))[:400], PERMISSION_DENIED if denied else INTEGRATION_ERROR)
        return found

    def _channel(self, url: str) -> Channel:
        if not self._by_certificate:
            raise StepError(
                "SharePoint takes a sign-in by certificate only", type=PERMISSION_DENIED, code="certificate_needed",
                impact="Nothing was changed in SharePoint.",
                remediation="Enter a certificate: exeunt credential update ... --secret-from certificate=file:app.pem",
            )  # fmt: skip
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        if host not in self._channels:
            self._channels[host] = self._make(host)
        return self._channels[host]


def _site_query(site: str, properties: str, change: str) -> str:
    """A CSOM request on the properties of one site, as MS-CSOM writes it."""
    wanted = f'<Query Id="10" ObjectPathId="2"><Query SelectAllProperties="false"><Properties>{properties}</Properties></Query></Query>'
    return (
        '<Request AddExpandoFieldTypeSuffix="true" SchemaVersion="15.0.0.0" LibraryVersion="16.0.0.0" '
        'ApplicationName="Exeunt" xmlns="http://schemas.microsoft.com/sharepoint/clientquery/2009"><Actions>'
        f'<ObjectPath Id="1" ObjectPathId="0" /><ObjectPath Id="3" ObjectPathId="2" />{change or wanted}</Actions><ObjectPaths>'
        f'<Constructor Id="0" TypeId={quoteattr(_TENANT_CLASS)} /><Method Id="2" ParentId="0" Name="GetSitePropertiesByUrl">'
        f'<Parameters><Parameter Type="String">{_text(site)}</Parameter><Parameter Type="Boolean">false</Parameter>'
        "</Parameters></Method></ObjectPaths></Request>"
    )


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _failure(message: str, kind: str = INTEGRATION_ERROR) -> StepError:
    return StepError(
        f"SharePoint: {message}", type=kind, code="sharepoint", impact="The sharing of the OneDrive stays as it is.",
        remediation="Give the app registration Sites.FullControl.All of SharePoint and consent to it, then retry.",
    )  # fmt: skip
