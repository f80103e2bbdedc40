"""The leaver's licences: direct ones and those by a group, only once the mailbox is safe without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from agent.errors import AnswerLost, StepError
from agent.failure_types import LICENSE_REMOVAL_FAILED
from agent.functions.base import Context, Finding, Outcome, PreflightContext
from agent.functions.microsoft365 import groups
from agent.functions.microsoft365.base import UserFunction, UserParameters, Work, failed_item, judged, text_items
from agent.functions.microsoft365.checks import SYSTEM
from agent.functions.microsoft365.mailboxes import LIMIT_BYTES, SHARED, mailbox_findings, mailbox_state
from agent.inventory.retention import failed_backup
from agent.services.microsoft.errors import ServiceRefused
from agent.services.microsoft.graph import Call, Reply, get, value_of

_USER = "assignedLicenses,licenseAssignmentStates"


class LicenceParameters(UserParameters):
    """What must be so before, and what stays."""

    #: Refuse unless the mailbox is seen as shared (or there is none), fits, and is under no hold.
    after_conversion: bool = True
    #: Part numbers (`VISIOCLIENT`) or ids of licences that stay, divided by semicolons.
    keep: Annotated[tuple[str, ...], BeforeValidator(text_items)] = ()


@dataclass(frozen=True)
class _Seen:
    """Licences and where they come from: sku id -> group ids, None for a direct one."""

    origins: Mapping[str, frozenset[str | None]]
    skus: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Mapping[str, Any]]

    def name(self, sku: str) -> str | None:
        """The name of a sku in the tenant's subscriptions."""
        return self.skus.get(sku, {}).get("skuPartNumber")

    def kept(self, asked: tuple[str, ...]) -> frozenset[str]:
        """The skus that were asked to stay, by part number or id."""
        wanted = {word.casefold() for word in asked}
        return frozenset(s for s in self.origins if {s.casefold(), (self.name(s) or s).casefold()} & wanted)

    def free(self, sku: str) -> int | None:
        """Licences of a sku that nobody has."""
        found = self.skus.get(sku)
        units = (found or {}).get("prepaidUnits") or {}
        return None if not found or "enabled" not in units else units["enabled"] - (found.get("consumedUnits") or 0)


