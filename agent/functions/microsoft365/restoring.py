"""`m365.restore_from_snapshot`: the account goes back to its snapshot, part by part, and is asked for again afterwards.

The order is the offboarding's turned round: licences first, since a mailbox needs one; the sign-in last, when the account has
what it needs. A part that is as it was is left alone, so a second run does only what is not back yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from agent.errors import AnswerLost, StepError, UsageError
from agent.failure_types import ACCOUNT_NOT_FOUND, INTEGRATION_ERROR
from agent.functions.base import Context, Finding, Outcome, PreflightContext
from agent.functions.microsoft365 import grants
from agent.functions.microsoft365.base import (
    FIRST_LOOK,
    LOOKS,
    Account,
    UserFunction,
    UserParameters,
    Work,
    account_of,
    find_account,
    settled,
)
from agent.functions.microsoft365.delegation import HASH_TABLE
from agent.functions.microsoft365.deletion import exists, is_deleted, restore_call
from agent.functions.microsoft365.mailboxes import mail
from agent.functions.microsoft365.snapshots import (
    CANNOT,
    Box,
    GroupPlace,
    Licence,
    Named,
    Role,
    Snapshot,
    TakeSnapshot,
    taken,
)
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, get, path_of
from agent.services.microsoft.tenant import Tenant
from agent.services.rest import waiting

#: An address that Exchange gives for a type of mailbox, and what Set-Mailbox calls it.
_TYPES = {"UserMailbox": "Regular", "SharedMailbox": "Shared", "RoomMailbox": "Room", "EquipmentMailbox": "Equipment"}
#: Of automaticRepliesSetting what is set again.
_REPLIES = (
    "status", "externalAudience", "internalReplyMessage", "externalReplyMessage", "scheduledStartDateTime",
    "scheduledEndDateTime",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One thing that is put back. Both are given the account as it is now."""

    name: str
    same: Callable[[Work[Any], Snapshot], bool]
    restore: Callable[[Work[Any], Snapshot], None]


def parts_of(then: Snapshot, *, enable: bool) -> Iterator[Part]:
    """Everything that a snapshot holds, in the order in which it is put back."""
    yield from (_licence(x) for x in then.licences)
    yield from (_group(x) for x in then.groups)
    yield from _box_parts(then)
    yield from (_grant(x) for x in then.grants)
    if then.manager:
        yield _manager(then.manager.id)
    yield from (_report(x) for x in then.direct_reports)
    if then.display_name:
        body = {"displayName": then.display_name}
        yield Part(
            "display name",
            lambda work, now: now.display_name == then.display_name,
            lambda work, now: _patch(work, body),
        )
    if then.immutable_id:
        mark = {"onPremisesImmutableId": then.immutable_id}
        yield Part(
            "immutable id",
            lambda work, now: now.immutable_id == then.immutable_id,
            lambda work, now: _patch(work, mark),
        )
    yield from (_role_part(x) for x in then.roles)
    if then.enabled and enable:
        yield Part("sign-in", lambda work, now: now.enabled, lambda work, now: _patch(work, {"accountEnabled": True}))


def _licence(licence: Licence) -> Part:
    return Part(
        f"licence {licence.sku}", lambda work, now: licence.sku in {x.sku for x in now.licences},
        lambda work, now: _assign(work, licence),
    )  # fmt: skip


def _group(group: GroupPlace) -> Part:
    name = f"group {group.name} ({group.id})"
    return Part(name, lambda work, now: _in_group(group, now), lambda work, now: _join(work, group, now))


def _grant(grant: grants.Grant) -> Part:
    return Part(
        grant.part, lambda work, now: grants.stands(work, grant), lambda work, now: grants.restore(work, grant)
    )  # fmt: skip


def _manager(manager: str) -> Part:
    return Part(
        "manager", lambda work, now: now.manager is not None and now.manager.id == manager,
        lambda work, now: _manage(work, work.user.id, manager),
    )  # fmt: skip


