"""Guardrails: what is asked before a plan may become runs (DESIGN 5.6, facts 13 and 14).

Three answers are possible: a target is left out, the plan is held until somebody approves it, or the plan is refused.
Each guardrail that refuses has one explicit way round, its name given to `--override` with a reason; it is audited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, select

from agent.errors import GuardrailRefused, UsageError
from agent.inventory.effective import destructive_defaults
from agent.inventory.retention import deletion_refusal
from agent.model.fields import Form
from agent.model.monitors import MonitorStatus
from agent.model.places import Computer, Contact
from agent.running.drafting import DraftedTarget
from agent.running.requests import PlanOrigin
from agent.running.targets import skip
from agent.settings import Settings

#: Guardrails that refuse, with what each of them is about; these names are what `--override` takes.
REFUSING = {
    "default_flag": "the default row of an offboarding flag is set, so every place counts as flagged",
    "whole_fleet": "every computer of the inventory matches",
}
#: Guardrails that hold a plan until it is approved.
HOLDING = {
    "first_run": "the first real run of this monitor is confirmed by a person",
    "approval_required": "the setting EXEUNT_REQUIRE_APPROVAL is on",
    "computers_per_run": "more computers than the monitor's limit",
    "share_of_client": "a larger share of one client's computers than the monitor's limit",
    "share_of_fleet": "a larger share of all computers than the monitor's limit",
    "client_flag": "a whole client is to be offboarded",
    "privileged": "a person with administrator rights is to be offboarded",
}
#: Guardrails on the approval itself.
APPROVING = {"second_person": "the planner wants to approve as many computers as EXEUNT_SECOND_PERSON_FROM, or more"}
#: Opt-ins without which a target is left out: what it is, and the extra field that allows it.
OPT_INS = {"is_server": "Allow Server Offboarding", "is_probe": "Allow Probe Offboarding"}
EXCLUSION = "Exclude From Offboarding"
_COMPUTER_FLAGS = (Form.COMPUTER, Form.LOCATION, Form.CLIENT)
#: A share means nothing among a handful: it is asked from this many computers on.
SHARE_FROM = 4


@dataclass(frozen=True)
class Verdict:
    """What the guardrails say about a draft. `excluded` is keyed by (target kind, target id)."""

    excluded: Mapping[tuple[str, int], Mapping[str, Any]]
    holds: tuple[Mapping[str, str], ...]
    refusals: tuple[Mapping[str, str], ...]
    warnings: tuple[str, ...]


def check_overrides(names: Iterable[str]) -> frozenset[str]:
    """The names, each of which must be a guardrail that can be overridden. Raises UsageError for any other."""
    given = frozenset(names)
    unknown = sorted(given - set(REFUSING))
    if unknown:
        raise UsageError(
            f"no guardrail {unknown[0]!r} can be overridden; those that can: {', '.join(sorted(REFUSING))}"
        )
    return given


def refuse(refusals: Sequence[Mapping[str, str]]) -> None:
    """Raises GuardrailRefused for the first refusal."""
    for refusal in refusals:
        raise GuardrailRefused(refusal["reason"], guardrail=refusal["guardrail"])


def ask(session: Session, settings: Settings, targets: Sequence[DraftedTarget], origin: PlanOrigin) -> Verdict:
    """Ask all guardrails about the drafted targets. Only offboardings (exclusive scripts) are guarded by number."""
    excluded = {k: v for t in targets if (v := _left_out(session, t)) for k in [(t.target.kind, t.target.id)]}
    going = [t for t in targets if (t.target.kind, t.target.id) not in excluded and t.run.script.definition.exclusive]
    holds: list[dict[str, str]] = []
    refusals: list[dict[str, str]] = []
    warnings = [
        f"the flag Offboard {level.capitalize()} stays set: a computer added there later would be offboarded too"
        for level in ("client", "location")
        if any(level in t.request.levels for t in going if t.target.kind == "computer")
    ]
    if going and origin.monitor is not None:
        refusals = [r for r in _refusals(session, going) if r["guardrail"] not in origin.overrides]
        holds = list(_holds(session, settings, going, origin))
    holds += _privileged(going)
    return Verdict(excluded, tuple(holds), tuple(refusals), tuple(warnings))


def _left_out(session: Session, drafted: DraftedTarget) -> dict[str, Any] | None:
    """Why a target is left out, or None. Offboardings and deletions ask."""
    target, fields, reason = drafted.target, drafted.fields, None
    definition = drafted.run.script.definition
    deletes = definition.deletes_account or any(s.options.get("deletes_account") for s in drafted.run.steps())
    if target.kind == "contact" and deletes:
        refusal = deletion_refusal(session, target.id)
        if refusal is not None:
            return skip(target, f"its account must not be deleted ({refusal.code}): {refusal.reason}")
    if not definition.exclusive:
        return None
    if fields.is_set_anywhere(EXCLUSION):
        reason = f"excluded: the extra field {EXCLUSION!r} is set"
    computer = target.places.get("computer")
    for attribute, allowing in OPT_INS.items() if computer is not None else ():
        assert computer is not None
        if computer[attribute] and not fields.is_set(allowing):
            kind = attribute.removeprefix("is_")
            reason = f"it is a {kind}: set the extra field {allowing!r} to offboard it"
    return skip(target, reason) if reason else None


def _privileged(going: Sequence[DraftedTarget]) -> list[dict[str, str]]:
    """Administrators are offboarded after somebody has looked: also when a person starts it by hand."""
    names = [t.target.name for t in going if (t.target.places.get("contact") or {}).get("is_privileged")]
    reason = f"{', '.join(map(repr, names[:5]))} {'holds' if len(names) == 1 else 'hold'} administrator rights"
    return [{"guardrail": "privileged", "reason": f"{reason}: a security review is due"}] if names else []


def _by_number(going: Sequence[DraftedTarget]) -> list[DraftedTarget]:
    """Targets whose number can be a mistake: those that a flag or an import set off.

    A planned offboarding of a person was asked for one by one, and confirmed then.
    """
    return [t for t in going if "planned" not in t.request.levels]


def _refusals(session: Session, going: Sequence[DraftedTarget]) -> list[dict[str, str]]:
    found = []
    kind = going[0].target.kind
    flagged = destructive_defaults(session, (Form.CONTACT,) if kind == "contact" else _COMPUTER_FLAGS)
    by_number = _by_number(going)
    if flagged:
        reason = f"the default row of {', '.join(map(repr, flagged))} is set, which flags every place"
        found.append({"guardrail": "default_flag", "reason": f"{reason}; clear it with `exeunt edf default`"})
    fleet = _fleet(session, kind)
    if len(by_number) >= fleet and not (kind == "contact" and fleet < SHARE_FROM):
        reason = f"{len(by_number)} of {fleet} {kind}s match, which is the whole inventory"
        found.append({"guardrail": "whole_fleet", "reason": reason})
    return found


def _holds(
    session: Session, settings: Settings, going: Sequence[DraftedTarget], origin: PlanOrigin
) -> Iterable[dict[str, str]]:
    status = session.get(MonitorStatus, origin.monitor)
    kind, by_number = going[0].target.kind, _by_number(going)
    if by_number and not origin.confirmed and (status is None or status.confirmed_at is None):
        yield {"guardrail": "first_run", "reason": f"{origin.monitor!r} has never been confirmed by a person"}
    if settings.require_approval:
        yield {"guardrail": "approval_required", "reason": HOLDING["approval_required"]}
    limits, number, fleet = origin.limits, len(by_number), _fleet(session, kind)
    if len(going) > limits.computers_per_run:
        reason = f"{len(going)} {kind}s, the limit is {limits.computers_per_run}"
        yield {"guardrail": "computers_per_run", "reason": reason}
    if number >= SHARE_FROM and number > limits.share_of_fleet * fleet:
        reason = f"{number} of {fleet} {kind}s, the limit is {limits.share_of_fleet:.0%}"
        yield {"guardrail": "share_of_fleet", "reason": reason}
    per_client = Counter(t.target.client_slug for t in by_number)
    by_slug = {t.target.client_slug: t.target.client_id for t in going}
    for slug, count in sorted(per_client.items()):
        total = _fleet(session, kind, by_slug[slug])
        if limits.share_of_client is not None and count >= SHARE_FROM and count > limits.share_of_client * total:
            reason = f"{count} of {total} {kind}s of {slug}, the limit is {limits.share_of_client:.0%}"
            yield {"guardrail": "share_of_client", "reason": reason, "client": slug}
    flagged = sorted({t.target.client_slug for t in going if "client" in t.request.levels})
    for slug in flagged:
        if slug not in origin.confirmed_clients:
            reason = f"the whole client {slug!r} is to be offboarded: confirm it by name a second time"
            yield {"guardrail": "client_flag", "reason": reason, "client": slug}


def _fleet(session: Session, kind: str, client_id: int | None = None) -> int:
    """Number of computers that are not retired, or of people who have not left, of all clients or of one."""
    model: Any = Contact if kind == "contact" else Computer
    query = select(func.count()).select_from(model)
    query = query.where(Contact.status != "Former Employee" if model is Contact else col(Computer.retired_at).is_(None))
    if client_id is not None:
        query = query.where(model.client_id == client_id)
    return session.exec(query).one()
