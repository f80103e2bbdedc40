"""Functions `scim.*`: an account of any application that speaks SCIM 2.0 is deactivated, stripped of groups and roles, deleted.

RFC 7643 (schema) and RFC 7644 (protocol). What a server can do it says at /ServiceProviderConfig: where it has no PATCH the
whole resource is replaced, and where it has versions a change is made only to the version that was seen (If-Match).

A client may have several such applications. The parameter `application` names one of them: its credential is then of the
kind `scim_<application>`, such as `scim_github`; without it, of the kind `scim`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

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
from agent.services.rest.client import Answer, Call, RestClient, path_of
from agent.services.rest.errors import RestRefused, Service, wrong_credential
from agent.services.rest.paging import Offset, at
from agent.services.rest.settings import RestSettings, https_address
from agent.services.rest.signing import Grant, Signing, api_key, basic, bearer, tokens
from agent.services.rest.system import System

_JSON = {"Accept": "application/scim+json", "Content-Type": "application/scim+json"}
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
#: Answers to PATCH and to filters of a server that has none, though it did not say so.
_NOT_THERE = (405, 501)
#: A resource that others change meanwhile is read anew so often.
_READS = 4


class ScimSettings(RestSettings):
    """One application. `url`: its SCIM address, such as https://example.com/scim/v2."""

    #: As people call it.
    title: str = Field("the SCIM application", min_length=1, max_length=80)
    #: How requests are signed: `Authorization: Bearer`, `Basic`, a header of its own, or OAuth 2.0 client credentials.
    sign_in: Literal["bearer", "basic", "header", "client_credentials"] = "bearer"
    #: For `basic`; the secret `token` is the password.
    username: str = ""
    #: For `header`: its name.
    header: str = Field("X-API-Key", pattern=r"^[A-Za-z0-9-]+$")
    #: For `client_credentials`; the secret `token` is the client's secret.
    oauth_url: str = ""
    client_id: str = Field("", pattern=r"^[^:\s]*$")
    scope: str = ""
    #: Attributes by which an address is looked for, in this order.
    find_by: str = Field("userName, emails.value, externalId", pattern=r"^[A-Za-z][\w.$:-]*(,\s*[A-Za-z][\w.$:-]*)*$")

    @field_validator("oauth_url")
    @classmethod
    def _oauth(cls, value: str) -> str:
        return https_address(value) if value else value

    @property
    def attributes(self) -> tuple[str, ...]:
        """`find_by` as names."""
        return tuple(name.strip() for name in self.find_by.split(","))


def _signing(service: Service) -> Callable[[ScimSettings, Mapping[str, str]], Signing]:
    def sign(settings: ScimSettings, given: Mapping[str, str]) -> Signing:
        secret = given["token"]
        if settings.sign_in == "basic":
            return basic(service, settings.username, secret)
        if settings.sign_in == "header":
            return api_key(service, secret, header=settings.header)
        if settings.sign_in == "bearer":
            return bearer(service, secret)
        if not settings.oauth_url or not settings.client_id:
            raise wrong_credential(service, "client_credentials need the settings oauth_url and client_id")
        form = {"grant_type": "client_credentials"} | ({"scope": settings.scope} if settings.scope else {})
        grant = Grant(settings.oauth_url, lambda: form, (settings.client_id, secret))
        return tokens(service, settings, grant, secret, settings.scope)

    return sign


def _probe(client: RestClient) -> str:
    found = client.object(Call("GET", "/Users", {"count": "1"}, headers=_JSON))
    return f"it reads {found.get('totalResults', 'its')} accounts"


def _service(kind: str, name: str) -> Service:
    return Service(
        name=name, kind=kind, remedies={
            "invalidFilter": "Name attributes that the application can look for in the credential's setting find_by.",
            "mutability": "The application lets nobody change this by SCIM: change it there by hand.",
        },
    )  # fmt: skip


SERVICE = _service("scim", "the SCIM application")
SYSTEM = System(
    service=SERVICE, Settings=ScimSettings, secrets=("token",), signing=_signing(SERVICE), probe=_probe
)  # fmt: skip


@cache
def system_of(application: str) -> System[ScimSettings]:
    """The system of an application's name; empty: the one that the client has."""
    if not application:
        return SYSTEM
    service = _service(f"scim_{application}", f"{application} (SCIM)")
    return replace(SYSTEM, service=service, signing=_signing(service))


class ScimParameters(AccountParameters):
    """Whose account, and in which application."""

    #: Ending of the credential's kind `scim_<application>`; empty: the kind is `scim`.
    application: str = Field("", pattern=r"^([a-z0-9][a-z0-9_]{0,50})?$")


class Pages(Offset):
    """A list of resources, which may be left out when there are none (RFC 7644, 3.4.2)."""

    entries: str = "Resources"
    parameter: str = "startIndex"
    first: Literal[0, 1] = 1
    total: str = "totalResults"

    def entries_of(self, body: Any) -> list[Any] | None:
        """The entries, [] when there are none."""
        if isinstance(body, Mapping) and "Resources" not in body and not body.get("totalResults"):
            return []
        return super().entries_of(body)


