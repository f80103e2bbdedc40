"""The leaver in Jira: what the leaver is responsible for, groups, and the user itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from agent.errors import StepError
from agent.failure_types import ACCOUNT_NOT_FOUND, DATA_TRANSFER_FAILED, MANAGER_NOT_FOUND
from agent.functions.accounts import (
    Account,
    AccountFunction,
    AccountParameters,
    DeletesAccount,
    Work,
    ambiguous,
    each_removed,
)
from agent.functions.base import Outcome
from agent.functions.base import Parameters as BaseParameters
from agent.functions.systems.jira.site import API, SEARCH, SYSTEM
from agent.services.rest.client import Call, RestClient, path_of
from agent.services.rest.errors import RestRefused
from agent.services.rest.paging import Offset

#: Issues, filters and projects of one leaver that one step changes; a second run goes on.
MOST = 1000
_VALUES = Offset(entries="values", parameter="startAt", total="total", last="isLast")


class JiraFunction(AccountFunction[Any]):
    """A function on one user of Jira."""

    rest = SYSTEM
    system = "Jira"
    Parameters: ClassVar[type[BaseParameters]] = AccountParameters
    destructive = True
    repeatable = True

    def find(self, client: RestClient, asked: str, parameters: Any) -> Account | None:
        """By account id, or by a mail address that Jira shows."""
        return find_user(client, asked)


def find_user(client: RestClient, asked: str) -> Account | None:
    """The user of an account id or address, None when there is none. Raises StepError when it cannot be told which."""
    if "@" not in asked:
        try:
            return _account(client.object(Call("GET", f"{API}/user", {"accountId": asked})))
        except RestRefused as error:
            if error.missing:
                return None
            raise
    found = client.json(Call("GET", f"{API}/user/search", {"query": asked, "maxResults": "50"})) or []
    people = [_account(user) for user in found if user.get("accountType", "atlassian") == "atlassian"]
    same = [user for user in people if user.name.casefold() == asked.casefold()]
    if len(same) > 1:
        raise ambiguous(client, asked, [user.id for user in same])
    hidden = [user.id for user in people if not user.name]
    if not same and hidden:
        # Whoever hides the address in the profile cannot be told from others whose name begins alike.
        raise StepError(
            f"Jira hides the addresses of those who may be {asked!r}: {', '.join(hidden[:5])}", type=ACCOUNT_NOT_FOUND,
            code="account_hidden", impact="Nothing was changed in Jira.",
            remediation="Write the account id of the right one into the contact's field Jira Id.",
        )  # fmt: skip
    return same[0] if same else None


def _account(body: Mapping[str, Any]) -> Account:
    return Account(str(body["accountId"]), str(body.get("emailAddress") or ""), body)


class RemoveGroups(JiraFunction):
    """Takes the leaver out of every group, and so out of the products that groups give."""

    name = "jira.remove_from_groups"
    summary = "Remove a user from all groups of Jira, which takes the access to its products"
    impact = "The leaver can still work in Jira."
    critical = True
    rights = "Administer Jira (global), and site administration for groups that give access to a product"

    def preview(self, parameters: AccountParameters) -> str:
        """The calls that would be made."""
        return f"DELETE {API}/group/user?groupId={{id}}&accountId={parameters.user} for each group"

    def change(self, work: Work[AccountParameters]) -> Outcome:
        """Leave each, and look what is left."""
        items = [{"id": str(g["groupId"]), "name": str(g.get("name"))} for g in self._groups(work)]
        return each_removed(
            work, "groups", items, lambda item: self._leave(work, item["id"]),
            lambda: [str(g["groupId"]) for g in self._groups(work)],
        )  # fmt: skip

    def done(self, work: Work[AccountParameters]) -> bool:
        """Whether there are none."""
        return not self._groups(work)

    def _leave(self, work: Work[AccountParameters], group: str) -> None:
        work.client.send(Call("DELETE", f"{API}/group/user", {"groupId": group, "accountId": work.account.id}))

    def _groups(self, work: Work[AccountParameters]) -> list[Mapping[str, Any]]:
        return work.client.json(Call("GET", f"{API}/user/groups", {"accountId": work.account.id})) or []


class HandOverParameters(AccountParameters):
    """Who takes over."""

    #: Account id or address of the person who takes over.
    to: str = Field("", max_length=320)


class HandOver(JiraFunction):
    """Gives open issues, filters and the lead of projects to the manager."""

    name = "jira.hand_over"
    summary = "Give the open issues, the filters and the lead of projects of a user to somebody else"
    Parameters = HandOverParameters
    failure_type = DATA_TRANSFER_FAILED
    impact = "Open issues, filters or projects still belong to the leaver."
    rights = "Browse Projects, Assign Issues, Administer Projects; Administer Jira for filters"

    def preview(self, parameters: HandOverParameters) -> str:
        """The calls that would be made."""
        who = parameters.to or "(nobody)"
        return f"PUT {API}/issue/{{key}}/assignee, /filter/{{id}}/owner, /project/{{key}} of {parameters.user}: {who}"

    def change(self, work: Work[HandOverParameters]) -> Outcome:
        """Give each, and look what is left."""
        heir = self._heir(work)
        items = self._held(work)
        given = each_removed(
            work, "things", items, lambda item: self._give(work, item, heir.id),
            lambda: [item["id"] for item in self._held(work)], verb="changed",
        )  # fmt: skip
        return Outcome(given.state, {**given.result, "to": heir.name}, given.error)

    def done(self, work: Work[HandOverParameters]) -> bool:
        """Whether the leaver has none."""
        return not self._held(work)

    def _heir(self, work: Work[HandOverParameters]) -> Account:
        found = find_user(work.client, work.parameters.to) if work.parameters.to.strip() else None
        if found is None or found.id == work.account.id or found.body.get("active") is False:
            why = (
                "is the leaver, or deactivated"
                if found
                else "is no user of Jira"
                if work.parameters.to
                else "is missing"
            )
            raise StepError(
                f"nothing can be handed over: {work.parameters.to or 'the manager'} {why}", type=MANAGER_NOT_FOUND,
                code="manager_not_found", impact="Nothing was changed in Jira.",
                remediation="Enter the contact's manager with the address that he or she has in Jira, then retry the run.",
            )  # fmt: skip
        return found

    def _held(self, work: Work[HandOverParameters]) -> list[dict[str, Any]]:
        """Issues, filters and projects, each with an id that tells its kind."""
        client, user = work.client, work.account.id
        query = {
            "jql": f"assignee = {json.dumps(user)} AND statusCategory != Done ORDER BY key",
            "fields": "summary",
            "maxResults": "100",
        }
        issues = [str(i["key"]) for i in client.all(Call("GET", f"{API}/search/jql", query), SEARCH)]
        filters = client.all(
            Call("GET", f"{API}/filter/search", {"accountId": user, "maxResults": "50", "overrideSharePermissions": "true"}), _VALUES
        )  # fmt: skip
        projects = client.all(Call("GET", f"{API}/project/search", {"expand": "lead", "maxResults": "50"}), _VALUES)
        led = [str(p["key"]) for p in projects if (p.get("lead") or {}).get("accountId") == user]
        held = (
            [("issue", key) for key in issues]
            + [("filter", str(f["id"])) for f in filters]
            + [("project", k) for k in led]
        )
        return [{"id": f"{kind} {key}", "kind": kind, "key": key} for kind, key in held[:MOST]]

    def _give(self, work: Work[HandOverParameters], item: Mapping[str, Any], heir: str) -> None:
        kind, key = str(item["kind"]), str(item["key"])
        parts, body = {
            "issue": (("assignee",), {"accountId": heir}), "filter": (("owner",), {"accountId": heir}),
            "project": ((), {"leadAccountId": heir}),
        }[kind]  # fmt: skip
        work.client.send(Call("PUT", path_of("rest", "api", "3", kind, key, *parts), json=body))


class Delete(DeletesAccount[AccountParameters], JiraFunction):
    """Removes the user from the site. Issues and comments keep the name."""

    name = "jira.delete_user"
    summary = "Remove a user from the Jira site; issues and comments stay"
    rights = "site administration"

    def preview(self, parameters: AccountParameters) -> str:
        """The call that would be made."""
        return f"DELETE {API}/user?accountId={parameters.user}"

    def delete(self, work: Work[AccountParameters]) -> None:
        """Send it."""
        work.client.send(Call("DELETE", f"{API}/user", {"accountId": work.account.id}))
