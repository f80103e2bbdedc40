"""The part of Microsoft Graph that the functions use, over a TestTenant."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from drive_peer import shown
from tenant_state import Group, TestTenant, User, later

Answer = tuple[int, Any]
Handler = Callable[..., Answer]
_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
_DEFAULT = "businessPhones,displayName,givenName,id,jobTitle,mail,mobilePhone,officeLocation,surname,userPrincipalName"


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """A handler for a path such as `/users/{user}/manager`."""
    pattern = re.compile(
        "^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace("$", r"\$").replace(".", r"\.")) + "$"
    )

    def keep(handler: Handler) -> Handler:
        _ROUTES.append((method, pattern, handler))
        return handler

    return keep


class GraphPeer:
    """Answers requests. `base` is its address with the version."""

    def __init__(self, base: str) -> None:
        self.base = base

    def answer(self, tenant: TestTenant, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        """Status and body."""
        for verb, pattern, handler in _ROUTES:
            found = pattern.match(path)
            if verb == method and found:
                status, answer = handler(tenant, query=query, body=body, **found.groupdict())
                if isinstance(answer, list):
                    answer = self._page(tenant, path, query, answer)
                return status, answer
        return 404, error("UnknownError", f"the test tenant has no {method} {path}")

    def _page(self, tenant: TestTenant, path: str, query: dict[str, str], entries: list[Any]) -> dict[str, Any]:
        start = int(query.get("$skiptoken", "0"))
        end = start + min(tenant.page_size, int(query.get("$top", "100")))
        page: dict[str, Any] = {"value": entries[start:end]}
        if end < len(entries):
            base = tenant.next_host or self.base
            page["@odata.nextLink"] = f"{base}{path}?$skiptoken={end}"
        return page


def error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def missing(what: str) -> Answer:
    return 404, error("Request_ResourceNotFound", f"Resource '{what}' does not exist.")


def user_or_404(tenant: TestTenant, key: str) -> User:
    found = tenant.user(key)
    if found is None:
        raise LookupError(key)
    return found


def shown_user(tenant: TestTenant, user: User, select: str | None = None) -> dict[str, Any]:
    granted = {str(sku) for sku in user.licences}
    everything = {
        "id": user.id, "userPrincipalName": user.upn, "displayName": user.name, "mail": user.mail,
        "accountEnabled": user.enabled, "onPremisesSyncEnabled": True if user.synced else None,
        "onPremisesImmutableId": user.immutable_id, "onPremisesSecurityIdentifier": user.sid,
        "onPremisesSamAccountName": user.sam, "proxyAddresses": [f"SMTP:{user.mail}", *(f"smtp:{a}" for a in user.aliases)],
        "lastPasswordChangeDateTime": _moment(user.password_at),
        "signInSessionsValidFromDateTime": _moment(user.sessions_from), "businessPhones": [],
        "assignedLicenses": [{"skuId": sku, "disabledPlans": []} for sku in sorted(granted)],
        "licenseAssignmentStates": [
            {"skuId": sku, "assignedByGroup": group, "state": "Active", "error": "None", "disabledPlans": []}
            for sku, groups in sorted(user.licences.items()) for group in sorted(groups, key=str)
        ],
    }  # fmt: skip
    names = (select or _DEFAULT).split(",")
    shown = {name: everything.get(name) for name in names if name in everything}
    return shown if select else {"@odata.type": "#microsoft.graph.user", **shown}


def _moment(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def shown_group(group: Group, **more: Any) -> dict[str, Any]:
    return {
        "id": group.id, "displayName": group.name, "mail": f"{group.id}@groups.test" if group.mail_enabled else None,
        "mailEnabled": group.mail_enabled, "securityEnabled": group.security, "groupTypes": list(group.types),
        "assignedLicenses": [{"skuId": sku, "disabledPlans": []} for sku in sorted(group.licences)],
        "membershipRule": group.rule, "onPremisesSyncEnabled": True if group.synced else None,
        "resourceProvisioningOptions": ["Team"] if group.team else [], **more,
    }  # fmt: skip


@route("GET", "/users")
def list_users(tenant: TestTenant, *, query: Any, body: Any) -> Answer:
    if query["$filter"] == "onPremisesSyncEnabled eq true":
        return 200, [shown_user(tenant, u, query.get("$select")) for u in tenant.users.values() if u.synced]
    wanted = re.match(r"mail eq '((?:[^']|'')+)'", query["$filter"])
    assert wanted, query
    mail = wanted[1].replace("''", "'").lower()
    return 200, [shown_user(tenant, u, query.get("$select")) for u in tenant.users.values() if u.mail.lower() == mail]


@route("GET", "/users/delta")
def users_delta(tenant: TestTenant, *, query: Any, body: Any) -> Answer:
    """Pages of all accounts, then of those that changed since; a token is `all-<start>` or `<changes seen>-<start>`."""
    token = query.get("$skiptoken") or query.get("$deltatoken")
    if token and tenant.delta_lost:
        tenant.delta_lost = False
        return 410, error("resyncRequired", "Resync required. Replace any local items with the server's version.")
    seen, _, start_text = (token or "all-0").partition("-")
    start = int(start_text or 0)
    if seen == "all":
        entries = [
            shown_user(tenant, u, "id,userPrincipalName,mail")
            for u in tenant.users.values()
            if u.id not in tenant.delta_hides
        ]
    else:
        entries = [_change(tenant, object_id) for object_id in dict.fromkeys(tenant.changes[int(seen) :])]
    end = start + tenant.page_size
    page: dict[str, Any] = {"value": entries[start:end]}
    base = f"{tenant.graph}/v1.0/users/delta"
    if end < len(entries):
        page["@odata.nextLink"] = f"{base}?$skiptoken={seen}-{end}"
    else:
        page["@odata.deltaLink"] = f"{base}?$deltatoken={len(tenant.changes)}-0"
    return 200, page


def _change(tenant: TestTenant, object_id: str) -> dict[str, Any]:
    if object_id in tenant.users:
        return shown_user(tenant, tenant.users[object_id], "id,userPrincipalName,mail")
    return {"id": object_id, "@removed": {"reason": "changed" if object_id in tenant.deleted else "deleted"}}


@route("GET", "/users/{user}")
def get_user(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    return 200, shown_user(tenant, user_or_404(tenant, user), query.get("$select"))


@route("PATCH", "/users/{user}")
def patch_user(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    if found.synced and "displayName" in body:
        return 400, error(
            "Request_BadRequest",
            "Unable to update the specified properties for on-premises mastered Directory Sync objects.",
        )
    if "accountEnabled" in body:
        found.enabled = body["accountEnabled"]
    if "displayName" in body:
        found.name = body["displayName"]
    if "onPremisesImmutableId" in body:
        found.immutable_id = body["onPremisesImmutableId"]
    if "passwordProfile" in body:
        password = body["passwordProfile"]["password"]
        if not 8 <= len(password) <= 256:
            return 400, error("Request_BadRequest", "The specified password does not comply with password complexity")
        found.password, found.password_at = password, later(found.password_at)
    return 204, None


@route("DELETE", "/users/{user}")
def delete_user(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    tenant.deleted[found.id] = tenant.users.pop(found.id)
    return 204, None


@route("GET", "/directory/deletedItems/{item}")
def deleted_item(tenant: TestTenant, *, item: str, query: Any, body: Any) -> Answer:
    if item not in tenant.deleted:
        return missing(item)
    return 200, shown_user(tenant, tenant.deleted[item])


@route("POST", "/directory/deletedItems/{item}/restore")
def restore_item(tenant: TestTenant, *, item: str, query: Any, body: Any) -> Answer:
    if item not in tenant.deleted:
        return missing(item)
    found = tenant.users[item] = tenant.deleted.pop(item)
    return 200, shown_user(tenant, found)


@route("POST", "/users/{user}/revokeSignInSessions")
def revoke(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    found.sessions_from = later(found.sessions_from)
    return 200, {"value": True}


@route("GET", "/users/{user}/authentication/methods")
def methods(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    return 200, [
        {"@odata.type": f"#microsoft.graph.{kind.rstrip('2') if kind == 'phone2' else kind}AuthenticationMethod", "id": key,
         **({"phoneType": phone} if phone else {})}
        for key, (kind, phone) in found.methods.items()
    ]  # fmt: skip


@route("DELETE", "/users/{user}/authentication/{collection}/{method}")
def delete_method(tenant: TestTenant, *, user: str, collection: str, method: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    kind, phone = found.methods.get(method, (None, None))
    if kind is None or f"{'phone' if kind == 'phone2' else kind}Methods" != collection:
        return missing(method)
    others = [k for k, (kind, _) in found.methods.items() if kind != "password" and k != method]
    if found.default_method == method and others:
        return 400, error("badRequest", "Cannot delete default method with other methods configured")
    if phone == "mobile" and any(found.methods[k][1] == "alternateMobile" for k in others):
        return 400, error("badRequest", "alternateMobile must be deleted before mobile")
    del found.methods[method]
    return 204, None


@route("GET", "/users/{user}/managedDevices")
def devices(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    return 200, [
        {"id": key, "deviceName": name, "operatingSystem": "Windows", "model": "X1", "managedDeviceOwnerType": owner,
         "managementState": state, "serialNumber": f"SN-{name}", "imei": ""}
        for key, (name, owner, state) in found.devices.items()
    ]  # fmt: skip


def _device_action(state: str) -> Handler:
    def act(tenant: TestTenant, *, device: str, query: Any, body: Any) -> Answer:
        for user in tenant.users.values():
            if device in user.devices:
                user.devices[device][2] = state
                return 204, None
        return missing(device)

    return act


route("POST", "/deviceManagement/managedDevices/{device}/wipe")(_device_action("wipePending"))
route("POST", "/deviceManagement/managedDevices/{device}/retire")(_device_action("retirePending"))


@route("GET", "/users/{user}/memberOf/microsoft.graph.group")
def member_of(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    return 200, [shown_group(g) for g in tenant.groups.values() if found.id in g.members]


@route("GET", "/users/{user}/ownedObjects")
def owned(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    kind = {"@odata.type": "#microsoft.graph.group"}
    return 200, [shown_group(g, **kind) for g in tenant.groups.values() if found.id in g.owners]


@route("POST", "/users/{user}/getMemberGroups")
def member_groups(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    return 200, {"value": [g.id for g in tenant.groups.values() if found.id in g.members]}


@route("GET", "/groups/{group}")
def get_group(tenant: TestTenant, *, group: str, query: Any, body: Any) -> Answer:
    found = tenant.groups.get(group)
    return (200, shown_group(found)) if found else missing(group)


@route("GET", "/groups/{group}/owners")
def owners(tenant: TestTenant, *, group: str, query: Any, body: Any) -> Answer:
    return 200, [
        {"@odata.type": "#microsoft.graph.user", "id": o} for o in sorted(tenant.groups[group].owners)
    ]  # fmt: skip


def _added(tenant: TestTenant, group: str, body: Any, kind: str) -> Answer:
    people: set[str] = getattr(tenant.groups[group], kind)
    new = body["@odata.id"].rsplit("/", 1)[1]
    if new not in tenant.users:
        return missing(new)
    if new in people:
        return 400, error(
            "Request_BadRequest", f"One or more added object references already exist for the property '{kind}'."
        )
    people.add(new)
    if kind == "members":
        for sku in tenant.groups[group].licences:
            tenant.users[new].licences.setdefault(sku, set()).add(group)
    return 204, None


@route("POST", "/groups/{group}/owners/$ref")
def add_owner(tenant: TestTenant, *, group: str, query: Any, body: Any) -> Answer:
    return _added(tenant, group, body, "owners")


@route("POST", "/groups/{group}/members/$ref")
def add_member(tenant: TestTenant, *, group: str, query: Any, body: Any) -> Answer:
    return _added(tenant, group, body, "members")


@route("DELETE", "/groups/{group}/owners/{who}/$ref")
def remove_owner(tenant: TestTenant, *, group: str, who: str, query: Any, body: Any) -> Answer:
    found = tenant.groups[group].owners
    if who not in found:
        return missing(who)
    if len(found) == 1:
        return 400, error(
            "Request_BadRequest", "The group must have at least one owner, hence this owner cannot be removed."
        )
    found.discard(who)
    return 204, None


@route("DELETE", "/groups/{group}/members/{who}/$ref")
def remove_member(tenant: TestTenant, *, group: str, who: str, query: Any, body: Any) -> Answer:
    found = tenant.groups.get(group)
    if found is None or who not in found.members:
        return missing(who)
    if found.rule or found.synced or (found.mail_enabled and "Unified" not in found.types):
        return 400, error(
            "Request_BadRequest", "Cannot Update a mail-enabled security groups and or distribution list."
        )
    found.members.discard(who)
    for sku in found.licences:
        _drop(tenant.users[who], sku, group)
    return 204, None


def _drop(user: User, sku: str, group: str | None) -> None:
    user.licences.get(sku, set()).discard(group)
    if not user.licences.get(sku):
        user.licences.pop(sku, None)


@route("POST", "/users/{user}/assignLicense")
def assign(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    for sku in body["removeLicenses"]:
        if None not in found.licences.get(sku, set()):
            return 400, error("Request_BadRequest", "User does not have a corresponding license.")
    for sku in body["removeLicenses"]:
        _drop(found, sku, None)
    for added in body["addLicenses"]:
        found.licences.setdefault(added["skuId"], set()).add(None)
    return 200, shown_user(tenant, found)


@route("GET", "/subscribedSkus")
def skus(tenant: TestTenant, *, query: Any, body: Any) -> Answer:
    return 200, [
        {"skuId": sku, "skuPartNumber": name, "servicePlans": [
             {"servicePlanName": plan, "provisioningStatus": "Success", "appliesTo": "User"}
             for plan in (["EXCHANGE_S_ENTERPRISE", "TEAMS1"] if name == "ENTERPRISEPACK" else ["VISIOONLINE"])
         ], "prepaidUnits": {"enabled": bought, "suspended": 0, "warning": 0},
         "consumedUnits": sum(sku in u.licences for u in tenant.users.values())}
        for sku, (name, bought) in tenant.skus.items()
    ]  # fmt: skip


@route("GET", "/roleManagement/directory/roleAssignments")
def role_assignments(tenant: TestTenant, *, query: Any, body: Any) -> Answer:
    who = re.fullmatch(r"principalId eq '([^']+)'", query["$filter"])
    assert who, query
    return 200, [
        {"id": key, "principalId": account, "directoryScopeId": "/", "roleDefinitionId": name,
         "roleDefinition": {"id": name, "displayName": name}}
        for key, (account, name) in tenant.roles.items() if account == who[1]
    ]  # fmt: skip


@route("POST", "/roleManagement/directory/roleAssignments")
def add_role(tenant: TestTenant, *, query: Any, body: Any) -> Answer:
    key, given = (
        f"assignment-{len(tenant.roles)}-{body['roleDefinitionId']}",
        (body["principalId"], body["roleDefinitionId"]),
    )
    if given in tenant.roles.values():
        return 409, error("Conflict", "The role assignment already exists.")
    tenant.roles[key] = given
    return 201, {"id": key, "principalId": given[0], "roleDefinitionId": given[1], "directoryScopeId": "/"}


@route("DELETE", "/roleManagement/directory/roleAssignments/{assignment}")
def remove_role(tenant: TestTenant, *, assignment: str, query: Any, body: Any) -> Answer:
    return (204, None) if tenant.roles.pop(assignment, None) else missing(assignment)


@route("GET", "/users/{user}/manager")
def manager(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    return (200, shown_user(tenant, tenant.users[found.manager])) if found.manager else missing("manager")


@route("PUT", "/users/{user}/manager/$ref")
def set_manager(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    if found.synced:
        return 400, error(
            "Request_BadRequest",
            "Unable to update the specified properties for on-premises mastered Directory Sync objects.",
        )
    found.manager = body["@odata.id"].rsplit("/", 1)[1]
    return 204, None


@route("DELETE", "/users/{user}/manager/$ref")
def clear_manager(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    if found.manager is None:
        return missing("manager")
    found.manager = None
    return 204, None


@route("GET", "/users/{user}/directReports")
def reports(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    return 200, [shown_user(tenant, u) for u in tenant.users.values() if u.manager == found.id]


@route("GET", "/users/{user}/mailboxSettings")
def mailbox_settings(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    box = user_or_404(tenant, user).mailbox
    return (200, {"automaticRepliesSetting": dict(box.replies)}) if box else _no_mailbox()


@route("PATCH", "/users/{user}/mailboxSettings")
def set_mailbox_settings(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    box = user_or_404(tenant, user).mailbox
    if box is None:
        return _no_mailbox()
    box.replies = dict(body["automaticRepliesSetting"])
    for name in ("internalReplyMessage", "externalReplyMessage"):
        # Exchange keeps the message in a document of its own.
        box.replies[name] = f"<html>\n<body>\n{box.replies.get(name, '')}\n</body>\n</html>\n"
    return 200, {"automaticRepliesSetting": dict(box.replies)}


def _no_mailbox() -> Answer:
    return 404, error(
        "MailboxNotEnabledForRESTAPI", "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
    )


@route("GET", "/users/{user}/calendarView")
def calendar_view(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    if found.mailbox is None:
        return _no_mailbox()
    people = [{"type": "required", "emailAddress": {"address": "guest@elsewhere.test"}}]
    events: list[dict[str, Any]] = []
    for key, organiser in found.mailbox.meetings.items():
        event = {"isOrganizer": organiser, "isCancelled": False, "attendees": people}
        if key.startswith("series"):
            events += [{**event, "id": f"{key}-{n}", "seriesMasterId": key} for n in (1, 2)]
        else:
            events.append({**event, "id": key, "seriesMasterId": None})
    return 200, events


@route("GET", "/users/{user}/calendar/calendarPermissions")
def calendar_permissions(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    box = user_or_404(tenant, user).mailbox
    if box is None:
        return _no_mailbox()
    mine = [("mine", ("", "freeBusyRead"))]
    return 200, [
        {"id": key, "role": role, "isRemovable": bool(address), "emailAddress": {"name": "Alex Baker", "address": address}}
        for key, (address, role) in [*mine, *box.calendar.items()]
    ]  # fmt: skip


@route("POST", "/users/{user}/calendar/calendarPermissions")
def add_calendar_permission(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    box = user_or_404(tenant, user).mailbox
    if box is None:
        return _no_mailbox()
    address = body["emailAddress"]["address"]
    box.calendar[f"p-{address}"] = (address, body["role"])
    return 201, {"id": f"p-{address}", "role": body["role"], "emailAddress": body["emailAddress"]}


@route("DELETE", "/users/{user}/calendar/calendarPermissions/{permission}")
def remove_calendar_permission(tenant: TestTenant, *, user: str, permission: str, query: Any, body: Any) -> Answer:
    box = user_or_404(tenant, user).mailbox
    return (204, None) if box and box.calendar.pop(permission, None) else missing(permission)


@route("GET", "/admin/teams/telephoneNumberManagement/numberAssignments")
def numbers(tenant: TestTenant, *, query: Any, body: Any) -> Answer:
    return 200, [
        {"telephoneNumber": number, "numberType": "callingPlan", "assignmentTargetId": who,
         "assignmentStatus": "userAssigned" if who else "unassigned"}
        for number, who in tenant.numbers.items()
    ]  # fmt: skip


@route("POST", "/admin/teams/telephoneNumberManagement/numberAssignments/unassignNumber")
def unassign(tenant: TestTenant, *, query: Any, body: Any) -> Answer:
    if tenant.numbers.get(body["telephoneNumber"]) is None:
        return 400, error("BadRequest", "The number is not assigned.")
    tenant.numbers[body["telephoneNumber"]] = None
    return 202, None


@route("GET", "/users/{user}/drive")
def drive(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    if found.drive is None:
        return 404, error("itemNotFound", "User's mysite not found.")
    return 200, {
        "id": found.drive, "webUrl": f"https://{tenant.domain}/personal/{found.id}/Documents",
        "quota": {"used": 3 * 1024**3, "total": 1024**4},
    }  # fmt: skip


@route("GET", "/users/{user}/drive/root")
def drive_root(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    if found.drive is None:
        return 404, error("itemNotFound", "User's mysite not found.")
    return 200, {"id": "root-item", "sharepointIds": {"siteUrl": f"{tenant.sharepoint}/personal/{found.id}"}}


@route("GET", "/drives/{drive}/items/{item}/children")
def children(tenant: TestTenant, *, drive: str, item: str, query: Any, body: Any) -> Answer:
    return 200, [shown(n, i) for n, i in tenant.files.items() if i.parent == item]


@route("GET", "/drives/{drive}/items/{item}")
def drive_item(tenant: TestTenant, *, drive: str, item: str, query: Any, body: Any) -> Answer:
    found = tenant.files.get(item)
    return (404, error("itemNotFound", "Item not found.")) if found is None else (200, shown(item, found))


@route("GET", "/drives/{drive}/items/{item}/permissions")
def permissions(tenant: TestTenant, *, drive: str, item: str, query: Any, body: Any) -> Answer:
    site = tenant.sites[f"/personal/{drive.removeprefix('drive-')}"]
    return 200, [
        {"id": f"permission-{who}", "roles": ["write"], "grantedToV2": {"user": {"id": who}}} for who in sorted(site.writers)
    ]  # fmt: skip


@route("POST", "/drives/{drive}/items/{item}/invite")
def invite(tenant: TestTenant, *, drive: str, item: str, query: Any, body: Any) -> Answer:
    site = tenant.sites[f"/personal/{drive.removeprefix('drive-')}"]
    site.writers |= {r["objectId"] for r in body["recipients"]}
    return 200, [{"id": f"permission-{who}", "roles": ["write"]} for who in sorted(site.writers)]


@route("GET", "/sites/getAllSites")
def all_sites(tenant: TestTenant, *, query: Any, body: Any) -> Answer:
    return 200, [
        {"webUrl": f"{tenant.sharepoint}{path}", "isPersonalSite": path.startswith("/personal")}
        for path in tenant.sites
    ]  # fmt: skip


@route("GET", "/groups/{group}/sites/root")
def group_site(tenant: TestTenant, *, group: str, query: Any, body: Any) -> Answer:
    path = "/sites/" + tenant.groups[group].name.lower().replace(" ", "-")
    return (200, {"webUrl": tenant.sharepoint + path}) if path in tenant.sites else missing("site")


@route("GET", "/users/{user}/joinedTeams")
def joined_teams(tenant: TestTenant, *, user: str, query: Any, body: Any) -> Answer:
    found = user_or_404(tenant, user)
    return 200, [
        {"id": g.id, "displayName": g.name} for g in tenant.groups.values() if g.team and found.id in g.members
    ]


def _place(tenant: TestTenant, team: str, channel: str | None) -> Any:
    group = tenant.groups[team]
    return group.channels[channel] if channel else group


def _members(tenant: TestTenant, *, team: str, query: Any, body: Any, channel: str | None = None) -> Answer:
    place = _place(tenant, team, channel)
    return 200, [
        {"@odata.type": "#microsoft.graph.aadUserConversationMember", "id": f"membership-{who}", "userId": who,
         "roles": ["owner"] if who in place.owners else []}
        for who in sorted(place.members)
    ]  # fmt: skip


def _add_place(tenant: TestTenant, *, team: str, query: Any, body: Any, channel: str | None = None) -> Answer:
    place, found = _place(tenant, team, channel), re.search(r"users\('([^']+)'\)$", body["user@odata.bind"])
    assert found and body["@odata.type"].endswith("aadUserConversationMember"), body
    if channel and found[1] not in tenant.groups[team].members and place.kind == "private":
        return 404, error("NotFound", "The member is not in the team roster.")
    place.members.add(found[1])
    place.owners |= {found[1]} if "owner" in body["roles"] else set()
    return 201, {"id": f"membership-{found[1]}", "userId": found[1], "roles": body["roles"]}


def _change_place(
    tenant: TestTenant, *, team: str, member: str, query: Any, body: Any, channel: str | None = None
) -> Answer:
    place, who = _place(tenant, team, channel), member.removeprefix("membership-")
    if who not in place.members:
        return missing(member)
    place.owners |= {who} if "owner" in body["roles"] else set()
    return 200, {"id": member, "userId": who, "roles": body["roles"]}


for _base in ("/teams/{team}/members", "/teams/{team}/channels/{channel}/members"):
    route("GET", _base)(_members)
    route("POST", _base)(_add_place)
    route("PATCH", _base + "/{member}")(_change_place)


@route("GET", "/teams/{team}/channels")
def channels(tenant: TestTenant, *, team: str, query: Any, body: Any) -> Answer:
    assert query["$filter"] == "membershipType ne 'standard'", query
    found = tenant.groups[team].channels.items()
    return 200, [{"id": k, "displayName": c.name, "membershipType": c.kind} for k, c in found if c.kind != "standard"]


def _folders(tenant: TestTenant, *, user: str, query: Any, body: Any, folder: str | None = None) -> Answer:
    box = user_or_404(tenant, user).mailbox
    if box is None:
        return _no_mailbox()
    assert query["includeHiddenFolders"] == "true", query
    inside = [(key, f) for key, f in box.folders.items() if f.parent == folder]
    return 200, [
        {"id": key, "displayName": f.name, "childFolderCount": sum(c.parent == key for c in box.folders.values())}
        for key, f in inside
    ]  # fmt: skip


route("GET", "/users/{user}/mailFolders")(_folders)
route("GET", "/users/{user}/mailFolders/{folder}/childFolders")(_folders)


@route("GET", "/users/{user}/mailFolders/{folder}/messages")
def messages(tenant: TestTenant, *, user: str, folder: str, query: Any, body: Any) -> Answer:
    box = user_or_404(tenant, user).mailbox
    assert box is not None and query.get("$orderby", "receivedDateTime") == "receivedDateTime", query
    found = sorted(box.folders[folder].messages.items(), key=lambda m: m[1].received)
    return 200, [{"id": k, "changeKey": f"v{m.version}", "receivedDateTime": m.received} for k, m in found]


@route("GET", "/users/{user}/messages/{message}/$value")
def message_mime(tenant: TestTenant, *, user: str, message: str, query: Any, body: Any) -> Answer:
    box = user_or_404(tenant, user).mailbox
    found = [f.messages[message] for f in (box.folders.values() if box else ()) if message in f.messages]
    return (200, found[0].mime) if found else (404, error("ErrorItemNotFound", "The specified object was not found."))
