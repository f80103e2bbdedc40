"""One attempt at one step: call the function or run the body, verify, and say exactly what is known afterwards."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import SecretStr, ValidationError

from agent.content.references import Reference, resolve
from agent.errors import (
    AccessDenied,
    AnswerLost,
    CannotConnect,
    ClientMismatch,
    ExeuntError,
    StepError,
    StoreError,
    TimeLimitReached,
    TransportError,
    UsageError,
)
from agent.failure_types import MANAGER_NOT_FOUND, PERMISSION_DENIED
from agent.functions import registry
from agent.functions.base import BodyResult, Function, Outcome, Parameters
from agent.model.runs import RunStep, StepState
from agent.running.answers import REBOOT_CODES, state_in
from agent.running.context import RunContext
from agent.running.scope import StoredForm, reference_key
from agent.transports.masking import mask

log = structlog.get_logger()
#: A machine that cannot be reached was not changed: so often is that tried, where the script says nothing else.
UNREACHABLE_RETRIES = {"attempts": 3, "wait": 5.0, "backoff": 3.0}
#: What no repetition mends: somebody must give a right, a setting or a value first.
_PERMANENT = frozenset({
    PERMISSION_DENIED, MANAGER_NOT_FOUND, "invalid_parameters", "missing_credential", "missing_value",
    "no_body_for_platform", "wrong_target",
})  # fmt: skip
Verdict = bool | None


@dataclass(frozen=True)
class Attempt:
    """What an attempt came to. `retry_in`: seconds until the next one, None when there will be none."""

    outcome: Outcome
    retry_in: float | None = None


def attempt(context: RunContext, step: RunStep, *, interrupted: bool, earlier: RunStep | None = None) -> Attempt:
    """Make an attempt. `interrupted`: the step was under way when its worker ended, so it may have been done.

    `earlier`: the step of another run that did the same; what still is so is not done again.

    Never raises but for errors of the database: those end the segment and leave the step to be taken up again.
    """
    lost = Outcome.unknown if interrupted else Outcome.failed
    try:
        act, verify = _prepare(context, step)
        if interrupted and step.options.get("on_target"):
            context.end_leftovers()
        settled = _before_again(step, verify, interrupted) or _still_so(step, verify, earlier)
        outcome = settled or _settle(act, verify)
    except CannotConnect as error:
        retries = step.options.get("retries") or UNREACHABLE_RETRIES
        wait = None if error.permanent else _delay(step, retries)
        return Attempt(lost(_typed(error), interrupted=interrupted), wait)
    except StepError as error:
        outcome = Outcome.failed(error)
    except ClientMismatch as error:
        return Attempt(Outcome.failed(_typed(error)))
    except StoreError:
        raise
    except ExeuntError as error:
        return Attempt(lost(_typed(error)))
    except Exception as error:  # noqa: BLE001  the one broad except: a function of somebody else's may raise anything
        # Its own words may hold a secret that the step was given, such as an address with a token in it.
        told = mask("".join(traceback.format_exception(error)), context.machine.masks)
        log.error("step_raised", step=step.id, function=step.function, error=type(error).__name__, traceback=told)
        kind = Outcome.unknown if step.options.get("destructive") else Outcome.failed
        message = f"the function raised {type(error).__name__}; see the worker's log"
        return Attempt(kind(StepError(message, type="internal_error", critical=True)))
    permanent = outcome.error is not None and outcome.error.type in _PERMANENT
    if outcome.state is StepState.FAILED and step.options.get("retries") and not permanent:
        return Attempt(outcome, _delay(step, step.options["retries"]))
    return Attempt(outcome)


def _before_again(step: RunStep, verify: Callable[[], Verdict], interrupted: bool) -> Outcome | None:
    """What destructive work is asked before it is done a second time; None: go on and do it (DESIGN 5.1, 5.3)."""
    repeatable = bool(step.options.get("repeatable"))
    verdict: Verdict = None
    if step.attempts <= 1 and not interrupted:
        return None
    if step.options.get("destructive"):
        try:
            verdict = verify()
        except (AnswerLost, TimeLimitReached):
            verdict = None
        if verdict is True:
            return Outcome.succeeded(verified_before_repeating=True)
    return None if repeatable or not interrupted else Outcome.unknown(_interrupted(verdict))


def _still_so(step: RunStep, verify: Callable[[], Verdict], earlier: RunStep | None) -> Outcome | None:
    """The result of an earlier run's step, if what it did is verified to be so now; None: do it."""
    result = dict(earlier.result or {}) if earlier is not None else {}
    if earlier is None:
        return None
    if earlier.finished_at is not None:
        # Reports tell when it was done, not when it was found done.
        result = {"done_at": earlier.finished_at.isoformat(), **result}
    if not step.options.get("destructive"):
        # A snapshot taken now would show what the earlier run made of the account, and a rollback would restore that.
        return Outcome.succeeded(**{**result, "done_by": earlier.root_id}) if result.get("snapshot") else None
    try:
        verdict = verify()
    except (TransportError, StepError):
        verdict = None
    if verdict is not True:
        return None
    return Outcome.succeeded(**{**result, "done_by": earlier.root_id, "verified_before_repeating": True})