_PAGES = Pages()


class ScimFunction(AccountFunction[Any]):
    """A function on one account of an application."""

    rest = SYSTEM
    system = "SCIM 2.0"
    Parameters: ClassVar[type[AccountParameters]] = ScimParameters
    destructive = True
    repeatable = True
    #: The call that is made, for previews.
    act: ClassVar[str]

    def preview(self, parameters: Any) -> str:
        """The call that would be made."""
        return f"{self.service(parameters).service.kind}: {self.act} of {parameters.user}"

    def service(self, parameters: Any) -> System[ScimSettings]:
        """The application that the step names."""
        return system_of(parameters.application)

    def find(self, client: RestClient, asked: str, parameters: Any) -> Account | None:
        """By id, else by the attributes that the credential names."""
        return find_user(client, asked)


def find_user(client: RestClient, asked: str) -> Account | None:
    """The account of an id or of an address, None when there is none. Raises StepError when there are several."""
    own = resource(client, "Users", asked)
    if own is not None:
        return _account(own)
    settings, refused, searched = client.settings, None, False
    for attribute in getattr(settings, "attributes", ()):
        call = Call(
            "GET", "/Users", {"filter": f"{attribute} eq {json.dumps(asked, ensure_ascii=False)}"}, headers=_JSON
        )
        try:
            # A server that does not know the filter may give everybody: what was found must have that value.
            found = [u for u in client.all(call, _PAGES) if asked.casefold() in _values(u, attribute)]
        except RestRefused as error:
            if error.status not in (400, *_NOT_THERE):
                raise
            refused = error
            continue
        searched = True
        if len(found) > 1:
            raise ambiguous(client, asked, [str(u.get("id")) for u in found])
        if found:
            return _account(found[0])
    if refused is not None and not searched:
        raise refused
    return None


def _values(user: Mapping[str, Any], attribute: str) -> set[str]:
    """What an account has under an attribute such as `userName` or `emails.value`, without regard to case."""
    name, _, part = attribute.partition(".")
    found = user.get(name)
    entries = found if isinstance(found, list) else [found]
    return {str(v).casefold() for e in entries if (v := at(e, part) if part else e) is not None}


def _account(body: Mapping[str, Any]) -> Account:
    return Account(str(body["id"]), str(body.get("userName") or ""), body)


def resource(client: RestClient, kind: str, key: str) -> Mapping[str, Any] | None:
    """A resource by its id, None when there is none. `kind`: Users or Groups."""
    try:
        found = client.object(Call("GET", path_of(kind, key), headers=_JSON))
    except RestRefused as error:
        # A text that cannot be an id is refused by some with 400.
        if error.missing or error.status == 400:
            return None
        raise
    return found if found.get("id") == key else None


def changed(
    client: RestClient, kind: str, key: str, operations: list[dict[str, Any]], whole: Callable[[dict[str, Any]], None]
) -> None:
    """Change a resource by PATCH, or, where there is none, replace it; each for the version that was seen.

    `whole` makes the same change in the whole resource. Raises the errors of the service.
    """
    patch, versions = _abilities(client)
    for read in range(_READS):
        seen = resource(client, kind, key)
        if seen is None:
            return
        version = str((seen.get("meta") or {}).get("version") or "") if versions else ""
        headers = _JSON | ({"If-Match": version} if version else {})
        answer: Answer | None = None
        if patch:
            body = {"schemas": [_PATCH], "Operations": operations}
            call = Call("PATCH", path_of(kind, key), json=body, headers=headers, may_repeat=True)
            answer = client.send(call, expect=(412, *_NOT_THERE) if read < _READS - 1 else _NOT_THERE)
            patch = answer.status not in _NOT_THERE
        if not patch:
            # What the server alone writes is left out.
            body = {name: value for name, value in seen.items() if name not in ("meta", "groups")}
            whole(body)
            call = Call("PUT", path_of(kind, key), json=body, headers=headers)
            answer = client.send(call, expect=(412,) if read < _READS - 1 else ())
        if answer is not None and answer.status != 412:
            return


def _abilities(client: RestClient) -> tuple[bool, bool]:
    """Whether the server has PATCH, and versions. One that does not say is taken to have PATCH only."""
    try:
        said = client.object(Call("GET", "/ServiceProviderConfig", headers=_JSON))
    except RestRefused as error:
        if error.missing or error.status in (400, 401, 403, *_NOT_THERE):
            return True, False
        raise
    return at(said, "patch.supported") is not False, at(said, "etag.supported") is True