class RemoveLicenses(UserFunction[LicenceParameters]):
    """Takes all licences away. A licence by a group goes when the group is left."""

    name = "m365.remove_licenses"
    summary = "Remove all licences, direct and by groups, once the mailbox is seen as shared; the result names them"
    Parameters = LicenceParameters
    destructive = True
    repeatable = True
    failure_type = LICENSE_REMOVAL_FAILED
    impact = "The licences are still paid for."

    def preview(self, parameters: LicenceParameters) -> str:
        """The calls that would be made."""
        gate = f"Get-Mailbox {parameters.user} must show {SHARED}; then " if parameters.after_conversion else ""
        return (
            f"{gate}leave the groups that assign licences, and POST /users/{parameters.user}/assignLicense with all direct "
            "licences to remove" + (f", but {', '.join(parameters.keep)}" if parameters.keep else "")
        )

    def change(self, work: Work[LicenceParameters]) -> Outcome:
        """Look, leave the groups, take the direct ones, and look again. Raises StepError when it is not safe yet."""
        before = self._look(work)
        kept = before.kept(work.parameters.keep)
        if before.origins.keys() <= kept:
            return Outcome.succeeded(licenses=[self._kept(s, before, kept) for s in sorted(kept)], outcome="already")
        (_require_safe_mailbox if work.parameters.after_conversion else _require_expendable_mailbox)(work)
        staying = {g for sku in kept for g in before.origins[sku]}
        leaving = {g for origin in before.origins.values() for g in origin if g is not None} - staying
        errors = self._leave(work, before, leaving)
        direct = [sku for sku, origin in before.origins.items() if None in origin and sku not in kept]
        refused: Exception | None = None
        if direct:
            body = {"addLicenses": [], "removeLicenses": direct}
            try:
                work.tenant.graph.call(Call("POST", work.path("assignLicense"), body, may_repeat=True))
            except (ServiceRefused, AnswerLost) as error:
                refused = error
        after = self._look(work)
        items = [
            self._kept(sku, before, kept) if sku in kept or staying & origin - {None}
            else self._item(sku, before, after, errors, refused)
            for sku, origin in before.origins.items()
        ]  # fmt: skip
        left = [
            {"id": g, "name": before.groups[g].get("displayName"), "type": groups.kind_of(before.groups[g]),
             "removed": g not in after.groups}
            for g in sorted(leaving & before.groups.keys())
        ]  # fmt: skip
        return judged(items, "licenses", removed=sum(i["removed"] for i in items), groups=left)

    def done(self, work: Work[LicenceParameters]) -> bool:
        """Whether there is none but those that stay."""
        if not work.parameters.keep:
            return not value_of(work.tenant.graph.call(work.get(select=_USER))).get("assignedLicenses")
        seen = self._look(work)
        kept = seen.kept(work.parameters.keep)
        staying = {g for sku in kept for g in seen.origins[sku]} - {None}
        return all(sku in kept or staying & origin for sku, origin in seen.origins.items())

    def preflight(self, context: PreflightContext, parameters: LicenceParameters) -> list[Finding]:
        """The account, and what its mailbox needs a licence for."""
        found = super().preflight(context, parameters)
        if parameters.after_conversion:
            return [*found, *mailbox_findings(context, parameters.user)]
        if _on_legal_hold(context):
            return [
                *found,
                Finding("error", SYSTEM, _HELD, "Convert the mailbox to a shared one, or keep the licences."),
            ]
        mailbox = "the licences are removed without a look at the mailbox: it is deleted 30 days after its last licence"
        return [*found, Finding("warning", SYSTEM, mailbox, "Convert it to a shared one first if it is still needed.")]

    def _look(self, work: Work[LicenceParameters]) -> _Seen:
        skus = get("subscribedSkus", select="skuId,skuPartNumber,prepaidUnits,consumedUnits")
        member = work.get("memberOf", "microsoft.graph.group", select=groups.SELECT, top="999")
        replies: list[Reply] = work.tenant.graph.batch([work.get(select=_USER), skus, member])
        user = value_of(replies[0])
        origins: dict[str, set[str | None]] = {str(e["skuId"]): set() for e in user.get("assignedLicenses") or []}
        for state in user.get("licenseAssignmentStates") or []:
            if str(state.get("skuId")) in origins:
                origins[str(state["skuId"])].add(state.get("assignedByGroup"))
        known = {str(s["skuId"]): s for s in work.tenant.graph.rest(value_of(replies[1]), skus)}
        mine = {str(g["id"]): g for g in work.tenant.graph.rest(value_of(replies[2]), member)}
        # Without a state of its own a licence counts as direct.
        return _Seen({sku: frozenset(o or {None}) for sku, o in origins.items()}, known, mine)

    def _leave(self, work: Work[LicenceParameters], seen: _Seen, leaving: set[str]) -> dict[str, Exception]:
        """Leave the groups that assign licences; errors by group."""
        errors: dict[str, Exception] = {}
        chosen = []
        for group_id in sorted(leaving):
            group = seen.groups.get(group_id)
            if group is None:
                continue
            reason = groups.kept_because({**group, "assignedLicenses": None})
            if reason is None:
                chosen.append(group)
            else:
                errors[group_id] = StepError(
                    f"the group {group.get('displayName')!r} assigns it and cannot be left: {reason}",
                    type=LICENSE_REMOVAL_FAILED, code="licence_group_kept",
                )  # fmt: skip
        return errors | (groups.leave(work, chosen) if chosen else {})

    def _kept(self, sku: str, before: _Seen, asked: frozenset[str]) -> dict[str, Any]:
        by_group = "it comes by the same group as a licence that is to be kept"
        reason = "it is to be kept" if sku in asked else by_group
        return {"sku_id": sku, "name": before.name(sku), "removed": False, "outcome": "kept", "reason": reason}

    def _item(
        self, sku: str, before: _Seen, after: _Seen, errors: Mapping[str, Exception], refused: Exception | None
    ) -> dict[str, Any]:
        by_groups = sorted(g for g in before.origins[sku] if g is not None)
        item: dict[str, Any] = {
            "sku_id": sku, "name": before.name(sku), "direct": None in before.origins[sku], "groups": by_groups,
            "removed": sku not in after.origins, "outcome": "removed", "available_before": before.free(sku),
            "available_after": after.free(sku),
        }  # fmt: skip
        if item["removed"]:
            return item
        error = next((errors[g] for g in by_groups if g in errors), refused if item["direct"] else None)
        if error is not None:
            return {**item, **failed_item(error)}
        reason = "its group was left, and the directory has not taken it away yet: retry after some minutes"
        return {**item, "outcome": "failed", "reason": reason, "code": "licence_pending"}


def _require_safe_mailbox(work: Work[LicenceParameters]) -> None:
    """Raises StepError when taking the licence would take the mailbox, or break a hold."""
    state = mailbox_state(work)
    if state is None:
        return
    if not state.shared:
        raise _unsafe("mailbox_not_shared", "the mailbox is not a shared one yet", "Convert it first, or wait for it.")
    if state.held:
        raise _unsafe(
            "mailbox_on_hold", "the mailbox is under a hold, which needs a licence", "Have the hold lifted first."
        )
    if state.has_archive:
        raise _unsafe(
            "mailbox_has_archive", "the mailbox has an archive, which needs a licence", "Export or disable it."
        )
    if state.size is not None and state.size > LIMIT_BYTES:
        raise _unsafe(
            "mailbox_too_large", "the mailbox holds more than 50 GB, which needs a licence", "Make it smaller."
        )


_HELD = "the person is under a legal hold, and the mailbox is deleted 30 days after its last licence"


def _require_expendable_mailbox(work: Work[LicenceParameters]) -> None:
    """Raises StepError when taking the licence would delete a mailbox that a hold or a failed backup still needs."""
    state = mailbox_state(work)
    if state is None or state.shared:
        return
    if _on_legal_hold(work.context):
        raise _unsafe("legal_hold", _HELD, "Convert the mailbox to a shared one, or wait until the hold is lifted.")
    if state.held:
        raise _unsafe(
            "mailbox_on_hold", "the mailbox is under a hold, and goes with its licence", "Have the hold lifted."
        )
    with work.context.installation.database.reading() as session:
        backup = failed_backup(session, work.context.target_id)
    if backup is not None:
        raise _unsafe("backup_failed", f"the mailbox goes with its licence, and {backup.reason}", backup.remediation)


def _on_legal_hold(context: Context) -> bool:
    return bool((context.places.get("contact") or {}).get("legal_hold"))


def _unsafe(code: str, message: str, remediation: str) -> StepError:
    return StepError(
        f"no licence was removed: {message}", type=LICENSE_REMOVAL_FAILED, code=code,
        impact="The licences are still paid for; the mailbox is safe.", remediation=remediation,
    )  # fmt: skip