def _prepare(context: RunContext, step: RunStep) -> tuple[Callable[[], Outcome], Callable[[], Verdict]]:
    values = _values(context, step.parameters)
    if step.function is not None:
        function: Function[Any] = registry.get(step.function)
        parameters = _validated(function, values)
        return lambda: function.do(context, parameters), lambda: function.verify(context, parameters)
    plain = {n: v for n, v in values.items() if not isinstance(v, SecretStr)}
    secrets = {n: v.get_secret_value() for n, v in values.items() if isinstance(v, SecretStr)}
    script = next(iter(step.options["revisions"]))
    return (
        lambda: _run_body(context, step, script, plain, secrets),
        lambda: _verify_body(context, step, script, plain, secrets),
    )


def _validated(function: Function[Any], values: Mapping[str, Any]) -> Parameters:
    try:
        return function.Parameters.model_validate(values)
    except ValidationError as error:
        # Only places and reasons: the values may hold what must not be shown.
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StepError(f"{function.name}: {faults}", type="invalid_parameters") from None


def _values(context: RunContext, forms: Mapping[str, StoredForm]) -> dict[str, Any]:
    """The values of stored parameters; secrets are opened here and nowhere else."""
    values: dict[str, Any] = {}
    for name, form in forms.items():
        if "secret" in form:
            values[name] = SecretStr(context.secret(form["secret"]))
        elif "deferred" in form:
            known = form["known"]
            values[name] = resolve(form["deferred"], lambda r, known=known: _late(context, known, r))  # type: ignore[misc]
        else:
            values[name] = form["value"]
    return values


def _late(context: RunContext, known: Mapping[str, Any], reference: Reference) -> object:
    """The value of a reference while the run is under way."""
    if reference_key(reference) in known:
        return known[reference_key(reference)]
    if reference.kind == "person":
        return context.person_value(reference.name)
    if reference.kind == "list":
        return context.tree.lists()[reference.name.lower()]
    if reference.kind == "state":
        kept = context.state(reference.name)
        return reference.key if kept is None else kept
    for step in reversed(context.finished_steps()):
        if step.name == reference.name:
            value: object = step.result.get(reference.key or "")
            if value is None:
                raise UsageError(f"the step {reference.name!r} has no result {reference.key!r}")
            return value
    raise UsageError(f"the step {reference.name!r} has not run")


def _settle(act: Callable[[], Outcome], verify: Callable[[], Verdict]) -> Outcome:
    """Act; when the answer was lost or the time limit ended it, let `verify` tell what is so."""
    try:
        return act()
    except (TimeLimitReached, AnswerLost) as error:
        lost = _typed(error)
    try:
        verdict = verify()
    except (TransportError, StepError):
        verdict = None
    if verdict is True:
        return Outcome.succeeded(verified_after=lost.type)
    return Outcome.failed(lost) if verdict is False else Outcome.unknown(lost)


