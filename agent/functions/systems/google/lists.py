"""What the account has: tokens, application passwords, addresses, groups, roles, and the phones that Google manages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from agent.failure_types import DEVICE_WIPE_FAILED
from agent.functions.accounts import AccountParameters, Work, each_removed
from agent.functions.base import Outcome
from agent.functions.systems.google.accounts import GoogleFunction, path
from agent.functions.systems.google.sign_in import CUSTOMER, GROUPS, Pages
from agent.services.rest.client import Call, path_of


class Removes(GoogleFunction):
    """Removes everything of one sort that the account has: `what` in the result, `entries` in Google's answer."""

    what: ClassVar[str]
    entries: ClassVar[str] = "items"
    #: Members of an entry: its id, and what people know it by.
    key: ClassVar[str]
    shown_by: ClassVar[str]
    rights = "admin.directory.user.security"

    @abstractmethod
    def listing(self, work: Work[Any]) -> Call:
        """The question for the list."""

    def removal(self, work: Work[Any], entry: str) -> Call:
        """The call that removes one."""
        return Call("DELETE", self.listing(work).path + path_of(entry))

    def note(self, work: Work[Any], item: dict[str, Any]) -> None:
        """Add to an item what should be known."""

    def preview(self, parameters: Any) -> str:
        """The calls that would be made."""
        return f"DELETE each of the {self.what.replace('_', ' ')} of {parameters.user}"

    def change(self, work: Work[Any]) -> Outcome:
        """Remove each, and look what is left."""
        items = [{"id": str(e[self.key]), "name": e.get(self.shown_by)} for e in self._entries(work)]
        for item in items:
            self.note(work, item)

        def remove(item: Mapping[str, Any]) -> None:
            work.client.send(self.removal(work, item["id"]))

        return each_removed(work, self.what, items, remove, lambda: [str(e[self.key]) for e in self._entries(work)])

    def done(self, work: Work[Any]) -> bool:
        """Whether nothing is left."""
        return not self._entries(work)

    def _entries(self, work: Work[Any]) -> list[Mapping[str, Any]]:
        return work.client.all(self.listing(work), Pages(entries=self.entries))


class RevokeTokens(Removes):
    """Takes back what the leaver allowed to other applications."""

    name = "google.revoke_tokens"
    summary = "Revoke the access that an account gave to other applications"
    what, key, shown_by = "tokens", "clientId", "displayText"
    impact = "Applications can still act as the leaver."
    critical = True

    def listing(self, work: Work[Any]) -> Call:
        """Tokens."""
        return Call("GET", path(work, "tokens"))


class RemoveAppPasswords(Removes):
    """Removes the passwords of applications that know no second factor."""

    name = "google.remove_app_passwords"
    summary = "Remove all application-specific passwords of an account"
    what, key, shown_by = "app_passwords", "codeId", "name"
    impact = "Applications can still sign in as the leaver."
    critical = True

    def listing(self, work: Work[Any]) -> Call:
        """Passwords."""
        return Call("GET", path(work, "asps"))


class RemoveAliases(Removes):
    """Removes the account's further addresses, so that they can be given to others."""

    name = "google.remove_aliases"
    summary = "Remove the further addresses of an account"
    what, entries, key, shown_by = "aliases", "aliases", "alias", "alias"
    impact = "Mail to the leaver's further addresses still arrives."
    rights = "admin.directory.user"

    def listing(self, work: Work[Any]) -> Call:
        """Aliases."""
        return Call("GET", path(work, "aliases"))


