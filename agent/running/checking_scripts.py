"""Checking one script: its steps' functions, parameters, references, conditions and calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, SecretStr, ValidationError

from agent.content.definitions import Condition, ParameterDefinition, ParameterType, Platform, Role, StepDefinition
from agent.content.faults import Place, near
from agent.content.loaded import LoadedScript
from agent.content.references import PLACES, Reference, Subject, parse_subject, parse_value, references, resolve
from agent.content.repository import ContentRepository, is_template
from agent.errors import ExeuntError, UsageError
from agent.functions import registry
from agent.functions.base import Function
from agent.model.runs import StepState
from agent.running.drafting import FALLBACK_FIELD, coerce
from agent.running.targets import KINDS

#: How true and false are compared in conditions.
_CHECKBOX = ("1", "0")


@dataclass(frozen=True)
class Finding:
    """Something wrong at a place of a file."""

    place: Place
    reason: str
    severity: Literal["error", "warning"] = "error"


def check_script(repository: ContentRepository, script: LoadedScript, options: Sequence[str]) -> list[Finding]:
    """Everything that is wrong with one script, seen from the client whose it is."""
    return list(_Checker(repository, script, options).findings())


class _Checker:
    def __init__(self, repository: ContentRepository, script: LoadedScript, options: Sequence[str]) -> None:
        self.repository, self.script, self.options = repository, script, options
        self.definition = script.definition

    def findings(self) -> Iterator[Finding]:
        yield from self._bodies()
        yield from self._parameters()
        verify = self.definition.verify
        if verify is not None:
            yield from self._values(verify.with_, ("verify", "with"), [])
            if verify.function is not None:
                yield from self._function(verify.function, verify.with_, ("verify",))
        earlier: list[str] = []
        for position, step in enumerate(self.definition.steps):
            yield from self._step(step, ("steps", position), earlier)
            earlier.append(step.name)

    def _bodies(self) -> Iterator[Finding]:
        bodies: dict[Place, str] = {("body", p): f for p, f in (self.definition.body or {}).items()}
        if self.definition.verify is not None:
            bodies |= {("verify", "body", p): f for p, f in (self.definition.verify.body or {}).items()}
        for place, file in bodies.items():
            if file.endswith(".sh") and "\r\n" in self.script.bodies[file]:
                yield Finding(place, f"`{file}` has Windows line ends, which sh takes as part of the commands")
            if file.endswith(".sh") and place[-1] == "windows":
                yield Finding(place, f"`{file}`: Windows has no sh; write a .ps1")
        if self.definition.body and self.definition.target != "computer":
            yield Finding(("body",), f"a body runs on a computer, and this script is for a {self.definition.target}")

    def _parameters(self) -> Iterator[Finding]:
        for name, parameter in self.definition.parameters.items():
            if parameter.default is not None:
                try:
                    coerce(name, parameter, parameter.default)
                except UsageError as error:
                    yield Finding(("parameters", name, "default"), str(error))

    def _step(self, step: StepDefinition, place: Place, earlier: list[str]) -> Iterator[Finding]:
        for position, condition in enumerate(step.when):
            yield from self._condition(condition, (*place, "when", position, "value"), earlier)
        yield from self._values(step.with_, (*place, "with"), earlier)
        if step.function is not None:
            yield from self._function(step.function, step.with_, place)
        elif step.script is not None:
            yield from self._call(step.script, step.with_, place)
        elif step.children is not None:
            yield from self._children(step.children, (*place, "children"))
        elif step.fallback is not None:
            yield from self._fallback(step.fallback, (*place, "fallback"))

    # --- what a step does

    def _function(self, name: str, given: Mapping[str, Any], place: Place) -> Iterator[Finding]:
        try:
            function = registry.get(name)
        except ExeuntError as error:
            yield Finding((*place, "function"), str(error))
            return
        for used in function.uses_scripts:
            try:
                self.repository.script(used, self.script.client)
            except UsageError as error:
                yield Finding((*place, "function"), f"the function `{name}` runs the script `{used}`: {error}")
        yield from self._secrets(function, given, (*place, "with"))
        yield from _function_parameters(function, given, (*place, "with"))

    def _secrets(self, function: Function[Any], given: Mapping[str, Any], place: Place) -> Iterator[Finding]:
        for name, value in given.items():
            field = function.Parameters.model_fields.get(name)
            if field is None:
                continue
            wants = _mentions(field.annotation, SecretStr)
            parsed = _parsed(value)
            is_secret = isinstance(parsed, Reference) and self._is_secret(parsed)
            if wants and not is_secret:
                yield Finding((*place, name), "is a secret: store a credential and write `{secret: its name}`")
            elif is_secret and not wants:
                yield Finding((*place, name), f"{parsed} is a secret, and `{name}` would be stored and shown")

    def _is_secret(self, reference: Reference) -> bool:
        if reference.kind in ("parameter", "variable"):
            parameter = self.definition.parameters.get(reference.name)
            return parameter is not None and parameter.type is ParameterType.SECRET
        return reference.kind == "secret"

    def _call(self, name: str, given: Mapping[str, Any], place: Place) -> Iterator[Finding]:
        try:
            script = self.repository.script(name, self.script.client)
        except UsageError as error:
            yield Finding((*place, "script"), str(error))
            return
        if is_template(script.name):
            yield Finding((*place, "script"), f"`{script.name}` is a template: duplicate it and call the duplicate")
        if script.definition.target != self.definition.target:
            reason = (
                f"`{script.name}` is for a {script.definition.target}, and this script for a {self.definition.target}"
            )
            yield Finding((*place, "script"), reason)
        declared = script.definition.parameters
        for name_, value in given.items():
            if name_ not in declared:
                reason = f"the script `{script.name}` has no such parameter{near(name_, declared)}"
                yield Finding((*place, "with", name_), reason)
            else:
                yield from self._argument(name_, declared[name_], value, (*place, "with", name_))
        for missing in (n for n, p in declared.items() if p.required and n not in given):
            yield Finding((*place, "with"), f"the script `{script.name}` needs the parameter `{missing}`")

    def _argument(self, name: str, parameter: ParameterDefinition, value: Any, place: Place) -> Iterator[Finding]:
        parsed = _parsed(value)
        is_secret = isinstance(parsed, Reference) and self._is_secret(parsed)
        if is_secret != (parameter.type is ParameterType.SECRET):
            yield Finding(place, f"`{name}` must {'not ' if is_secret else ''}be a secret (`{{secret: its name}}`)")
        elif parsed is not None and not references_of(value):
            try:
                coerce(name, parameter, resolve(value, _never))
            except UsageError as error:
                yield Finding(place, str(error))

    def _children(self, wrapper: str, place: Place) -> Iterator[Finding]:
        try:
            script = self.repository.script(wrapper, self.script.client)
        except UsageError as error:
            yield Finding(place, str(error))
            return
        if script.name != wrapper:
            yield Finding(place, f"write the wrapper's name, `{script.name}`: the clients' lists are kept under it")
        elif script.definition.role is not Role.WRAPPER:
            yield Finding(place, f"`{wrapper}` is no wrapper")

    def _fallback(self, field: str, place: Place) -> Iterator[Finding]:
        if field != FALLBACK_FIELD:
            yield Finding(
                place, f"the dropdown that selects a fallback is `{FALLBACK_FIELD}`{near(field, [FALLBACK_FIELD])}"
            )
            return
        for option in (*self.options, None):
            try:
                self.repository.fallback(option)
            except UsageError as error:
                yield Finding(place, str(error))

    # --- what a step refers to

    def _condition(self, condition: Condition, place: Place, earlier: list[str]) -> Iterator[Finding]:
        try:
            subject = parse_subject(condition.value)
        except UsageError as error:
            yield Finding(place, str(error))
            return
        yield from self._comparison(condition, subject, place)
        if subject.kind in PLACES:
            yield from _column(f"{subject.kind}.{subject.name}", place)
        elif subject.kind == "parameter":
            yield from self._declared(subject.name, self.definition.parameters, "parameter", place)
        elif subject.kind == "step":
            yield from _earlier(subject.name, earlier, place)

    def _comparison(self, condition: Condition, subject: Subject, place: Place) -> Iterator[Finding]:
        """A word that the subject never is would make the step silently never, or always, run."""
        allowed = self._words(subject)
        for key, compared in (("is", condition.is_), ("is_not", condition.is_not)):
            if allowed and compared is not None and compared not in allowed:
                yield Finding((*place[:-1], key), _never_is(condition.value, compared, allowed))
        for position, compared in enumerate(condition.in_ or ()):
            if allowed and compared not in allowed:
                yield Finding((*place[:-1], "in", position), _never_is(condition.value, compared, allowed))

    def _words(self, subject: Subject) -> tuple[str, ...]:
        """What a subject can be, where that is known; empty otherwise."""
        if subject.kind in ("step", "children"):
            return tuple(state.value for state in StepState)
        if subject.kind == "outcome":
            return _CHECKBOX if subject.name == "failure_ticket" else ("keep", "remove")
        if (subject.kind, subject.name) == ("computer", "platform"):
            return get_args(Platform)
        if subject.kind == "parameter" and (parameter := self.definition.parameters.get(subject.name)):
            return _CHECKBOX if parameter.type is ParameterType.CHECKBOX else parameter.options
        column = KINDS[subject.kind].model_fields.get(subject.name) if subject.kind in PLACES else None
        return _CHECKBOX if column is not None and column.annotation is bool else ()

    def _values(self, values: Mapping[str, Any], place: Place, earlier: list[str]) -> Iterator[Finding]:
        for name, value in values.items():
            here = (*place, name)
            try:
                found, parsed = references(value), parse_value(value)
            except UsageError as error:
                yield Finding(here, str(error))
                continue
            for reference in found:
                yield from self._reference(reference, here, earlier)
                if self._is_secret(reference) and not isinstance(parsed, Reference):
                    yield Finding(here, f"{reference} is a secret and can only be a whole value, no part of another")

    def _reference(self, reference: Reference, place: Place, earlier: list[str]) -> Iterator[Finding]:
        name, definition = reference.name, self.definition
        if reference.kind == "parameter":
            yield from self._declared(name, definition.parameters, "parameter", place)
        elif reference.kind == "global":
            yield from self._declared(name, definition.globals, "global parameter", place)
        elif reference.kind == "variable" and name not in definition.globals:
            both = {**definition.parameters, **definition.globals}
            hint = "" if name in both else "; an `@` that is meant as it stands is written `@@`"
            yield from self._declared(name, both, "parameter or global parameter", place, hint)
        elif reference.kind == "step":
            yield from _earlier(name, earlier, place)
        elif reference.kind == "fact":
            yield from _column(name, place)

    def _declared(
        self, name: str, known: Mapping[str, Any], what: str, place: Place, hint: str = ""
    ) -> Iterator[Finding]:
        if name not in known:
            yield Finding(place, f"this script has no {what} `{name}`{near(name, known)}{hint}")
            return
        parameter = known[name]
        if isinstance(parameter, ParameterDefinition) and not parameter.required and parameter.default is None:
            reason = (
                f"the parameter `{name}` is neither required nor has a default: without it the run cannot be planned"
            )
            yield Finding(place, reason, "warning")


def _function_parameters(function: Function[Any], given: Mapping[str, Any], place: Place) -> Iterator[Finding]:
    """Validate what is literal against the function's parameters; what refers to something is judged by the planner."""
    open_ = {name for name, value in given.items() if _parsed(value) is None or references_of(value)}
    values = {name: "?" if name in open_ else resolve(value, _never) for name, value in given.items()}
    try:
        function.Parameters.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_input=False):
            at = detail["loc"]
            if (at and at[0] in open_ and detail["type"] != "extra_forbidden") or (not at and open_):
                continue
            yield Finding((*place, *at), _said(function, detail["type"], detail["msg"], at))