def _run_body(
    context: RunContext, step: RunStep, script: str, plain: Mapping[str, Any], secrets: Mapping[str, str]
) -> Outcome:
    answered = context.run_body(script, plain, secrets=secrets)
    code, answer = answered.execution.exit_code, dict(answered.answer or {})
    for variable, value in state_in(answer).items():
        context.set_state(variable, value)
    reboot = code in REBOOT_CODES
    if code != 0 and not reboot:
        message = f"the body ended with exit code {code}" + _last_words(answered)
        return Outcome.failed(StepError(message, type="exit_code", code=str(code)), exit_code=code, **_named(answer))
    if step.options.get("verify"):
        verdict = _verify_body(context, step, script, plain, secrets)
        if verdict is None:
            return Outcome.unknown(
                StepError("it ran, and its verification could not tell whether it worked", type="unverified"),
                **_named(answer),
            )
        if verdict is False:
            if reboot:
                return Outcome.reboot_needed(exit_code=code, **_named(answer))
            return Outcome.failed(
                StepError("it ran without an error, and its verification says that it did not work", type="unverified"),
                exit_code=code, **_named(answer),
            )  # fmt: skip
        return Outcome.succeeded(exit_code=code, verified=True, reboot_required=reboot, **_named(answer))
    if reboot:
        return Outcome.reboot_needed(exit_code=code, **_named(answer))
    return Outcome.succeeded(exit_code=code, verified=False, **_named(answer))


def _verify_body(
    context: RunContext, step: RunStep, script: str, plain: Mapping[str, Any], secrets: Mapping[str, str]
) -> Verdict:
    """Exit code 0: done; 1: not done; anything else, or no verification: it cannot be told."""
    verify = step.options.get("verify")
    if not verify:
        return None
    if verify.get("function"):
        function: Function[Any] = registry.get(verify["function"])
        return function.verify(context, _validated(function, _values(context, step.options["verify_with"])))
    code = context.run_body(script, plain, body="verify", secrets=secrets).execution.exit_code
    return True if code == 0 else False if code == 1 else None


def _named(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"answer": dict(answer)} if answer else {}


def _last_words(answered: BodyResult) -> str:
    words = (answered.stderr.strip() or answered.stdout.strip()).splitlines()
    return f": {words[-1][:300]}" if words else " and said nothing"


def _delay(step: RunStep, retries: Mapping[str, Any]) -> float | None:
    """Seconds until the next attempt; None when there were enough."""
    if step.attempts >= retries["attempts"]:
        return None
    return float(retries["wait"] * retries["backoff"] ** (step.attempts - 1))


def _interrupted(verdict: Verdict) -> StepError:
    told, impact = ", and whether it was done cannot be told", "it may or may not have happened"
    if verdict is False:
        told, impact = "; it is not done, and is not said to be `repeatable`", "a part of it may have happened"
    return StepError(
        f"the worker ended while this was under way{told}",
        type="interrupted", impact=impact,
        remediation="look at the target, then retry or close the run",
    )  # fmt: skip


_TYPES: dict[type[ExeuntError], tuple[str, str]] = {
    AccessDenied: ("access_denied", "check the credential and the host key, then retry the run"),
    CannotConnect: ("unreachable", "check that the machine is on and that the port is open, then retry the run"),
    TimeLimitReached: ("time_limit", "raise `time_limit` in the script or find out what it waits for"),
    AnswerLost: ("answer_lost", "look at the target: the command was sent and may have been carried out"),
}


def _typed(error: ExeuntError) -> StepError:
    """An error with a type and a remediation, as it is stored and shown."""
    if isinstance(error, TransportError) and error.typed is not None:
        return error.typed
    kind, remediation = _TYPES.get(type(error), ("error", None))
    return StepError(str(error), type=kind, remediation=remediation)
