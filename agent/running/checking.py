"""Checking content as a whole: everything that would stop or mislead a run, found before one is started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.content.definitions import AlertAction, Role
from agent.content.duplication import drift
from agent.content.faults import Place, dotted
from agent.content.loaded import LoadedAlertTemplate, LoadedMonitor, LoadedScript
from agent.content.loading import Document
from agent.content.repository import ContentRepository, is_template
from agent.errors import ContentError, UsageError
from agent.running.checking_loops import find_loops
from agent.running.checking_scripts import Finding, check_script

#: Options of the dropdown `Failed Uninstall Process` as shipped; None: nothing selected.
SHIPPED_OPTIONS = ("Ticket + Halt", "Ticket - Leave ScreenConnect", "Best Effort - Continue", "Ticket + Continue")


@dataclass(frozen=True)
class Fault:
    """Something wrong in a content file. `key` is dotted, items of lists count from 1."""

    file: str
    line: int | None
    key: str | None
    reason: str
    severity: Literal["error", "warning"]

    def __str__(self) -> str:
        where = self.file + (f":{self.line}" if self.line else "") + (f": {self.key}" if self.key else "")
        return f"{where}: {self.severity}: {self.reason}"


def check(repository: ContentRepository, options: Sequence[str] = SHIPPED_OPTIONS) -> list[Fault]:
    """Every fault of all scripts, monitors and alert templates, by file and line.

    `options` are those of the dropdown `Failed Uninstall Process`: each needs its fallback script.
    """
    faults = {_of(error) for error in repository.faults()}
    for script in repository.scripts():
        faults |= {_at(script.document, found) for found in check_script(repository, script, options)}
    for document, found in find_loops(repository):
        faults.add(_at(document, found))
    faults |= set(_lists(repository))
    for monitor in repository.monitors():
        faults |= {_at(monitor.document, found) for found in _monitor(repository, monitor)}
    for template in repository.alert_templates():
        faults |= {_at(template.document, found) for found in _template(repository, template)}
    for moved in drift(repository):
        found = Finding(("copied_from",), moved.reason, "warning")
        faults.add(_at(moved.script.document, found))
    return sorted(faults, key=lambda f: (f.file, f.line or 0, f.key or "", f.reason))


def _of(error: ContentError) -> Fault:
    return Fault(error.file, error.line, error.key, error.reason, "error")


def _at(document: Document, found: Finding) -> Fault:
    place = document.written(found.place)
    return Fault(str(document.file), document.line(place), dotted(place), found.reason, found.severity)


def _lists(repository: ContentRepository) -> Iterator[Fault]:
    """Faults of the clients' lists of children."""
    for slug, listing in repository.client_lists().items():
        for wrapper, names in listing.definition.scripts.items():
            place: Place = ("scripts", wrapper)
            try:
                if repository.script(wrapper, slug).definition.role is not Role.WRAPPER:
                    yield _at(listing.document, Finding(place, f"`{wrapper}` is no wrapper"))
                for position, child in enumerate(repository.children(wrapper, slug).scripts):
                    yield from (
                        _at(listing.document, f) for f in _child(repository, wrapper, child, (*place, position))
                    )
            except ContentError as error:
                yield _of(error)
            except UsageError as error:
                yield _at(listing.document, Finding(place, str(error)))
            for position, name in enumerate(names):
                if name in names[:position]:
                    yield _at(listing.document, Finding((*place, position), f"`{name}` is listed twice"))


def _child(repository: ContentRepository, wrapper: str, child: LoadedScript, place: Place) -> Iterator[Finding]:
    """Whether a wrapper's step gives a listed child what it needs, and nothing else."""
    outer = repository.script(wrapper)
    if child.definition.target != outer.definition.target:
        yield Finding(place, f"`{child.name}` is for a {child.definition.target}, not a {outer.definition.target}")
    for step in (s for s in outer.definition.steps if s.children == wrapper):
        declared = child.definition.parameters
        for name in (n for n, p in declared.items() if p.required and n not in step.with_):
            yield Finding(place, f"`{child.name}` needs the parameter `{name}`, which the wrapper does not give")
        for name in step.with_:
            if name not in declared:
                yield Finding(place, f"`{child.name}` has no parameter `{name}`, which the wrapper gives")


def _monitor(repository: ContentRepository, monitor: LoadedMonitor) -> Iterator[Finding]:
    definition = monitor.definition
    if definition.alert_template is None and not definition.group_alert_templates:
        yield Finding(("name",), "the monitor has no alert template: it finds rows and nothing answers", "warning")
    templates: list[tuple[Place, str]] = [
        (("group_alert_templates", group), name) for group, name in definition.group_alert_templates.items()
    ]
    if definition.alert_template is not None:
        templates.append((("alert_template",), definition.alert_template))
    for place, name in templates:
        try:
            template = repository.alert_template(name)
        except UsageError as error:
            yield Finding(place, str(error))
            continue
        for action in _scripts_of(template):
            try:
                target = repository.script(action.run_script or "").definition.target
            except UsageError:
                continue  # a fault of the alert template
            if target != definition.target:
                yield Finding(place, f"its script `{action.run_script}` is for a {target}, not a {definition.target}")
    if monitor.sql is not None and not monitor.sql.strip():
        yield Finding(("sql",), "the file is empty")


def _scripts_of(template: LoadedAlertTemplate) -> list[AlertAction]:
    definition = template.definition
    return [a for a in (*definition.failed, *definition.success, *definition.both) if a.run_script]


def _template(repository: ContentRepository, template: LoadedAlertTemplate) -> Iterator[Finding]:
    definition = template.definition
    for other in repository.alert_templates():
        if other.definition.guid.casefold() == definition.guid.casefold() and other.name != definition.name:
            yield Finding(("guid",), f"the GUID is also that of {other.file}")
    for part in ("failed", "success", "both"):
        for position, action in enumerate(getattr(definition, part)):
            yield from _action(repository, action, (part, position))


def _action(repository: ContentRepository, action: AlertAction, place: Place) -> Iterator[Finding]:
    if action.to and action.send_email is None:
        yield Finding((*place, "to"), "`to` belongs to `send_email`")
    if action.run_script is None:
        if action.with_:
            yield Finding((*place, "with"), "`with` belongs to `run_script`")
        for kind in ("create_ticket", "send_email", "raise_alert"):
            message = getattr(action, kind)
            for part in ("subject", "body") if message else ():
                yield from _message(getattr(message, part), (*place, kind, part))
        return
    try:
        script = repository.script(action.run_script)
    except UsageError as error:
        yield Finding((*place, "run_script"), str(error))
        return
    yield from _started(script, action, place)


def _started(script: LoadedScript, action: AlertAction, place: Place) -> Iterator[Finding]:
    definition = script.definition
    if definition.role in (Role.FUNCTION, Role.FALLBACK):
        reason = f"`{script.name}` has the role {definition.role}: only another script can call it"
        yield Finding((*place, "run_script"), reason)
    if is_template(script.name):
        yield Finding((*place, "run_script"), f"`{script.name}` is a template: duplicate it and run the duplicate")
    for name in action.with_:
        if name not in definition.parameters:
            yield Finding((*place, "with", name), f"the script `{script.name}` has no such parameter")


def _message(text: str, place: Place) -> Iterator[Finding]:
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import SandboxedEnvironment

    try:
        SandboxedEnvironment().parse(text)
    except TemplateSyntaxError as error:
        yield Finding(place, f"is no Jinja2 template: {error.message} (line {error.lineno} of the text)")
