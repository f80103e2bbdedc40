"""The leaver among people: direct reports, manager, and the telephone number of Teams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.failure_types import MANAGER_NOT_FOUND
from agent.functions.base import Outcome
from agent.functions.microsoft365.base import (
    FIRST_LOOK,
    LOOKS,
    UserFunction,
    UserParameters,
    Work,
    judged,
    settled,
    still_there,
)
from agent.functions.microsoft365.mailboxes import PersonName, other_account
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, get, path_of
from agent.services.rest import waiting

_NUMBERS = ("admin", "teams", "telephoneNumberManagement", "numberAssignments")


class ReportParameters(UserParameters):
    """Who manages them from now on."""

    #: An account, or `manager`: the leaver's own manager.
    new_manager: PersonName


class ReassignDirectReports(UserFunction[ReportParameters]):
    """Gives everybody who reported to the leaver another manager."""

    name = "m365.reassign_direct_reports"
    summary = "Give the direct reports of an account another manager"
    Parameters = ReportParameters
    repeatable = True
    failure_type = MANAGER_NOT_FOUND
    impact = "People report to somebody who has left."

    def preview(self, parameters: ReportParameters) -> str:
        """The calls that would be made."""
        return f"PUT /users/{{id}}/manager/$ref = {parameters.new_manager} for every direct report of {parameters.user}"

    def change(self, work: Work[ReportParameters]) -> Outcome:
        """Set the new manager of each, and see that none is left. A synchronised account is changed in the local AD."""
        reports = self._reports(work)
        if not reports:
            return Outcome.succeeded(reports=[], outcome="already")
        new = other_account(work, work.parameters.new_manager)
        body = work.tenant.graph.reference("users", new.id)
        moving = [r for r in reports if r["id"] != new.id]
        calls = [Call("PUT", path_of("users", r["id"], "manager", "$ref"), body) for r in moving]
        # Who takes over has no other manager here: nobody can be one's own.
        calls += [Call("DELETE", path_of("users", r["id"], "manager", "$ref")) for r in reports if r["id"] == new.id]
        order = moving + [r for r in reports if r["id"] == new.id]
        replies = work.tenant.graph.batch(calls)
        left = {r["id"] for r in self._reports(work)}
        items = [self._item(r, reply, left, new.upn) for r, reply in zip(order, replies, strict=True)]
        return judged(items, "reports", new_manager=new.upn)

    def _item(self, report: Mapping[str, Any], reply: Any, left: set[str], manager: str) -> dict[str, Any]:
        item: dict[str, Any] = {
            "id": report["id"], "upn": report.get("userPrincipalName"), "new_manager": manager, "outcome": "changed"
        }  # fmt: skip
        if report["id"] not in left:
            return item
        if isinstance(reply, ServiceRefused) and reply.code == "OnPremisesMastered":
            return {
                **item,
                "outcome": "kept",
                "reason": "synchronised: the manager is kept in the local Active Directory",
            }
        return {**item, **still_there("the directory", reply)}

    def done(self, work: Work[ReportParameters]) -> bool:
        """Whether nobody reports to the leaver."""
        return not self._reports(work)

    def _reports(self, work: Work[ReportParameters]) -> list[Mapping[str, Any]]:
        return work.tenant.graph.all(work.get("directReports", top="999"))


class ClearManager(UserFunction[UserParameters]):
    """Takes the leaver out of the organisation chart."""

    name = "m365.clear_manager"
    summary = "Remove the manager of an account, so that it leaves the organisation chart"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "The leaver still stands in the organisation chart."

    def preview(self, parameters: UserParameters) -> str:
        """The call that would be made."""
        return f"DELETE /users/{parameters.user}/manager/$ref"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Remove it, and ask. The result keeps who it was."""
        before = self._manager(work)
        if before is None:
            return Outcome.succeeded(outcome="already", before=None)
        try:
            work.tenant.graph.call(Call("DELETE", work.path("manager", "$ref")))
        except ServiceRefused as error:
            if not error.missing:
                raise
        settled(lambda: self._manager(work) is None, lambda gone: gone)
        shown = {"id": before["id"], "upn": before.get("userPrincipalName")}
        return Outcome.succeeded(outcome="changed", before=shown)

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether there is none."""
        return self._manager(work) is None

    def _manager(self, work: Work[UserParameters]) -> Mapping[str, Any] | None:
        try:
            return work.tenant.graph.call(work.get("manager"))
        except ServiceRefused as error:
            if error.missing:
                return None
            raise


class UnassignTeamsNumber(UserFunction[UserParameters]):
    """Frees the leaver's telephone numbers. Teams does so in its own time; it must happen before licences go."""

    name = "m365.unassign_teams_number"
    summary = "Unassign the Teams telephone numbers of an account (global cloud only); before its licences are removed"
    Parameters = UserParameters
    destructive = True
    repeatable = True
    impact = "The telephone number stays taken."

    def preview(self, parameters: UserParameters) -> str:
        """The calls that would be made."""
        return f"POST {path_of(*_NUMBERS)}/unassignNumber for every number of {parameters.user}"

    def change(self, work: Work[UserParameters]) -> Outcome:
        """Ask for each to be freed, and see that none is left."""
        numbers = self._numbers(work)
        calls = [
            Call(
                "POST", path_of(*_NUMBERS, "unassignNumber"),
                {"telephoneNumber": n["telephoneNumber"], "numberType": n["numberType"]}, may_repeat=True,
            )
            for n in numbers
        ]  # fmt: skip
        replies = work.tenant.graph.batch(calls) if calls else []
        left = self._left(work) if numbers else set()
        items = []
        for number, reply in zip(numbers, replies, strict=True):
            item: dict[str, Any] = {
                "number": number["telephoneNumber"], "type": number["numberType"], "outcome": "removed"
            }  # fmt: skip
            item |= still_there("Teams", reply) if number["telephoneNumber"] in left else {}
            items.append(item)
        return judged(items, "numbers", removed=sum(i["outcome"] == "removed" for i in items))

    def done(self, work: Work[UserParameters]) -> bool:
        """Whether there is none."""
        return not self._numbers(work)

    def _left(self, work: Work[UserParameters]) -> set[str]:
        """Numbers that are not free after a while: Teams takes its time."""
        for look in range(LOOKS):
            left = {str(n["telephoneNumber"]) for n in self._numbers(work)}
            if not left or look == LOOKS - 1:
                break
            waiting.pause(FIRST_LOOK * 2**look)
        return left

    def _numbers(self, work: Work[UserParameters]) -> list[Mapping[str, Any]]:
        found = work.tenant.graph.all(get(*_NUMBERS, filter=f"assignmentTargetId eq '{work.user.id}'"))
        return [
            n for n in found if n.get("assignmentTargetId") == work.user.id and n.get("assignmentStatus") != "unassigned"
        ]  # fmt: skip
