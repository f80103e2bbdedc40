"""Drafting: from a request to the whole tree of runs and steps with resolved parameters; nothing is stored yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from pydantic import SecretStr, ValidationError

from agent.content.definitions import Condition, ParameterDefinition, ParameterType, StepDefinition
from agent.content.references import Subject, parse_subject
from agent.content.repository import ContentRepository, LoadedScript
from agent.errors import ContentError, NotFound, UsageError
from agent.functions import registry
from agent.functions.telling_result import TICKET_RESULT
from agent.running.conditions import compared, holds
from agent.running.drafts import DraftedTarget, DraftRun, DraftStep
from agent.running.package_steps import PackageSteps
from agent.running.requests import RunRequest
from agent.running.scope import Scope, StoredForm
from agent.running.targets import Target
from agent.transports.base import Language

FALLBACK_FIELD = "Failed Uninstall Process"
LITERAL_PROPERTY = "_sysOffboardingLiteralOutcomes"
#: Conditions on these subjects are decided while the run goes on; all others are fixed by the plan.
RUNTIME_SUBJECTS = ("step", "children", "outcome")
#: What every step of a fallback waits for.
_NEEDED = {"value": "children.state", "is_not": "succeeded"}
MAX_DEPTH = 8
__all__ = ["DraftRun", "DraftStep", "DraftedTarget", "Drafter", "coerce", "language_of", "part_of", "preview"]
_LANGUAGES: dict[str, Language] = {".sh": "sh", ".py": "py", ".ps1": "ps1"}


@dataclass(frozen=True)
class _Around:
    """What surrounds a script while it is drafted."""

    when: tuple[dict[str, Any], ...] = ()
    #: Inside a child script, so that its steps count for the lists of success and failure.
    in_child: bool = False
    ancestors: tuple[str, ...] = ()
    #: Inputs of the calling script, which those that it calls get where they declare them.
    handed_on: Mapping[str, StoredForm] = field(default_factory=dict)
    #: Inside a script that may delete an account.
    deletes: bool = False


class Drafter:
    """Drafts runs for one target. `properties` and `fields` are the values that the plan fixes."""

    def __init__(
        self,
        content: ContentRepository,
        target: Target,
        properties: Mapping[str, str],
        fields: Mapping[str, str],
    ) -> None:
        self.content, self.target, self.properties, self.fields = content, target, properties, fields
        self.revisions: dict[str, LoadedScript] = {}
        self.root_context: dict[str, Any] = {}
        self.packages = PackageSteps(content)

    def draft(self, request: RunRequest) -> DraftRun:
        """The whole tree. Raises UsageError with the reason why this target cannot be planned."""
        script = self.content.script(request.script, self.target.client_slug)
        if script.definition.target != self.target.kind:
            raise UsageError(f"the script {script.definition.name!r} is for a {script.definition.target}")
        self.root_context = {"levels": list(request.levels), "columns": dict(request.columns), **request.known}
        self.packages = PackageSteps(self.content, script.definition.name, self.target.kind)
        declared = script.definition.parameters
        columns = {name: value for name, value in request.columns.items() if name in declared}
        given: dict[str, StoredForm] = {n: {"value": v} for n, v in {**columns, **request.parameters}.items()}
        check = self.packages.check(script)
        run = self._script(script, script.definition.name, given, _Around(when=check.condition if check else ()))
        if check is not None:
            run.items.insert(0, check.step)
        run.context = {**self.root_context, **self.packages.known(run), **run.context}
        if not run.steps():
            raise UsageError(f"the script {script.definition.name!r} has nothing to do here")
        return run

    def _script(self, script: LoadedScript, name: str, given: Mapping[str, StoredForm], around: _Around) -> DraftRun:
        definition = script.definition
        if definition.name in around.ancestors or len(around.ancestors) >= MAX_DEPTH:
            chain = " > ".join((*around.ancestors, definition.name))
            raise UsageError(f"the script calls itself or is nested too deeply: {chain}")
        parameters = self._parameters(script, given)
        self.revisions[script.digest] = script
        scope = Scope(self.target, parameters, definition.globals, self.properties, self.fields)
        run = DraftRun(name, script, parameters, {})
        around = replace(
            around, ancestors=(*around.ancestors, definition.name), deletes=around.deletes or definition.deletes_account,
            handed_on=parameters if definition.inputs else {},
        )  # fmt: skip
        if definition.body is not None:
            run.items.append(self._body_step(script, scope, around))
        for step in definition.steps:
            run.items.extend(self._step(step, scope, around))
        return run

    def _parameters(self, script: LoadedScript, given: Mapping[str, StoredForm]) -> dict[str, StoredForm]:
        declared = script.definition.parameters
        unknown = sorted(set(given) - set(declared))
        if unknown:
            raise UsageError(
                f"the script {script.definition.name!r} takes no parameter {', '.join(map(repr, unknown))}"
            )
        result: dict[str, StoredForm] = {}
        for name, definition in declared.items():
            form = given.get(name)
            if form is None and definition.default is not None:
                form = {"value": definition.default}
            if form is None:
                if definition.required:
                    raise UsageError(f"the script {script.definition.name!r} needs the parameter {name!r}")
                continue
            result[name] = {"value": coerce(name, definition, form["value"])} if "value" in form else form
            if (definition.type is ParameterType.SECRET) != ("secret" in form):
                raise UsageError(f"the parameter {name!r} must {'' if 'secret' not in form else 'not '}be a secret")
        return result

    def _step(self, step: StepDefinition, scope: Scope, around: _Around) -> list[DraftStep | DraftRun]:
        when = (*around.when, *(self._condition(c, scope) for c in step.when))
        inner = replace(around, when=when)
        never = next((c for c in when if c.get("holds") is False), None)
        if never is not None:
            return [_not_here(step, when, never)]
        if step.function:
            made = self._function_step(step, scope, inner)
            return [made, *(self.packages.result(made) if step.function == TICKET_RESULT else ())]
        given = {name: scope.form(raw) for name, raw in step.with_.items()}
        if step.script:
            script = self.content.script(step.script, self.target.client_slug)
            inner = replace(inner, in_child=True)
            runs = [(step.name, script)]
        elif step.children:
            runs = [(s.definition.name, s) for s in self._children(step)]
            inner = replace(inner, in_child=True)
            if not runs:
                nothing = _nothing_listed(step.children)
                return [_not_here(step, (*when, nothing), nothing)]
        else:
            runs = self._fallback(step.name)
            inner = replace(inner, when=(*when, _NEEDED))
        drafts: list[DraftStep | DraftRun] = []
        for name, script in runs:
            check = self.packages.check(script) if step.children else None
            drafts += [check.step] if check else []
            around_it = replace(inner, when=(*inner.when, *check.condition)) if check else inner
            handed = {n: f for n, f in around.handed_on.items() if n in script.definition.parameters}
            run = self._script(script, name, {**handed, **given}, around_it)
            run.context = {"step": step.name, "on_failure": step.on_failure.value, "part": part_of(step)}
            drafts.append(run)
            drafts += self.packages.after(script, run, check) if step.children else []
        return drafts

    def _children(self, step: StepDefinition) -> tuple[LoadedScript, ...]:
        try:
            selection = self.content.children(step.children or "", self.target.client_slug)
        except NotFound:
            # Neither list is there, or the client's own is empty; a listed script that is missing is another error.
            if step.optional:
                return ()
            raise
        earlier = self.root_context.get("children", {}).get("scripts", [])
        self.root_context["children"] = {
            "source": selection.source,
            "reason": selection.reason,
            "scripts": [*earlier, *({"name": s.definition.name, "digest": s.digest} for s in selection.scripts)],
        }
        return selection.scripts

    def _fallback(self, name: str) -> list[tuple[str, LoadedScript]]:
        """The fallback that the client's dropdown selects; its outcome is fixed in the plan (facts 4)."""
        option = self.fields.get(FALLBACK_FIELD) or None
        script = self.content.fallback(option if option != "0" else None)
        definition = script.definition
        literal = self.properties.get(LITERAL_PROPERTY) == "1"
        outcome = (definition.literal_outcome if literal else None) or definition.outcome
        assert outcome is not None
        self.root_context["fallback"] = {
            "option": definition.option,
            "script": definition.name,
            "outcome": outcome.model_dump(),
            "literal": literal,
        }
        self.revisions[script.digest] = script
        return [(name, script)] if definition.steps or definition.body else []

    def _function_step(self, step: StepDefinition, scope: Scope, around: _Around) -> DraftStep:
        function = registry.get(step.function or "")
        if function.deletes_account and not around.deletes:
            raise UsageError(
                f"step {step.name!r}: {function.name} deletes an account: write `deletes_account: true` in its script, "
                "which runs on its own when the retention is over"
            )
        forms = {name: scope.form(raw) for name, raw in step.with_.items()}
        uses = {}
        for name in function.uses_scripts:
            script = self.content.script(name, self.target.client_slug)
            self.revisions[script.digest] = script
            uses[script.definition.name] = script.digest
        options = {
            "when": list(around.when),
            "on_failure": step.on_failure.value,
            "retries": _retries(step, None),
            "time_limit": step.time_limit.total_seconds() if step.time_limit else None,
            "repeatable": function.repeatable if step.repeatable is None else step.repeatable,
            "destructive": function.destructive,
            "on_target": function.on_target,
            "in_child": around.in_child,
            **({"deletes_account": True} if function.deletes_account else {}),
            **({"backs_up": True} if function.backs_up else {}),
            "revisions": uses,
            **preview(step, forms),
        }
        return DraftStep(step.name, function.name, None, forms, options)

    def _body_step(self, script: LoadedScript, scope: Scope, around: _Around) -> DraftStep:
        definition = script.definition
        file = self._body_file(script)
        verify = definition.verify
        options = {
            "when": list(around.when),
            "on_failure": "collect",
            "retries": _retries(None, script),
            "time_limit": definition.time_limit.total_seconds(),
            "repeatable": definition.repeatable,
            "destructive": True,
            "on_target": True,
            "in_child": around.in_child,
            "revisions": {definition.name: script.digest},
            "body": file,
            "verify": verify.model_dump(by_alias=True, exclude_none=True) if verify else None,
            "verify_with": {n: scope.form(raw) for n, raw in verify.with_.items()} if verify else {},
            "preview": f"run {file} of {definition.name!r}" + (f", then verify by {_how(verify)}" if verify else ""),
            "label": definition.name,
        }
        return DraftStep(definition.name, None, script.digest, dict(scope.parameters), options)

    def _body_file(self, script: LoadedScript) -> str:
        bodies = script.definition.body or {}
        if self.target.kind != "computer":
            raise UsageError(
                f"the script {script.definition.name!r} has a body, which runs on a computer, and this is a {self.target.kind}"
            )
        platform = (self.target.places.get("computer") or {}).get("platform", "any")
        file = bodies.get(platform) or bodies.get("any")
        if file is None:
            raise UsageError(f"the script {script.definition.name!r} has no body for {platform}")
        return file

    def _condition(self, condition: Condition, scope: Scope) -> dict[str, Any]:
        stored = condition.model_dump(by_alias=True, exclude_none=True)
        subject = parse_subject(condition.value)
        if subject.kind not in RUNTIME_SUBJECTS:
            stored["known"] = self._subject(subject, scope)
            stored["holds"] = holds(stored, stored["known"])
        return stored

    def _subject(self, subject: Subject, scope: Scope) -> Any:
        if subject.kind == "parameter":
            return scope.parameters.get(subject.name, {}).get("value")
        if subject.kind == "property":
            return self.properties.get(subject.name)
        if subject.kind == "field":
            return self.fields.get(subject.name)
        name = f"{subject.kind}.{subject.name}"
        try:
            return self.target.fact(name)
        except KeyError:
            raise UsageError(f"a condition looks at {name!r}, which this {self.target.kind} does not have") from None