class RemoveGroups(Removes):
    """Takes the leaver out of every group."""

    name = "google.remove_from_groups"
    summary = "Remove an account from all groups; a group that has no owner then is named"
    what, entries, key, shown_by = "groups", "groups", "id", "email"
    impact = "The leaver keeps what the groups give."
    rights = "admin.directory.group"

    def listing(self, work: Work[Any]) -> Call:
        """Groups."""
        return Call("GET", path_of(*GROUPS), {"userKey": work.account.id, "maxResults": "200"})

    def removal(self, work: Work[Any], entry: str) -> Call:
        """Leave one."""
        return Call("DELETE", path_of(*GROUPS, entry, "members", work.account.id))

    def note(self, work: Work[Any], item: dict[str, Any]) -> None:
        """Whether the leaver is its only owner."""
        owners = Call("GET", path_of(*GROUPS, item["id"], "members"), {"roles": "OWNER"})
        if [m.get("id") for m in work.client.all(owners, Pages(entries="members"))] == [work.account.id]:
            item["warning"] = "the group has no owner now: name one"


class RemoveRoles(Removes):
    """Takes every administrator role off the account."""

    name = "google.remove_admin_roles"
    summary = "Remove all administrator roles of an account"
    what, key, shown_by = "roles", "roleAssignmentId", "roleId"
    impact = "The leaver is still an administrator."
    critical = True
    rights = "admin.directory.rolemanagement"

    def listing(self, work: Work[Any]) -> Call:
        """Assignments."""
        return Call("GET", path_of(*CUSTOMER, "roleassignments"), {"userKey": work.account.id})


class WipeParameters(AccountParameters):
    """What is wiped: the company's data on the device, or the whole device."""

    wipe: Literal["account", "device"] = "account"


class WipeDevices(GoogleFunction):
    """Wipes the phones that Google manages for the account; they obey when they are online next."""

    name = "google.wipe_devices"
    summary = "Wipe the company's data (account) or everything (device) from the managed phones of an account"
    Parameters = WipeParameters
    failure_type = DEVICE_WIPE_FAILED
    impact = "Company data stays on the leaver's phones."
    rights = "admin.directory.device.mobile"
    #: Act -> statuses in which Google has taken it on.
    _TAKEN: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "account": ("ACCOUNT_WIPING", "ACCOUNT_WIPED", "WIPING", "WIPED"), "device": ("WIPING", "WIPED"),
    }  # fmt: skip

    def preview(self, parameters: WipeParameters) -> str:
        """The calls that would be made."""
        act = "admin_account_wipe" if parameters.wipe == "account" else "admin_remote_wipe"
        return f"POST {act} for each managed phone of {parameters.user}"

    def change(self, work: Work[Any]) -> Outcome:
        """Ask for each, and see that Google has taken it on."""
        act = "admin_account_wipe" if work.parameters.wipe == "account" else "admin_remote_wipe"
        items = [
            {"id": str(d["resourceId"]), "name": d.get("model"), "status": d.get("status")}
            | ({"outcome": "already"} if self._taken(work, d) else {})
            for d in self._devices(work)
        ]

        def wipe(item: Mapping[str, Any]) -> None:
            path = path_of(*CUSTOMER, "devices", "mobile", item["id"], "action")
            work.client.send(Call("POST", path, json={"action": act}, may_repeat=True))

        def left() -> list[str]:
            return [str(d["resourceId"]) for d in self._devices(work) if not self._taken(work, d)]

        return each_removed(work, "devices", items, wipe, left, verb="accepted")

    def done(self, work: Work[Any]) -> bool:
        """Whether every phone is being wiped or is wiped."""
        return all(self._taken(work, d) for d in self._devices(work))

    def _taken(self, work: Work[Any], device: Mapping[str, Any]) -> bool:
        return device.get("status") in self._TAKEN[work.parameters.wipe]

    def _devices(self, work: Work[Any]) -> list[Mapping[str, Any]]:
        call = Call("GET", path_of(*CUSTOMER, "devices", "mobile"), {"query": f"email:{work.account.name}"})
        found = work.client.all(call, Pages(entries="mobiledevices"))
        # The search also finds addresses that only begin so.
        mine = work.account.name.casefold()
        return [d for d in found if mine in [str(m).casefold() for m in d.get("email") or ()]]
