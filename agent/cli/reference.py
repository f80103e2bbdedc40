"""The reference manual, made from the declarations. `python -m agent.cli.reference docs/reference.md` renews it.

Only what Exeunt itself declares stands in it, not what other distributions add in one environment.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from agent.cli.main import EPILOG, main
from agent.field_views import VIEWS
from agent.migrations.records import RECORD_MODULES, SCHEMA_MODULES, tables_of
from agent.monitoring.bounds import FORBIDDEN_TABLES
from agent.running import guardrails
from agent.services.properties import CATALOGUE
from agent.settings import Settings
from agent.transports import registry as transports

_HEAD = """\
# Reference

Made by `python -m agent.cli.reference docs/reference.md` from what the program declares; do not edit it.
Functions, and every key of scripts, monitors and alert templates, are in [scripts/README.md](../scripts/README.md).
"""
#: Keywords of a JSON schema that bound a value, and how they are written.
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "pattern": "matches"}


def reference() -> str:
    """The whole manual as Markdown."""
    parts = [
        _HEAD,
        _section("Settings", _SETTINGS, _options(Settings, "EXEUNT_")),
        _section("Commands", "Every command takes `--help`. Options of `exeunt` itself stand before the command.", ""),
        *_commands(),
        _section("Exit codes", "", _block(EPILOG.split("\b\n")[1])),
        _section("System properties", "Set with `exeunt property set NAME VALUE`.", _properties()),
        _section("Guardrails", _GUARDRAILS, _guardrails()),
        _section("Transports", _TRANSPORTS, ""),
        *_transports(),
        _section("Tables", _TABLES, _tables()),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


_SETTINGS = """\
From the environment, else from `exeunt.env` in the workspace (`NAME='value'` on each line), else the default."""
_GUARDRAILS = f"""\
What is asked before an offboarding starts. A guardrail that *refuses* has one way round: `--override NAME --reason TEXT`.
One that *holds* waits for `exeunt run approve --reason TEXT`. Both are audited. A computer is left out while the extra
field `{guardrails.EXCLUSION}` is set on it, its location or its client."""
_TRANSPORTS = """\
`transport` of a computer names one. Options stand in the settings of the credential and in `transport_options` of the
computer, which come before those of the credential. An option that does not exist is refused."""
_TABLES = """\
Places and extra fields (`edf_schema.sql`) may be read and changed by SQL; their rules and their log are in the database.
Records are for reading. A monitor's query may read all of them but `credential`, `system_property` and `notification`."""

#: Of migration 0017.
_FLAG_VIEWS = (
    ("v_extradataset", "Each place at which a field is set: its own value, else the default row's, is not `0`", "`form`, `name`, `id`"),
    ("v_offboardlevels", "Each level (`client`, `location`, `computer`) whose offboarding flag reaches a computer", "`computerid`, `level`"),
)  # fmt: skip


def _section(title: str, text: str, body: str) -> str:
    return f"## {title}\n\n" + "\n\n".join(part for part in (text, body) if part)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(c) for c in row) + " |" for row in rows)])


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _block(text: str) -> str:
    return "```text\n" + text.strip("\n") + "\n```"


def _options(model: type[BaseModel], prefix: str = "") -> str:
    """Fields of a model with their defaults and bounds."""
    fields = model.model_json_schema()["properties"]
    name = str.upper if prefix else str
    rows = ((f"`{prefix}{name(field)}`", *_value(schema)) for field, schema in fields.items())
    return _table(("Name", "Default", "Allowed", "Meaning"), rows)


def _value(schema: dict[str, Any]) -> tuple[str, str, str]:
    default = schema.get("default")
    kinds = [schema, *(s for s in schema.get("anyOf", ()) if s.get("type") != "null")]
    bounds = [f"{said} {_code(k[key])}" for k in kinds for key, said in _BOUNDS.items() if key in k]
    words = next((w for k in kinds if (w := re.fullmatch(r"\^\(([\w|]+)\)\$", k.get("pattern", "")))), None)
    choices = [_code(c) for k in kinds for c in k.get("enum", words[1].split("|") if words else ())]
    kind = next((k.get("format", k["type"]) for k in kinds if "type" in k), "")
    allowed = ", ".join(choices or [str(kind), *bounds])
    return ("" if default in (None, "", []) else _code(default), allowed, schema.get("description", ""))