class Deactivate(ScimFunction):
    """Makes the account inactive."""

    name = "scim.deactivate_user"
    summary = "Make an account inactive (active=false) by PATCH, or by PUT where the application has no PATCH"
    impact = "The leaver can still sign in to the application."
    critical = True
    rights = "to read and change users"
    act = "PATCH /Users/{id} active=false"

    def change(self, work: Work[Any]) -> Outcome:
        """Change it, unless it is so, and ask."""
        if self.done(work):
            return Outcome.succeeded(outcome="already", after={"active": False})
        before = {"active": work.account.body.get("active")}
        operation = {"op": "replace", "path": "active", "value": False}
        changed(work.client, "Users", work.account.id, [operation], lambda user: user.update(active=False))
        settled(
            lambda: resource(work.client, "Users", work.account.id), lambda user: _inactive(user or {}),
            service=work.client.service.name,
        )  # fmt: skip
        return Outcome.succeeded(outcome="changed", before=before, after={"active": False})

    def done(self, work: Work[Any]) -> bool:
        """Whether it is inactive."""
        return _inactive(work.account.body)


def _inactive(user: Mapping[str, Any]) -> bool:
    # Some give booleans as text.
    return user.get("active") is False or str(user.get("active")).casefold() == "false"


class RemoveRoles(ScimFunction):
    """Takes roles and entitlements off the account."""

    name = "scim.remove_roles"
    summary = "Remove all roles and entitlements of an account"
    impact = "The leaver keeps rights in the application."
    rights = "to read and change users"
    act = "PATCH /Users/{id} remove roles, entitlements"

    def change(self, work: Work[Any]) -> Outcome:
        """Remove what is there, and ask."""
        there = _rights(work.account.body)
        if not there:
            return Outcome.succeeded(outcome="already", before={})

        def without(user: dict[str, Any]) -> None:
            for name in there:
                user[name] = []

        operations = [{"op": "remove", "path": name} for name in there]
        changed(work.client, "Users", work.account.id, operations, without)
        settled(
            lambda: resource(work.client, "Users", work.account.id), lambda user: not _rights(user or {}),
            service=work.client.service.name,
        )  # fmt: skip
        return Outcome.succeeded(outcome="changed", before=there)

    def done(self, work: Work[Any]) -> bool:
        """Whether there are none."""
        return not _rights(work.account.body)


def _rights(user: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [entry.get("value") if isinstance(entry, Mapping) else entry for entry in user[name]]
        for name in ("roles", "entitlements") if user.get(name)
    }  # fmt: skip


class RemoveGroups(ScimFunction):
    """Takes the leaver out of every group of the application."""

    name = "scim.remove_from_groups"
    summary = "Remove an account from all groups of the application"
    impact = "The leaver keeps what the groups give."
    rights = "to read users, and to read and change groups"
    act = "PATCH /Groups/{id} without the account, for each group"

    def change(self, work: Work[Any]) -> Outcome:
        """Leave each, and look what is left."""
        items = [{"id": key, "name": name} for key, name in self._groups(work).items()]
        return each_removed(
            work, "groups", items, lambda item: self._leave(work, item["id"]), lambda: list(self._groups(work))
        )  # fmt: skip

    def done(self, work: Work[Any]) -> bool:
        """Whether there are none."""
        return not self._groups(work)

    def _leave(self, work: Work[Any], group: str) -> None:
        me = work.account.id
        operation = {"op": "remove", "path": f"members[value eq {json.dumps(me)}]"}

        def without(body: dict[str, Any]) -> None:
            body["members"] = [m for m in body.get("members") or () if m.get("value") != me]

        changed(work.client, "Groups", group, [operation], without)

    def _groups(self, work: Work[Any]) -> dict[str, str]:
        """Id -> name. By looking for the member, and by what the account itself says: servers differ in which they have."""
        me = work.account.id
        user = resource(work.client, "Users", me) or {}
        found = {
            str(g["value"]): str(g.get("display") or "")
            for g in user.get("groups") or () if g.get("value") and g.get("type") != "indirect"
        }  # fmt: skip
        call = Call("GET", "/Groups", {"filter": f"members.value eq {json.dumps(me)}"}, headers=_JSON)
        try:
            groups = work.client.all(call, _PAGES)
        except RestRefused as error:
            if error.status not in (400, 404, *_NOT_THERE):
                raise
            return found
        # One that does not know the filter gives every group: those that name their members tell.
        mine = [g for g in groups if "members" not in g or me in _values(g, "members.value")]
        return found | {str(g["id"]): str(g.get("displayName") or "") for g in mine}


class Delete(DeletesAccount[Any], ScimFunction):
    """Deletes the account, with all that the application keeps of it."""

    name = "scim.delete_user"
    summary = "Delete an account, with all that the application keeps of it"
    rights = "to read and delete users"
    act = "DELETE /Users/{id}"

    def delete(self, work: Work[Any]) -> None:
        """Delete it."""
        work.client.send(Call("DELETE", path_of("Users", work.account.id), headers={"Accept": _JSON["Accept"]}))


FUNCTIONS: dict[str, type[Function[Any]]] = {
    f.name: f for f in (Deactivate, RemoveRoles, RemoveGroups, Delete)
}  # fmt: skip