def _not_here(step: StepDefinition, when: tuple[dict[str, Any], ...], never: Mapping[str, Any]) -> DraftStep:
    """A step whose conditions cannot hold for this target: kept, so that the plan and the report show it as skipped."""
    found = compared(never["known"])
    why = f"{never['value']} is {'not set' if found is None else found or 'empty'}"
    options = {"when": list(when), "on_failure": step.on_failure.value, "preview": f"skip: {why}", "label": step.name}
    return DraftStep(step.name, step.function, None, {}, options)


def _nothing_listed(wrapper: str) -> dict[str, Any]:
    """The condition that a step with optional children fails for a client that lists none."""
    return {"value": f"list of child scripts for {wrapper!r}", "is": "there", "known": None, "holds": False}


def part_of(step: StepDefinition) -> str:
    """Which part of a wrapper a nested run is: children, fallback or script."""
    return "children" if step.children else "fallback" if step.fallback else "script"


def preview(step: StepDefinition, forms: Mapping[str, StoredForm]) -> dict[str, str]:
    """What the step would do, in words, and how the lists call it. Raises UsageError for wrong parameters."""
    function = registry.get(step.function or "")
    deferred = sorted(name for name, form in forms.items() if "deferred" in form)
    if deferred:
        return {"preview": f"{function.summary} ({', '.join(deferred)}: known at run time)", "label": step.name}
    values = {n: SecretStr("***") if "secret" in form else form["value"] for n, form in forms.items()}
    try:
        parameters = function.Parameters.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            ": ".join((*map(str, e["loc"]), e["msg"].removeprefix("Value error, "))) for e in error.errors()
        )
        raise UsageError(f"step {step.name!r}: {function.name}: {faults}") from None
    return {"preview": function.preview(parameters), "label": function.label(parameters, step.name)}


