"""SharePoint's REST and CSOM calls that the functions use, over a TestTenant. The shapes are our own reading of the manuals."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from tenant_state import Site, TestTenant

_CLAIM = "i:0#.f|membership|"


def answer(
    tenant: TestTenant, method: str, path: str, query: dict[str, str], body: Any, text: str, headers: Any
) -> tuple[int, Any]:
    """Status and body."""
    if path == "/_vti_bin/client.svc/ProcessQuery":
        return _process(tenant, text)
    where, _, call = path.partition("/_api/web/")
    site = tenant.sites.get(where)
    if site is None:
        return 404, {"odata.error": {"code": "-1, Microsoft.SharePoint.Client.ResourceNotFoundException"}}
    if call == "ensureuser":
        return _ensure(tenant, site, body["logonName"])
    admin = re.fullmatch(r"getuserbyid\((\d+)\)", call)
    if admin and headers.get("X-HTTP-Method") == "MERGE" and headers.get("IF-MATCH") == "*":
        (site.admins.add if body["IsSiteAdmin"] else site.admins.discard)(int(admin[1]))
        return 204, None
    found = re.fullmatch(r"getuserbyid\((\d+)\)/groups", call)
    if found and method == "GET":
        return 200, {"value": [{"Id": g} for g, members in sorted(site.groups.items()) if int(found[1]) in members]}
    found = re.fullmatch(r"roleassignments/getbyprincipalid\((\d+)\)/roledefinitionbindings", call)
    if found and method == "GET":
        roles = site.roles.get(int(found[1]))
        return (200, {"value": [{"Id": r} for r in sorted(roles)]}) if roles else (404, None)
    found = re.fullmatch(r"roleassignments/addroleassignment\(principalid=(\d+),roledefid=(\d+)\)", call)
    if found and method == "POST":
        site.roles.setdefault(int(found[1]), set()).add(int(found[2]))
        return 200, {}
    found = re.fullmatch(r"sitegroups\((\d+)\)/users", call)
    if found and method == "POST":
        site.groups[int(found[1])].add(site.users[body["LoginName"].removeprefix(_CLAIM)])
        return 201, {"Id": site.users[body["LoginName"].removeprefix(_CLAIM)]}
    name = query.get("@v", "").strip("'").removeprefix(_CLAIM)
    if call == "siteusers/removebyloginname(@v)" and method == "POST":
        number = site.users.pop(name, None)
        for places in (site.admins, *site.groups.values()):
            places.discard(number or 0)
        site.roles.pop(number or 0, None)
        return (204, None) if number else (404, None)
    if call == "siteusers(@v)" and method == "GET":
        return _user(site, name)
    return 404, None


def _user(site: Site, name: str) -> tuple[int, Any]:
    if name not in site.users:
        return 404, {
            "odata.error": {
                "code": "-2146232832, Microsoft.SharePoint.SPException",
                "message": {"value": "User cannot be found."},
            }
        }
    return 200, {"Id": site.users[name], "IsSiteAdmin": site.users[name] in site.admins}


def _ensure(tenant: TestTenant, site: Site, login: str) -> tuple[int, Any]:
    name = login.removeprefix(_CLAIM)
    if not login.startswith(_CLAIM) or tenant.user(name) is None:
        return 400, {"odata.error": {"message": {"value": "The specified user could not be found."}}}
    site.users.setdefault(name, max([100, *site.users.values()]) + 1)
    return _user(site, name)


def _process(tenant: TestTenant, text: str) -> tuple[int, Any]:
    address = re.search(r'<Parameter Type="String">([^<]+)</Parameter>', text)
    site = tenant.sites.get(urlsplit(address[1]).path) if address else None
    head: dict[str, Any] = {"SchemaVersion": "15.0.0.0", "LibraryVersion": "16.0", "ErrorInfo": None}
    if site is None:
        head["ErrorInfo"] = {
            "ErrorMessage": "Cannot get site.",
            "ErrorTypeName": "Microsoft.SharePoint.SpoNoSiteException",
        }
        return 200, [head]
    if 'Name="Update"' in text:
        value = re.search(r'Name="SharingCapability"><Parameter Type="Enum">(\d)', text)
        assert value, text
        site.sharing = int(value[1])
        return 200, [head, 1, {"IsNull": False}]
    return 200, [head, 10, {"SharingCapability": site.sharing}]