def _code(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _commands() -> Iterator[str]:
    root = click.Context(main, info_name="exeunt")
    yield "### `exeunt`\n\n" + _parameters(main, root)
    for command, context in leaves(main, root):
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        examples = getattr(command, "examples", ())
        parts = [f"### `{context.command_path}`", inspect.cleandoc(command.help or ""), f"    {usage}"]
        parts += [_parameters(command, context), _block("\n".join(examples)) if examples else ""]
        yield "\n\n".join(part for part in parts if part)


def leaves(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command that is not a group, with its context."""
    if not isinstance(command, click.Group):
        yield command, context
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None, name
        yield from leaves(inner, click.Context(inner, info_name=name, parent=context))


def _parameters(command: click.Command, context: click.Context) -> str:
    records = (p.get_help_record(context) for p in command.params if isinstance(p, click.Option))
    rows = [(f"`{names}`", meaning) for names, meaning in filter(None, records)]
    return _table(("Option", "Meaning"), rows) if rows else ""


def _properties() -> str:
    rows = (
        (f"`{d.name}`", "" if d.default in (None, "") else _code(d.default), d.allowed,
         d.meaning + (" (kept encrypted)" if d.is_secret else ""))
        for d in CATALOGUE.values()
    )  # fmt: skip
    return _table(("Name", "Default", "Allowed", "Meaning"), rows)


def _guardrails() -> str:
    opt_ins = (
        (f"`{attribute.removeprefix('is_')}`", "leaves the computer out", f"it is a {attribute.removeprefix('is_')}",
         f"the extra field `{field}`")
        for attribute, field in guardrails.OPT_INS.items()
    )  # fmt: skip
    rows = [
        *((f"`{n}`", "refuses", why, "`--override`") for n, why in guardrails.REFUSING.items()),
        *((f"`{n}`", "holds", why, _way_round(n)) for n, why in guardrails.HOLDING.items()),
        *(
            (f"`{n}`", "refuses the approval", why, "another person approves")
            for n, why in guardrails.APPROVING.items()
        ),
        *opt_ins,
    ]
    return _table(("Guardrail", "What it does", "When", "Way round"), rows)


def _way_round(name: str) -> str:
    return {"first_run": "`--yes`, or approval", "client_flag": "`--confirm-client SLUG`"}.get(name, "approval")


def _transports() -> Iterator[str]:
    for name in sorted(transports.BUILT_IN):
        transport = transports.get(name)
        yield f"### `{name}`\n\n{_first_line(transport)}\n\n{_options(transport.Options)}"


def _first_line(thing: object) -> str:
    """What a class is for, without what only developers can look up."""
    return re.sub(r" \(facts [^)]*\)", "", inspect.cleandoc(thing.__doc__ or "").splitlines()[0])


def _tables() -> str:
    rows: list[tuple[str, str, str, str]] = []
    for modules, kind in ((SCHEMA_MODULES, "inventory"), (RECORD_MODULES, "records")):
        for model in (m for module in modules for m in tables_of(module)):
            table = model.__table__  # type: ignore[attr-defined]
            if table.name not in FORBIDDEN_TABLES:
                columns = ", ".join(f"`{c.name}`" for c in table.columns)
                rows.append((f"`{table.name}`", kind, _first_line(model), columns))
    rows += [
        (f"`{view}`", "view", f"One row per {form.name.lower()}", f"`{key}`, then one column per extra field")
        for form, (view, _, key) in VIEWS.items()
    ]
    rows += [(f"`{view}`", "view", meaning, columns) for view, meaning, columns in _FLAG_VIEWS]
    return _table(("Table", "Kind", "Holds", "Columns"), rows)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(reference(), encoding="utf-8")
