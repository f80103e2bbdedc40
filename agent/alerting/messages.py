"""Subjects and bodies of alerts: Jinja2 and ConnectWise Automate's `%NAME%` variables (facts 11.3).

A message is text, so it needs names, filters and conditions, nothing else: loops, calls, assignments and attributes are
refused when it is compiled, which also bounds its time and size. Values are inserted and never read again as a template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agent.content.definitions import Message
from agent.services.tickets import one_line

if TYPE_CHECKING:
    from jinja2 import Environment, Template

#: CWA's variables, and ours for contacts and for the monitor's own alert message.
VARIABLES = (
    "name", "status", "result", "fieldname", "clientname", "clientid", "locationname", "locationid", "computername",
    "computerid", "contactname", "contactid", "alert_subject", "alert_body",
)  # fmt: skip
#: Variables that a target of this kind lacks.
LACKING = {
    "computer": {"contactname", "contactid"},
    "contact": {"computername", "computerid"},
    "location": {"computername", "computerid", "contactname", "contactid"},
    "client": {"computername", "computerid", "contactname", "contactid", "locationname", "locationid"},
}
SOURCE_LENGTH = 20_000
VALUE_LENGTH = 2_000
BODY_LENGTH = 100_000
SUBJECT_LENGTH = 500

_FILTERS = ("upper", "lower", "title", "trim", "default", "truncate")
_PERCENT = re.compile(rf"(?<!\{{)%({'|'.join(VARIABLES)})%", re.IGNORECASE)
_NODES = {
    "Template", "Output", "TemplateData", "Name", "Const", "If", "CondExpr", "Compare", "Operand", "And", "Or", "Not",
    "Filter", "Test", "Keyword", "Concat", "Getattr", "Getitem",
}  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    """A subject of one line, and a body."""

    subject: str
    body: str


def default_message(target_kind: str) -> Message:
    """The wording of facts 11.3 with the names that a target of this kind has."""
    place = {
        "computer": r"%CLIENTNAME%\%COMPUTERNAME% at %LOCATIONNAME%",
        "contact": r"%CLIENTNAME%\%CONTACTNAME%",
        "location": r"%CLIENTNAME%\%LOCATIONNAME%",
        "client": "%CLIENTNAME%",
    }[target_kind]
    text = f"%NAME% %STATUS% on {place} for %FIELDNAME% result %RESULT%."
    return Message(subject=text, body=text)


def check_message(message: Message, target_kind: str) -> None:
    """Raises ValueError when a message cannot be rendered for targets of this kind: syntax, or a name that is missing."""
    from jinja2 import meta

    for source in (message.subject, message.body):
        _compile(source)
        names = meta.find_undeclared_variables(_environment().parse(_with_braces(source)))
        unknown = sorted(names - set(VARIABLES) - {"row"} | names & LACKING[target_kind])
        if unknown:
            has = ", ".join(v for v in VARIABLES if v not in LACKING[target_kind])
            raise ValueError(
                f"the message uses {unknown[0]!r}, which a {target_kind} alert does not have; it has {has}, row"
            )


def render(message: Message, variables: Mapping[str, Any], columns: Mapping[str, Any] | None = None) -> Rendered:
    """The message with its variables; `row.<column>` are the further columns of the monitor's row.

    Values are flattened to one line and cut at 2,000 characters; `alert_body` alone keeps its lines.
    Raises ValueError for a name that is missing.
    """
    values: dict[str, Any] = {n: _value(v) if n != "alert_body" else str(v)[:BODY_LENGTH] for n, v in variables.items()}
    values["row"] = {n: _value(v) for n, v in (columns or {}).items()}
    subject, body = _fill(message.subject, values), _fill(message.body, values)
    return Rendered(one_line(subject)[:SUBJECT_LENGTH], body[:BODY_LENGTH])


def _value(value: Any) -> str:
    text = "" if value is None else one_line(str(value)[: VALUE_LENGTH + 1])
    return text if len(text) <= VALUE_LENGTH else text[:VALUE_LENGTH] + "…"


def _fill(source: str, values: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError

    try:
        return _compile(source).render(values)
    except TemplateError as error:
        raise ValueError(f"the message cannot be filled in: {error.message}") from error


def _with_braces(source: str) -> str:
    """`%ComputerName%` -> `{{ computername }}`. Only known names: `100%` and `%other%` stay text."""
    return _PERCENT.sub(lambda found: "{{ " + found[1].lower() + " }}", source)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    return environment


@lru_cache(maxsize=256)
def _compile(source: str) -> Template:
    """Raises ValueError with the line for bad syntax, and for what a message may not do."""
    from jinja2 import TemplateError, TemplateSyntaxError, nodes

    if len(source) > SOURCE_LENGTH:
        raise ValueError(f"the message is longer than {SOURCE_LENGTH} characters")
    text = _with_braces(source)
    try:
        tree = _environment().parse(text)
        for node in tree.find_all(nodes.Node):
            kind = type(node).__name__
            if kind not in _NODES:
                raise ValueError(f"line {node.lineno} of the message: {kind.lower()} has no place in a message")
            if isinstance(node, nodes.Name) and node.name not in (*VARIABLES, "row"):
                raise ValueError(
                    f"line {node.lineno} of the message: there is no {node.name!r}; there are {', '.join(VARIABLES)}, row"
                )
            if isinstance(node, nodes.Getattr | nodes.Getitem) and not _is_column(node):
                raise ValueError(f"line {node.lineno} of the message: only row.<column> is looked up with a dot")
        return _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno} of the message: {error.message}") from error
    except TemplateError as error:
        raise ValueError(f"the message: {error.message}") from error


def _is_column(node: Any) -> bool:
    """`row.name` or `row['name']`, and nothing deeper."""
    from jinja2 import nodes

    named = isinstance(node, nodes.Getattr) or isinstance(node.arg, nodes.Const)
    return named and isinstance(node.node, nodes.Name) and node.node.name == "row"
