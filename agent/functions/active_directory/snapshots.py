"""`ad.snapshot` keeps what an offboarding is about to change, and `ad.restore_from_snapshot` puts it back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict

from agent.errors import StepError, UsageError
from agent.failure_types import INTEGRATION_ERROR
from agent.functions.active_directory.attributes import HIDDEN
from agent.functions.active_directory.base import AccountFunction, AccountParameters, Work, timestamp
from agent.functions.active_directory.moving import move, stands_in, the_ou
from agent.functions.base import Context, Outcome
from agent.services.directory import groups
from agent.services.directory.accounts import DISABLED, Account
from agent.services.directory.names import escape_filter, guid_dn
from agent.services.directory.port import Change

CANNOT = ("the password: it was never known; set a new one",)


class Named(BaseModel):
    """Another object: by its GUID, and by its name at that time for people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    guid: UUID
    dn: str


class Snapshot(BaseModel):
    """What an offboarding changes about an account, as it was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    object_guid: UUID
    account: str
    taken_at: str
    enabled: bool
    account_expires: int
    description: str | None
    hidden: bool
    parent: Named
    manager: Named | None
    direct_reports: tuple[Named, ...]
    groups: tuple[Named, ...]


def _from_text(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class TakeSnapshot(AccountFunction[AccountParameters]):
    """Reads what the other functions change. Its result is what a later restoration needs."""

    name = "ad.snapshot"
    summary = "Keep what an offboarding is about to change in Active Directory, so that it can be put back"
    Parameters = AccountParameters
    destructive = False
    impact = "The account cannot be put back as it was."
    rights = "Read all properties"

    def preview(self, parameters: AccountParameters) -> str:
        """What would be done."""
        return f"read the Active Directory account {parameters.account!r}: state, expiry, groups, manager, reports, OU"

    def act(self, work: Work, parameters: AccountParameters) -> Outcome:
        """Read everything; nothing is changed."""
        snapshot = taken(work).model_dump(mode="json")
        return Outcome.succeeded(**work.facts(), snapshot=snapshot, rollback_available=True)

    def is_done(self, work: Work, parameters: AccountParameters) -> bool | None:
        """It can always be read again."""
        return None


def taken(work: Work) -> Snapshot:
    """The account as it is now."""
    account, directory = work.account, work.directory
    parent, manager = _named(work, account.parent), account.entry.text("manager")
    if parent is None:
        raise StepError(
            f"{account.parent} cannot be read", type=INTEGRATION_ERROR, code="not_readable",
            remediation="Let the account of the credential read the OU.",
        )  # fmt: skip
    reports = directory.search(directory.base, f"(manager={escape_filter(account.dn)})", ("objectGUID",))
    return Snapshot(
        object_guid=account.guid, account=account.dn, taken_at=timestamp(), enabled=not account.disabled,
        account_expires=account.entry.number("accountExpires") or 0, description=account.entry.text("description"),
        hidden=account.entry.flag(HIDDEN), parent=parent, manager=_named(work, manager) if manager else None,
        direct_reports=tuple(Named(guid=e.guid, dn=e.dn) for e in reports),
        groups=tuple(Named(guid=g.guid, dn=g.dn) for g in groups.memberships(directory, account)),
    )  # fmt: skip


def _named(work: Work, dn: str) -> Named | None:
    entry = work.directory.read(dn, ("objectGUID",))
    return None if entry is None else Named(guid=entry.guid, dn=entry.dn)


class RestoreSnapshotParameters(AccountParameters):
    """What to put back."""

    #: The result `snapshot` of ad.snapshot, also as JSON text; left out: that of this run's own ad.snapshot.
    snapshot: Annotated[Snapshot | None, BeforeValidator(_from_text)] = None
    #: Enable the account again, if it was enabled.
    enable: bool = True


class RestoreFromSnapshot(AccountFunction[RestoreSnapshotParameters]):
    """Puts the account back as a snapshot has it, part by part, and says of each what became of it."""

    name = "ad.restore_from_snapshot"
    summary = "Put the Active Directory account back as its snapshot has it; the password cannot be"
    Parameters = RestoreSnapshotParameters
    destructive = False
    # There was an account, or there were no snapshot.
    skips_cloud_only = False
    impact = "The account is not as it was."
    rights = "The rights of the functions that changed it"

    def preview(self, parameters: RestoreSnapshotParameters) -> str:
        """What would be done."""
        return (
            f"put the Active Directory account {parameters.account!r} back as the snapshot has it, all but its password"
        )

    def act(self, work: Work, parameters: RestoreSnapshotParameters) -> Outcome:
        """Part by part: one that is refused does not keep the others from being restored."""
        snapshot = _snapshot(work.context, parameters)
        if snapshot.object_guid != work.account.guid:
            raise StepError(
                f"the snapshot is of {snapshot.account}, not of {work.account.dn}", type=INTEGRATION_ERROR,
                code="other_account", remediation="Give the snapshot of this account.",
            )  # fmt: skip
        rows, errors = [], []
        for part, restore in _parts(snapshot, parameters):
            row: dict[str, Any] = {"part": part, "restored": True}
            try:
                restore(work)
            except StepError as error:
                errors.append(error)
                row.update(restored=False, reason=str(error))
            rows.append(row)
        left = _differences(work, snapshot, parameters)
        for row in rows:
            if row["part"] in left and row["restored"]:
                row.update(restored=False, reason="it is not as the snapshot has it")
        facts = work.facts(work.now(), restored=rows, cannot_be_restored=list(CANNOT))
        if all(row["restored"] for row in rows):
            return Outcome.succeeded(**facts)
        return Outcome.failed(errors[0] if errors else _differs(left), **facts)

    def is_done(self, work: Work, parameters: RestoreSnapshotParameters) -> bool | None:
        """Nothing differs from the snapshot."""
        return not _differences(work, _snapshot(work.context, parameters), parameters)


def _snapshot(context: Context, parameters: RestoreSnapshotParameters) -> Snapshot:
    if parameters.snapshot is not None:
        return parameters.snapshot
    for step in reversed(context.finished_steps()):
        if step.function == TakeSnapshot.name and step.result.get("asked") == parameters.account:
            return Snapshot.model_validate(step.result["snapshot"])
    raise UsageError("this run has no step ad.snapshot of that account: give the snapshot")


def _parts(
    snapshot: Snapshot, parameters: RestoreSnapshotParameters
) -> Sequence[tuple[str, Callable[[Work], None]]]:  # fmt: skip
    """What is put back, in this order: the account is enabled last, when it has what it needs."""
    return [
        ("ou", lambda work: _restore_parent(work, snapshot)),
        ("attributes", lambda work: _restore_attributes(work, snapshot)),
        *((f"group {g.dn}", lambda work, g=g: _join(work, g)) for g in snapshot.groups),
        *((f"direct report {r.dn}", lambda work, r=r: _report(work, r)) for r in snapshot.direct_reports),
        *([("enabled", _enable)] if snapshot.enabled and parameters.enable else []),
    ]


def _differences(work: Work, snapshot: Snapshot, parameters: RestoreSnapshotParameters) -> set[str]:
    """The parts that are not as in the snapshot."""
    work = Work(work.context, work.directory, work.now(), work.asked)
    account, now = work.account, taken(work)
    groups_now, reports_now = {g.guid for g in now.groups}, {r.guid for r in now.direct_reports}
    return {
        *(["ou"] if now.parent.guid != snapshot.parent.guid else []),
        *(["attributes"] if _attribute_changes(work, account, snapshot) else []),
        *(f"group {g.dn}" for g in snapshot.groups if g.guid not in groups_now),
        *(f"direct report {r.dn}" for r in snapshot.direct_reports if r.guid not in reports_now),
        *(["enabled"] if snapshot.enabled and parameters.enable and account.disabled else []),
    }


def _restore_parent(work: Work, snapshot: Snapshot) -> None:
    parent = the_ou(work.directory, str(snapshot.parent.guid))
    if not stands_in(work.directory, work.account, parent):
        move(work, parent)


def _restore_attributes(work: Work, snapshot: Snapshot) -> None:
    changes = _attribute_changes(work, work.account, snapshot)
    if changes:
        work.sent(lambda: work.directory.modify(work.account.reference, changes))


def _attribute_changes(work: Work, account: Account, snapshot: Snapshot) -> list[Change]:
    manager = work.directory.read(guid_dn(snapshot.manager.guid), ("objectGUID",)) if snapshot.manager else None
    wanted = {
        "accountExpires": str(snapshot.account_expires),
        "description": snapshot.description,
        "manager": manager.dn if manager else None,
    }
    found: list[Change] = []
    for name, value in wanted.items():
        if account.entry.text(name) != value:
            found.append(Change("replace", name, () if value is None else (value,)))
    if account.entry.flag(HIDDEN) and not snapshot.hidden:
        found.append(Change("replace", HIDDEN))
    return found


def _own(work: Work, named: Named) -> None:
    """Raises StepError for an object that does not stand where the client's things do."""
    condition = f"(objectGUID={escape_filter(named.guid.bytes_le)})"
    if not work.directory.search(work.directory.base, condition, ("objectGUID",), limit=1):
        raise StepError(
            f"there is no {named.dn} ({named.guid}) below {work.directory.base}", type=INTEGRATION_ERROR,
            code="not_found", remediation="It was deleted or moved: restore it by hand.",
        )  # fmt: skip


def _join(work: Work, group: Named) -> None:
    _own(work, group)
    account = work.now()
    if any(g.guid == group.guid for g in groups.memberships(work.directory, account)):
        return
    work.sent(lambda: work.directory.modify(guid_dn(group.guid), [Change("add", "member", (account.dn,))]))


def _report(work: Work, report: Named) -> None:
    _own(work, report)
    account = work.now()
    work.sent(lambda: work.directory.modify(guid_dn(report.guid), [Change("replace", "manager", (account.dn,))]))


def _enable(work: Work) -> None:
    account = work.now()
    if account.disabled:
        change = Change("replace", "userAccountControl", (str(account.control & ~DISABLED),))
        work.sent(lambda: work.directory.modify(account.reference, [change]))


def _differs(left: set[str]) -> StepError:
    return StepError(
        f"not as the snapshot has it: {', '.join(sorted(left))}", type=INTEGRATION_ERROR, code="unverified",
        remediation="Look at the account, then retry.",
    )  # fmt: skip