def coerce(name: str, definition: ParameterDefinition, value: Any) -> Any:
    """A script parameter's value in its declared type. Raises UsageError."""
    text = str(value)
    if definition.type is ParameterType.NUMBER:
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError:
            raise UsageError(f"the parameter {name!r} must be a number, not {text!r}") from None
    if definition.type is ParameterType.CHECKBOX:
        if text.lower() not in ("0", "1", "true", "false"):
            raise UsageError(f"the parameter {name!r} is a checkbox: 1 or 0, not {text!r}")
        return text.lower() in ("1", "true")
    if definition.type is ParameterType.DROPDOWN and text not in definition.options:
        raise UsageError(f"the parameter {name!r} must be one of {', '.join(definition.options)}, not {text!r}")
    if definition.required and not text.strip():
        raise UsageError(f"the parameter {name!r} must not be empty")
    return text


def _retries(step: StepDefinition | None, script: LoadedScript | None) -> dict[str, Any] | None:
    retries = (step.retries if step else None) or (script.definition.retries if script else None)
    if retries is None:
        return None
    return {"attempts": retries.attempts, "wait": retries.wait.total_seconds(), "backoff": retries.backoff}


def _how(verify: Any) -> str:
    return verify.function or "its own verification body"


def language_of(file: str) -> Language:
    """sh, py or ps1, by the file's ending. Raises ContentError."""
    language = _LANGUAGES.get(PurePath(file).suffix)
    if language is not None:
        return language
    raise ContentError("a body is a .ps1, .sh or .py file", file=file)
