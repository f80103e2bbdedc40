"""`ad.remove_from_groups`: takes the account out of every group that it is a member of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from agent.errors import AnswerLost, StepError
from agent.failure_types import PERMISSION_DENIED
from agent.functions.active_directory.base import AccountFunction, AccountParameters, Names, Work, not_kept
from agent.functions.base import Outcome
from agent.services.directory import groups
from agent.services.directory.errors import DirectoryRefused
from agent.services.directory.groups import Group

PRIMARY = "primary group: an account cannot leave it"
KEPT = "kept: named in `keep`"
PROTECTED = "protected group (administrators): set `protected_groups` to leave it too"
OUTSIDE = "the group stands outside of `base_dn` of the credential"


def _in_order(value: Any) -> Any:
    """Lists of the inputs have commas where no name has one. Which of the two it is does not matter for an order."""
    if isinstance(value, str) and ";" not in value and "," in value:
        return [value.strip(), *(part.strip() for part in value.split(",") if part.strip())]
    return value


class GroupsParameters(AccountParameters):
    """Which groups, and in which order. A group is named by its name (cn), distinguished name or GUID."""

    #: Groups that are left first, in this order; the others follow by name.
    order: Annotated[Names, BeforeValidator(_in_order)] = ()
    #: Groups that are not left.
    keep: Names = ()
    #: Groups that give administrators' rights (adminCount is 1) are left too.
    protected_groups: bool = False


class RemoveFromGroups(AccountFunction[GroupsParameters]):
    """Removes the account from its groups, and says of each what became of it."""

    name = "ad.remove_from_groups"
    summary = "Remove the account from all its Active Directory groups; the primary group stays and is reported"
    Parameters = GroupsParameters
    impact = "The account keeps the rights of the groups that it is still in."
    rights = "Write member (of the groups)"

    def preview(self, parameters: GroupsParameters) -> str:
        """What would be done."""
        first = f", first {', '.join(parameters.order)}" if parameters.order else ""
        kept = [*parameters.keep, "the primary group", *([] if parameters.protected_groups else ["protected groups"])]
        return (
            f"remove the Active Directory account {parameters.account!r} from `member` of all its groups{first}, "
            f"but not from {', '.join(kept)}"
        )

    def act(self, work: Work, parameters: GroupsParameters) -> Outcome:
        """Leave group by group; what is true afterwards is read from the groups, not from the answers."""
        before = groups.memberships(work.directory, work.account)
        reasons = {g.guid: _reason_to_stay(g, parameters) for g in before}
        nested = groups.nested(work.directory, work.account)
        errors: list[StepError] = []
        ordered = _ordered(before, parameters.order)
        still = {g.guid for g in before}
        try:
            for _ in range(2):
                lost = [_leave(work, g, errors, reasons) for g in ordered if g.guid in still and not reasons[g.guid]]
                still = {g.guid for g in groups.memberships(work.directory, work.account)}
                if not any(lost):
                    break
        except AnswerLost as error:
            rows = [_row(g, None, "not known") for g in ordered]
            assert error.typed is not None
            return Outcome.unknown(error.typed, active_directory_groups=rows)
        return self._outcome(work, parameters, before, reasons, nested, still, errors)

    def _outcome(
        self, work: Work, parameters: GroupsParameters, before: Sequence[Group], reasons: dict[Any, str | None],
        nested: Sequence[Group], still: set[Any], errors: list[StepError],
    ) -> Outcome:  # fmt: skip
        rows, left = [], []
        for group in _ordered(before, parameters.order):
            removed = group.guid not in still
            rows.append(_row(group, removed, None if removed else reasons[group.guid] or "it is still a member"))
            if not removed and reasons[group.guid] != KEPT:
                left.append(rows[-1])
        own = groups.primary(work.directory, work.account)
        if own is not None:
            rows.append(_row(own, False, PRIMARY))
        result = work.facts(
            active_directory_groups=rows, already=not before,
            nested_groups=[{"group_name": g.name, "group_dn": g.dn} for g in nested],
        )  # fmt: skip
        if not left:
            return Outcome.succeeded(**result)
        first = errors[0] if errors else _stays(left, work)
        names = ", ".join(str(row["group_name"]) for row in left)
        error = StepError(
            f"still a member of {names}: {first}", type=first.type, code=first.code, impact=first.impact,
            remediation=first.remediation,
        )  # fmt: skip
        return Outcome.failed(error, **result)

    def is_done(self, work: Work, parameters: GroupsParameters) -> bool | None:
        """Only groups that are kept on purpose are left."""
        return all(
            _reason_to_stay(g, parameters) == KEPT for g in groups.memberships(work.directory, work.account)
        )  # fmt: skip


def _leave(work: Work, group: Group, errors: list[StepError], reasons: dict[Any, str | None]) -> bool:
    """Leave one group; whether the answer was lost. A refusal is kept, and the next group follows."""
    try:
        lost = work.sent(lambda: groups.remove_member(work.directory, group, work.account))
    except DirectoryRefused as error:
        errors.append(error)
        reasons[group.guid] = f"{error.code}: {error}"
        return False
    if lost is not None and lost.typed is not None:
        errors.append(lost.typed)
    return lost is not None


def _stays(left: Sequence[dict[str, Any]], work: Work) -> StepError:
    if any(row["reason"] in (PROTECTED, OUTSIDE) for row in left):
        return StepError(
            "; ".join(sorted({str(row["reason"]) for row in left})), type=PERMISSION_DENIED, code="protected_group",
            remediation="Set `protected_groups`, name the group in `keep`, or take the account out by hand.",
        )  # fmt: skip
    return not_kept("remove the member", work.directory)


def _reason_to_stay(group: Group, parameters: GroupsParameters) -> str | None:
    """Why a group is not left, None when it is."""
    if _named(group, parameters.keep) is not None:
        return KEPT
    if group.protected and not parameters.protected_groups:
        return PROTECTED
    return None if group.inside else OUTSIDE


def _ordered(found: Sequence[Group], order: Sequence[str]) -> list[Group]:
    def place(group: Group) -> int:
        position = _named(group, order)
        return len(order) if position is None else position

    return sorted(found, key=place)


def _named(group: Group, names: Sequence[str]) -> int | None:
    """The position of the group in a list of names."""
    own = {group.name.casefold(), group.dn.casefold(), str(group.guid)}
    return next((i for i, name in enumerate(names) if name.casefold() in own), None)


def _row(group: Group, removed: bool | None, reason: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"group_name": group.name, "group_dn": group.dn, "removed": removed}
    return row if reason is None else {**row, "reason": reason}