def _report(report: Named) -> Part:
    return Part(
        f"direct report {report.name}", lambda work, now: report.id in {x.id for x in now.direct_reports},
        lambda work, now: _manage(work, report.id, work.user.id),
    )  # fmt: skip


def _role_part(role: Role) -> Part:
    key = (role.definition, role.scope)
    return Part(
        f"role {role.name} on {role.scope}", lambda work, now: key in {(x.definition, x.scope) for x in now.roles},
        lambda work, now: _role(work, *key),
    )  # fmt: skip


def _box_parts(then: Snapshot) -> Iterator[Part]:
    box = then.mailbox
    if box is None:
        return
    kind, hidden, ways = box.type, box.hidden, _forwards(box)
    yield Part(
        "mailbox type", lambda work, now: _of(now).type == kind,
        lambda work, now: _set(work, Type=_TYPES.get(kind, "Regular")),
    )  # fmt: skip
    yield Part(
        "address lists", lambda work, now: _of(now).hidden == hidden,
        lambda work, now: _set(work, HiddenFromAddressListsEnabled=hidden),
    )  # fmt: skip
    yield Part(
        "forwarding", lambda work, now: _forwards(_of(now)) == ways,
        lambda work, now: _set(
            work, ForwardingAddress=ways[0], ForwardingSmtpAddress=ways[1], DeliverToMailboxAndForward=ways[2]
        ),
    )  # fmt: skip
    yield from (_delegates(name, set(getattr(box, name))) for name in ("full_access", "send_as", "on_behalf"))
    if box.replies is not None:
        replies = {name: box.replies[name] for name in _REPLIES if box.replies.get(name) is not None}
        yield Part(
            "out of office", lambda work, now: _answers(_of(now).replies, replies),
            lambda work, now: _call(work, "PATCH", work.path("mailboxSettings"), {"automaticRepliesSetting": replies}),
        )  # fmt: skip


def _delegates(right: str, then: set[str]) -> Part:
    return Part(
        f"delegates ({right.replace('_', ' ')})", lambda work, now: set(getattr(_of(now), right)) == then,
        lambda work, now: _delegate(work, right, set(getattr(_of(now), right)), then),
    )  # fmt: skip


def _forwards(box: Box) -> tuple[str | None, str | None, bool]:
    return box.forwarding, box.forwarding_smtp, box.deliver


def _of(now: Snapshot) -> Box:
    """Raises StepError when there is no mailbox any more."""
    if now.mailbox is None:
        raise StepError(
            "the account has no mailbox", type=ACCOUNT_NOT_FOUND, code="no_mailbox",
            remediation="Give it a licence with Exchange; a mailbox that was deleted is kept for 30 days. Then retry the run.",
        )  # fmt: skip
    return now.mailbox


