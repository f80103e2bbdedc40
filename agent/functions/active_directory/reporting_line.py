"""`ad.clear_manager`: takes the person out of the reporting structure, upwards and downwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from pydantic import model_validator

from agent.errors import AnswerLost, StepError
from agent.failure_types import MANAGER_NOT_FOUND
from agent.functions.active_directory.base import AccountFunction, AccountParameters, Work, not_kept
from agent.functions.base import Outcome
from agent.services.directory.accounts import Account, find
from agent.services.directory.errors import DirectoryRefused
from agent.services.directory.names import escape_filter, guid_dn
from agent.services.directory.port import Change, Entry


class ManagerParameters(AccountParameters):
    """What becomes of the direct reports."""

    #: keep: they keep the leaver as their manager; clear: they have none; move: `new_manager` becomes theirs.
    reports: Literal["keep", "clear", "move"] = "keep"
    #: objectGUID, mail address, UPN or sAMAccountName of the account that takes them over.
    new_manager: str = ""

    @model_validator(mode="after")
    def _agrees(self) -> ManagerParameters:
        if (self.reports == "move") != bool(self.new_manager):
            raise ValueError("`new_manager` belongs to `reports: move`, and that needs one")
        return self


@dataclass
class _Line:
    """Somebody whose `manager` changes: a report, or the leaver."""

    entry: Entry
    reason: str | None = None
    refused: StepError | None = field(default=None, repr=False)


class ClearManager(AccountFunction[ManagerParameters]):
    """Clears the leaver's manager, and gives the direct reports another one or none."""

    name = "ad.clear_manager"
    summary = "Clear the manager of the Active Directory account, and move or clear its direct reports"
    Parameters = ManagerParameters
    impact = "The person still stands in the organisation chart."
    rights = "Write manager (of the account and of its direct reports)"

    def preview(self, parameters: ManagerParameters) -> str:
        """What would be done."""
        reports = {
            "keep": "leave its direct reports as they are",
            "clear": "clear `manager` of its direct reports",
            "move": f"set `manager` of its direct reports to {parameters.new_manager!r}",
        }
        return (
            f"clear `manager` of the Active Directory account {parameters.account!r} and {reports[parameters.reports]}"
        )

    def act(self, work: Work, parameters: ManagerParameters) -> Outcome:
        """Change the lines one by one; who reports to whom is read afterwards, not taken from the answers."""
        new = _new_manager(work, parameters)
        old = work.account.entry.text("manager")
        reports = [] if parameters.reports == "keep" else _reports(work)
        own = [_Line(work.account.entry)] if old else []
        lines = [_Line(entry) for entry in reports]
        values = (new.dn,) if new else ()
        for line, wanted in [*((line, ()) for line in own), *((line, values) for line in lines)]:
            _set_manager(work, line, wanted)
        try:
            still, account = {e.guid for e in _reports(work)}, work.now()
        except AnswerLost as lost:
            assert lost.typed is not None
            return Outcome.unknown(lost.typed)
        cleared = account.entry.text("manager") is None
        rows = [_row(line, line.entry.guid not in still) for line in lines]
        result = work.facts(
            account, already=not (own or lines), manager_cleared=cleared, previous_manager=old,
            direct_reports=rows, new_manager=new.dn if new else None,
        )  # fmt: skip
        left = [line for line in lines if line.entry.guid in still]
        if cleared and not left:
            return Outcome.succeeded(**result)
        refused = [line.refused for line in [*own, *left] if line.refused is not None]
        return Outcome.failed(refused[0] if refused else not_kept("change the manager", work.directory), **result)

    def is_done(self, work: Work, parameters: ManagerParameters) -> bool | None:
        """No manager, and no reports unless they stay."""
        if work.account.entry.text("manager") is not None:
            return False
        return parameters.reports == "keep" or not _reports(work)


def _reports(work: Work) -> Sequence[Entry]:
    """Objects of the client that name the account as their manager."""
    condition = f"(manager={escape_filter(work.account.dn)})"
    return work.directory.search(work.directory.base, condition, ("objectGUID", "displayName", "cn"))


def _new_manager(work: Work, parameters: ManagerParameters) -> Account | None:
    if parameters.reports != "move":
        return None
    found = find(work.directory, parameters.new_manager, missing=MANAGER_NOT_FOUND, what="manager")
    if found.guid == work.account.guid:
        raise StepError(
            f"{parameters.new_manager!r} is the leaver: name somebody else as `new_manager`",
            type=MANAGER_NOT_FOUND, code="manager_is_leaver",
        )  # fmt: skip
    return found


def _set_manager(work: Work, line: _Line, values: tuple[str, ...]) -> None:
    guid: UUID = line.entry.guid
    # A report that is the new manager itself: nobody is the manager of themselves.
    wanted = () if values == (line.entry.dn,) else values
    try:
        lost = work.sent(lambda: work.directory.modify(guid_dn(guid), [Change("replace", "manager", wanted)]))
    except DirectoryRefused as error:
        line.refused, line.reason = error, f"{error.code}: {error}"
    else:
        line.refused = lost.typed if lost else None


def _row(line: _Line, changed: bool) -> dict[str, Any]:
    name = line.entry.text("displayName") or line.entry.text("cn")
    row: dict[str, Any] = {"name": name, "dn": line.entry.dn, "changed": changed}
    return row if changed else {**row, "reason": line.reason or "it is still a direct report"}