def _said(function: Function[Any], kind: str, message: str, at: Place) -> str:
    names = list(function.Parameters.model_fields)
    if kind == "missing":
        return f"the function `{function.name}` needs the parameter `{at[-1]}`"
    if kind == "extra_forbidden" and len(at) == 1:
        hint = near(str(at[0]), names) or f"; it takes {', '.join(names) or 'none'}"
        return f"the function `{function.name}` has no parameter `{at[0]}`{hint}"
    return f"the function `{function.name}`: {message}"


def references_of(value: Any) -> list[Reference]:
    """The references in a value; none when it is written wrongly, which is reported elsewhere."""
    try:
        return references(value)
    except UsageError:
        return []


def _parsed(value: Any) -> Any:
    try:
        return parse_value(value)
    except UsageError:
        return None


def _never_is(subject: str, word: str, allowed: Sequence[str]) -> str:
    return f"`{subject}` is never `{word}`; it is one of {', '.join(f'`{a}`' for a in allowed)}"


def _never(reference: Reference) -> object:
    raise AssertionError(reference)


def _mentions(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or any(_mentions(a, wanted) for a in get_args(annotation))


def _earlier(name: str, earlier: list[str], place: Place) -> Iterator[Finding]:
    if name not in earlier:
        yield Finding(place, f"no step before this one has the name `{name}`{near(name, earlier)}")


def _column(fact: str, place: Place) -> Iterator[Finding]:
    kind, _, column = fact.partition(".")
    model: type[BaseModel] | None = KINDS.get(kind)
    if model is None or not column:
        yield Finding(place, f"`{fact}` is no fact: write `<{', '.join(KINDS)}>.<column>`")
    elif column not in model.model_fields:
        yield Finding(place, f"a {kind} has no column `{column}`{near(column, model.model_fields)}")