def _answers(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether the mailbox answers as it did. A message counts only where one is sent."""
    if (found or {}).get("status") != wanted.get("status"):
        return False
    said = ("internalReplyMessage", "externalReplyMessage") if wanted.get("status") != "disabled" else ()
    return all(" ".join(str((found or {}).get(n)).split()) == " ".join(str(wanted.get(n)).split()) for n in said)


def _call(work: Work[Any], method: str, path: str, body: Mapping[str, Any] | None = None) -> None:
    """Make it so. That it is so already is no error."""
    try:
        work.tenant.graph.call(Call(method, path, body, may_repeat=True))
    except ServiceRefused as error:
        if error.status not in (400, 409) or "already exist" not in str(error).lower():
            raise


def _patch(work: Work[Any], body: Mapping[str, Any]) -> None:
    _call(work, "PATCH", work.path(), body)


def _set(work: Work[Any], **values: Any) -> None:
    work.tenant.mail.invoke(mail(work, "Set-Mailbox", Identity=work.user.id, **values))


def _assign(work: Work[Any], licence: Licence) -> None:
    added = {"skuId": licence.sku, "disabledPlans": list(licence.disabled_plans)}
    body = {"addLicenses": [added], "removeLicenses": []}
    _call(work, "POST", work.path("assignLicense"), body)


def _in_group(group: GroupPlace, now: Snapshot) -> bool:
    found = next((g for g in now.groups if g.id == group.id), None)
    return found is not None and (found.member or not group.member) and (found.owner or not group.owner)


def _join(work: Work[Any], group: GroupPlace, now: Snapshot) -> None:
    found = next((g for g in now.groups if g.id == group.id), None)
    if group.owner and not (found and found.owner):
        body = work.tenant.graph.reference("users", work.user.id)
        _call(work, "POST", path_of("groups", group.id, "owners", "$ref"), body)
    if not group.member or (found and found.member):
        return
    if group.by_exchange:
        add = mail(
            work, "Add-DistributionGroupMember", Identity=group.id, Member=work.user.id,
            BypassSecurityGroupManagerCheck=True, Confirm=False,
        )  # fmt: skip
        work.tenant.mail.invoke(add)
    else:
        body = work.tenant.graph.reference("directoryObjects", work.user.id)
        _call(work, "POST", path_of("groups", group.id, "members", "$ref"), body)


def _manage(work: Work[Any], whose: str, manager: str) -> None:
    body = work.tenant.graph.reference("users", manager)
    _call(work, "PUT", path_of("users", whose, "manager", "$ref"), body)


def _role(work: Work[Any], definition: str, scope: str) -> None:
    body = {"principalId": work.user.id, "roleDefinitionId": definition, "directoryScopeId": scope}
    _call(work, "POST", path_of("roleManagement", "directory", "roleAssignments"), body)


def _delegate(work: Work[Any], right: str, now: set[str], then: set[str]) -> None:
    """Whoever had it has it, and nobody else: it is the mailbox of somebody who stays."""
    for who in sorted(then - now):
        work.tenant.mail.invoke(_delegation(work, right, who, add=True))
    for who in sorted(now - then):
        work.tenant.mail.invoke(_delegation(work, right, who, add=False))


def _delegation(work: Work[Any], right: str, who: str, *, add: bool) -> Any:
    box, verb = work.user.id, "Add" if add else "Remove"
    if right == "on_behalf":
        change = {"@odata.type": HASH_TABLE, "add" if add else "remove": who}
        return mail(work, "Set-Mailbox", Identity=box, GrantSendOnBehalfTo=change)
    if right == "send_as":
        return mail(
            work, f"{verb}-RecipientPermission", Identity=box, Trustee=who, AccessRights=["SendAs"], Confirm=False
        )  # fmt: skip
    more: dict[str, Any] = {"AutoMapping": True, "InheritanceType": "All"} if add else {}
    return mail(
        work, f"{verb}-MailboxPermission", Identity=box, User=who, AccessRights=["FullAccess"], Confirm=False, **more
    )


def _from_text(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class RestoreParameters(UserParameters):
    """What to put back."""

    #: The result `snapshot` of m365.snapshot, also as JSON text; left out: that of this run's own m365.snapshot.
    snapshot: Annotated[Snapshot | None, BeforeValidator(_from_text)] = None
    #: Enable the account again, if it was enabled.
    enable: bool = True


class RestoreFromSnapshot(UserFunction[RestoreParameters]):
    """Puts the account back as a snapshot has it, part by part, and says of each what became of it."""

    name = "m365.restore_from_snapshot"
    summary = "Put the Microsoft 365 account back as its snapshot has it; the result names what cannot be"
    Parameters = RestoreParameters
    repeatable = True
    impact = "The account is not as it was."

    def preview(self, parameters: RestoreParameters) -> str:
        """What would be done."""
        return (
            f"PATCH /users/{parameters.user} and what belongs to it back to the snapshot, in this order: licences, groups, "
            "mailbox, rights elsewhere, manager, name, roles, sign-in"
        )

    def account(self, tenant: Tenant, context: Context, parameters: RestoreParameters) -> Account:
        """The account by its object id, be it there or deleted. Raises StepError."""
        snapshot = _snapshot(context, parameters)
        if tenant.id != snapshot.tenant:
            raise StepError(
                f"the snapshot is of the tenant {snapshot.tenant}, and the client's credential is for {tenant.id}",
                type=INTEGRATION_ERROR, code="other_tenant", remediation="Check the client's credential.",
            )  # fmt: skip
        try:
            return find_account(tenant, snapshot.object_id)
        except StepError as error:
            if error.type != ACCOUNT_NOT_FOUND or not is_deleted(tenant, snapshot.object_id):
                raise
        return account_of(tenant.graph.call(get("directory", "deletedItems", snapshot.object_id)))

    def preflight(self, context: PreflightContext, parameters: RestoreParameters) -> list[Finding]:
        """The account may be among the deleted ones: nothing is asked."""
        return []

    def change(self, work: Work[RestoreParameters]) -> Outcome:
        """Part by part: one that is refused does not keep the others from being restored."""
        snapshot = _snapshot(work.context, work.parameters)
        if is_deleted(work.tenant, work.user.id):
            work.tenant.graph.call(restore_call(work.user.id))
            settled(lambda: exists(work.tenant, work.user.id), lambda there: there)
        rows: list[dict[str, Any]] = []
        errors: list[StepError] = []
        now = taken(work)
        for part in parts_of(snapshot, enable=work.parameters.enable):
            row: dict[str, Any] = {"part": part.name, "restored": True}
            try:
                if not part.same(work, now):
                    part.restore(work, now)
                    row["changed"] = True
            except (StepError, AnswerLost) as error:
                said = error.typed if isinstance(error, AnswerLost) else error
                errors.extend([said] if isinstance(said, StepError) else [])
                row.update(restored=False, reason=str(error))
            rows.append(row)
        left = self._left(work, snapshot, rows)
        result = {"restored": rows, "cannot_be_restored": list(CANNOT)}
        if not left:
            return Outcome.succeeded(**result)
        failure = errors[0] if errors else StepError(
            f"not as the snapshot has it: {', '.join(left)}", type=INTEGRATION_ERROR, code="not_confirmed",
            remediation="Look at the account, then retry the run: only what is not back is done again.",
        )  # fmt: skip
        return Outcome.failed(failure, **result)

    def _left(self, work: Work[RestoreParameters], snapshot: Snapshot, rows: list[dict[str, Any]]) -> list[str]:
        """Parts that are not back, asked for again until they are or it takes too long; marks their rows."""
        left: list[str] = []
        for look in range(LOOKS):
            now = taken(work)
            left = []
            for part in parts_of(snapshot, enable=work.parameters.enable):
                try:
                    left.extend([] if part.same(work, now) else [part.name])
                except StepError:
                    left.append(part.name)
            refused = {row["part"] for row in rows if not row["restored"]}
            if not set(left) - refused or look == LOOKS - 1:
                break
            waiting.pause(FIRST_LOOK * 2**look)
        for row in rows:
            if row["part"] in left and row["restored"]:
                row.update(restored=False, reason="it is not as the snapshot has it")
            elif row["part"] not in left and not row["restored"]:
                # Its answer was lost, and asking says that it was done.
                row.update(restored=True, changed=True)
                row.pop("reason", None)
        return left

    def done(self, work: Work[RestoreParameters]) -> bool:
        """Nothing differs from the snapshot."""
        if is_deleted(work.tenant, work.user.id):
            return False
        now = taken(work)
        parts = parts_of(_snapshot(work.context, work.parameters), enable=work.parameters.enable)
        return all(part.same(work, now) for part in parts)


def _snapshot(context: Context, parameters: RestoreParameters) -> Snapshot:
    if parameters.snapshot is not None:
        return parameters.snapshot
    for step in context.finished_steps():
        user = step.result.get("user") or {}
        if step.function == TakeSnapshot.name and user.get("asked") == parameters.user and step.result.get("snapshot"):
            return Snapshot.model_validate(step.result["snapshot"])
    raise UsageError("this run has no step m365.snapshot of that account: give the snapshot")
