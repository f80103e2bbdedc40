"""Preflight: one report about an offboarding before anything changes, from the records and from the systems it would use.

It only asks. Nothing is stored, nothing is planned, and the systems are sent questions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import SecretStr, ValidationError
from sqlmodel import Session

from agent.errors import Conflict, ContentError, NotFound, StepError, TransportError, UsageError
from agent.functions import registry
from agent.functions.base import BodyResult, Finding, FinishedStep, Function
from agent.installation import Installation
from agent.inventory.contacts import equipment_of, find_person, manager_address, not_there
from agent.inventory.lookup import find, get, place_id
from agent.model.base import new_id, utcnow
from agent.model.places import Client, Contact
from agent.running.context import TargetContext
from agent.running.drafting import DraftStep
from agent.running.input_layers import Resolved
from agent.running.planning import draft_plan
from agent.running.requests import PlanOrigin, RunRequest
from agent.running.user_inputs import Asked, pending, resolve
from agent.running.user_offboardings import DELETION, WRAPPER, Request, check

T = TypeVar("T")
INPUTS_SUBJECT, CONTACT, SCRIPTS, PLAN = "inputs", "contact", "child scripts", "plan"
_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Preflight:
    """What was found about one person, errors first."""

    person: str
    email: str
    client: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings say that the offboarding will not go through as it is."""
        return sum(f.severity == "error" for f in self.findings)


class LookingAhead(TargetContext):
    """Implements agent.functions.base.PreflightContext: the client's credentials, and no way to change or keep anything."""

    def __init__(self, installation: Installation, contact: Contact, plan: Mapping[str, Any], actor: str) -> None:
        super().__init__(installation, "contact", place_id(contact), contact.client_id)
        # The services' logs name the run; this one is not stored.
        self.run_id = self.root_id = self.step_id = f"preflight-{new_id()}"
        self.step_name, self.root_script, self.started_by, self.plan = "Preflight", WRAPPER, actor, plan
        self._answers: dict[tuple[str, ...], object] = {}

    def once(self, key: tuple[str, ...], ask: Callable[[], T]) -> T:
        """See PreflightContext.once."""
        if key not in self._answers:
            try:
                self._answers[key] = ask()
            except (StepError, TransportError) as error:
                self._answers[key] = error
        answer = self._answers[key]
        if isinstance(answer, StepError | TransportError):
            raise answer
        return cast(T, answer)

    def run_body(
        self, script: str, parameters: Mapping[str, Any], *, body: str = "body", secrets: Mapping[str, str] | None = None,
        time_limit: float | None = None,
    ) -> BodyResult:  # fmt: skip
        """Refused: a body may change something."""
        raise Conflict(f"a preflight runs no body, not even one of {script!r}")

    def finished_steps(self) -> list[FinishedStep]:
        """None."""
        return []

    def state(self, variable: str) -> str | None:
        """Nothing is kept for a run that there is not."""
        return None

    def set_state(self, variable: str, value: str) -> None:
        """Refused: nothing is kept."""
        raise Conflict(f"a preflight keeps no state, and so no {variable!r}")


def preflight(installation: Installation, request: Request, *, actor: str) -> Preflight:
    """Look at everything that the offboarding of one person would need. Changes nothing.

    Raises NotFound or Conflict when the person or the client is not known or not unique; all else is a finding.
    """
    with installation.database.reading() as session:
        client = find(session, Client, request.client) if request.client else None
        contact = find_person(session, place_id(client) if client else None, request.person)
        client = get(session, Client, contact.client_id)
        found, resolved = _inputs(session, request, contact, actor)
        found += _record(session, contact, resolved)
    found += _children(installation, client.slug)
    if resolved is not None:
        found += _plan(installation, contact, resolved, actor)
    unique = dict.fromkeys(found)
    return Preflight(contact.name, contact.email, client.slug, tuple(sorted(unique, key=lambda f: _ORDER[f.severity])))


def _inputs(session: Session, request: Request, contact: Contact, actor: str) -> tuple[list[Finding], Resolved | None]:
    """The inputs, and what is wrong with them. None when no inputs can be made of what was given."""
    try:
        checked = check(session, request, actor=actor)
    except UsageError as error:
        found = [Finding("error", INPUTS_SUBJECT, str(error))]
    else:
        return [Finding("warning", INPUTS_SUBJECT, w) for w in checked.resolved.warnings], checked.resolved
    given = dict(request.given or {})
    day = (request.at or "")[:10] or contact.termination_date or utcnow().date().isoformat()
    try:
        # As the monitor would take them, so that the rest can be looked at all the same.
        resolved = resolve(session, contact, Asked({"termination_date": day, **given}, request.template, actor))
    except UsageError:
        return found, None
    said = found[0].message
    told = [w for w in resolved.warnings if w.removesuffix(": left out") not in said]
    return [*found, *(Finding("warning", INPUTS_SUBJECT, w) for w in told)], resolved


