"""The leaver's administrator roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.functions.base import Outcome
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work, judged, still_there
from agent.functions.microsoft365.checks import roles_of
from agent.services.microsoft.graph import Call, path_of


class RemoveDirectoryRoles(UserFunction[UserParameters]):
    """Ends every assignment of a directory role to the leaver. Roles by a group go with the group."""

    name = "m365.remove_directory_roles"
    summary = "Remove all directory roles that are assigned to an account"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "The leaver keeps an administrator role."
    critical = True

    def preview(self, parameters: UserParameters) -> str:
        """The calls that would be made."""
        return f"DELETE /roleManagement/directory/roleAssignments/{{id}} for every assignment to {parameters.user}"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """End each, and see that none is left."""
        roles = self._roles(work)
        calls = [Call("DELETE", path_of("roleManagement", "directory", "roleAssignments", str(r["id"]))) for r in roles]
        replies = work.tenant.graph.batch(calls) if calls else []
        left = {r["id"] for r in self._roles(work)} if roles else set()
        items = []
        for role, reply in zip(roles, replies, strict=True):
            item: dict[str, Any] = {
                "id": role["id"], "name": (role.get("roleDefinition") or {}).get("displayName"),
                "scope": role.get("directoryScopeId"), "outcome": "removed",
            }  # fmt: skip
            if role["id"] in left:
                item |= still_there("the directory", reply)
            items.append(item)
        return judged(items, "roles", removed=sum(i["outcome"] == "removed" for i in items))

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether none is left."""
        return not self._roles(work)

    def _roles(self, work: Work[UserParameters]) -> list[Mapping[str, Any]]:
        return work.tenant.graph.all(roles_of(work.user.id))