def _record(session: Session, contact: Contact, resolved: Resolved | None) -> Iterator[Finding]:
    """What the inventory says of the person."""
    manager = (resolved.values.manager_email if resolved else "") or manager_address(session, contact)
    if not manager:
        yield Finding(
            "warning", CONTACT, "no manager is known: nobody takes over the mailbox, groups and equipment",
            "name one: --manager ADDRESS, or set the contact's manager",
        )  # fmt: skip
    elif reason := not_there(session, contact.client_id, {manager}).get(manager):
        yield Finding("error", CONTACT, f"the manager {manager} {reason}", "name somebody else: --manager ADDRESS")
    else:
        yield Finding("info", CONTACT, f"the manager is {manager}")
    if contact.legal_hold:
        yield Finding(
            "warning", CONTACT, "the person is under a legal hold: no account is deleted while it stands",
            "when the hold is lifted: exeunt inventory set --contact ... legal_hold=0",
        )  # fmt: skip
    if contact.is_privileged:
        yield Finding(
            "warning", CONTACT, "the person has administrator rights: the offboarding is held until somebody approves it",
            "exeunt run approve PLAN --reason TEXT, after a security review",
        )  # fmt: skip
    row = pending(session, place_id(contact))
    if row is not None:
        yield Finding("warning", PLAN, f"an offboarding is planned already ({row.id})", "delete it, or give --replace")
    items = [i.name for i in equipment_of(session, contact_id=contact.contact_id) if i.state == "assigned"]
    yield Finding("info", CONTACT, f"equipment to give back: {', '.join(items) or 'none on record'}")


def _children(installation: Installation, slug: str) -> Iterator[Finding]:
    """The client's child scripts for each phase."""
    content = installation.content
    phases = [s.script for s in content.script(WRAPPER, slug).definition.steps if s.script]
    for phase in (*phases, DELETION):
        for step in content.script(phase, slug).definition.steps:
            if not step.children:
                continue
            try:
                chosen = content.children(step.children, slug)
            except ContentError as error:
                yield Finding("error", SCRIPTS, str(error))
            except NotFound as error:
                if step.optional:
                    yield Finding("info", SCRIPTS, f"{step.children}: none is listed")
                else:
                    yield Finding("error" if phase in phases else "warning", SCRIPTS, str(error))
            else:
                names = ", ".join(s.definition.name for s in chosen.scripts)
                yield Finding("info", SCRIPTS, f"{step.children}: {names}; {chosen.reason}")


def _plan(installation: Installation, contact: Contact, resolved: Resolved, actor: str) -> list[Finding]:
    """What the planner and the guardrails say, and what the systems of the planned steps say."""
    request = RunRequest(WRAPPER, "contact", place_id(contact), resolved.parameters(), levels=("planned",))
    draft = draft_plan(installation, [request], PlanOrigin(actor))
    found = [Finding("error", PLAN, f"it cannot be started: {s['reason']}") for s in draft.skipped]
    found += [Finding("error", PLAN, r["reason"]) for r in draft.refusals]
    # That of privileged people is told with the contact.
    found += [Finding("warning", PLAN, h["reason"]) for h in draft.holds if h["guardrail"] != "privileged"]
    found += [Finding("warning", PLAN, w) for w in draft.warnings]
    for drafted in draft.targets:
        steps = [s for s in drafted.run.steps() if s.function and not _is_left_out(s)]
        context = LookingAhead(installation, contact, drafted.run.context, actor)
        found += _systems(context, steps)
    return found


def _is_left_out(step: DraftStep) -> bool:
    return any(condition.get("holds") is False for condition in step.options.get("when", ()))


def _systems(context: LookingAhead, steps: Sequence[DraftStep]) -> Iterator[Finding]:
    for step in steps:
        function: Function[Any] = registry.get(step.function or "")
        subject = function.system or function.name
        yield from _rights(context, function, subject)
        if type(function).preflight is Function.preflight:
            continue
        try:
            yield from function.preflight(context, _parameters(function, step))
        except ValidationError:
            # The planner has refused wrong values, so these are not known yet.
            yield Finding(
                "info",
                subject,
                f"the step {step.name!r} cannot be looked at before the run: its parameters come from it",
            )
        except (StepError, TransportError) as error:
            yield Finding.of(subject, error)


def _rights(context: LookingAhead, function: Function[Any], subject: str) -> list[Finding]:
    """What the function may and may not do with the client's credential; in its own words where that cannot be asked."""
    if function.rights is None:
        return []
    try:
        asked = function.rights_ahead(context)
    except (StepError, TransportError) as error:
        return [Finding.of(subject, error)]
    told = [Finding("info", subject, f"{function.name} needs the right: {function.rights}")]
    return told if asked is None else asked


def _parameters(function: Function[Any], step: DraftStep) -> Any:
    """The step's parameters as far as they are known. Raises ValidationError where one that is needed is not."""
    forms = {n: f for n, f in step.parameters.items() if "deferred" not in f}
    values = {n: SecretStr("***") if "secret" in f else f["value"] for n, f in forms.items()}
    return function.Parameters.model_validate(values)
