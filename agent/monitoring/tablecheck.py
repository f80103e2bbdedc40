"""The table/field/condition form of a monitor (facts 11.1), made into a query: names checked, values bound."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel

from agent.content.definitions import TableCheck, TableCondition
from agent.content.durations import parse_duration
from agent.database import Database
from agent.errors import MonitorQueryError
from agent.model.base import UTCDateTime
from agent.monitoring.bounds import readable_tables
from agent.monitoring.query import Query
from agent.monitoring.rows import TARGET_COLUMNS

_PLACE_TABLES = {"computer": "computers", "location": "locations", "client": "clients", "contact": "contacts"}
_TRUE, _FALSE = ("1", "true"), ("0", "false")


def compile_check(database: Database, check: TableCheck, target_kind: str, *, now: datetime) -> Query:
    """The query of a check. Tables other than the target's own are joined by the target's id.

    Raises MonitorQueryError that names the table, field or value which does not fit, and what there is.
    """
    with database.engine.connect() as connection:
        tables = _Tables(connection, check.table, target_kind)
    conditions = (TableCondition(field=check.field, condition=check.condition, result=check.result), *check.also)
    statement = sa.select(
        tables.column(check.field).label("testvalue"),
        tables.column(check.identity).label("identityfield"),
        tables.target_id.label(TARGET_COLUMNS[target_kind].lower()),
    ).select_from(tables.joined)
    if target_kind == "computer":
        statement = statement.where(tables.target.c.retiredat.is_(None))
    for condition in conditions:
        statement = statement.where(_condition(tables.column(condition.field), condition, now))
    dialect = SQLiteDialect if database.settings.is_sqlite else PGDialect
    compiled = statement.compile(dialect=dialect(paramstyle="named"))
    return Query(str(compiled), compiled.params)


class _Tables:
    """The checked table and the target's own, with their columns as the database has them."""

    def __init__(self, connection: sa.Connection, name: str, target_kind: str) -> None:
        self.target = _reflect(connection, _PLACE_TABLES[target_kind])
        key = TARGET_COLUMNS[target_kind].lower()
        self.target_id = self.target.c[key]
        checked = name.lower()
        self.joined: sa.FromClause = self.target
        self.table = self.target
        if checked == self.target.name:
            return
        self.table = _reflect(connection, checked)
        if key not in self.table.c:
            raise MonitorQueryError(
                f"the table {name} has no column {key}, so its rows belong to no {target_kind}; it has "
                f"{', '.join(sorted(self.table.c.keys()))}"
            )
        self.joined = self.table.join(self.target, self.table.c[key] == self.target_id)

    def column(self, name: str) -> sa.ColumnElement[Any]:
        """`LastContact` of the checked table, or `Computers.Name` of either table; letter case does not matter."""
        table, _, field = name.rpartition(".")
        candidates = [t for t in (self.table, self.target) if not table or t.name == table.lower()]
        for candidate in candidates[:1] if not table else candidates:
            for key in candidate.c.keys():  # noqa: SIM118 - a collection of columns iterates over columns
                if key.lower() == field.lower():
                    return candidate.c[key]
        known = (
            ", ".join(sorted(candidates[0].c.keys())) if candidates else f"tables {self.table.name}, {self.target.name}"
        )
        raise MonitorQueryError(f"there is no field {name}; there are {known}")


def _reflect(connection: sa.Connection, name: str) -> sa.TableClause:
    inspector = sa.inspect(connection)
    if not (name in readable_tables() or name.startswith("v_")):
        raise MonitorQueryError(f"the table {name} may not be read by a monitor")
    try:
        columns = inspector.get_columns(name)
    except sa.exc.NoSuchTableError:
        raise MonitorQueryError(f"there is no table {name}") from None
    types = _model_types(name)
    return sa.table(name, *(sa.column(c["name"], types.get(c["name"], c["type"])) for c in columns))


def _model_types(name: str) -> Mapping[str, TypeEngine[Any]]:
    """Types of a table's columns as the tables' classes have them; SQLite itself calls a time text."""
    known = SQLModel.metadata.tables.get(name)
    return {} if known is None else {column.name: column.type for column in known.columns}


def _condition(column: sa.ColumnElement[Any], condition: TableCondition, now: datetime) -> sa.ColumnElement[bool]:
    kind = condition.condition
    if kind == "is null":
        return column.is_(None)
    if kind == "is not null":
        return column.is_not(None)
    if condition.result is None:
        raise MonitorQueryError(f"the condition `{condition.field} {kind}` needs a `result`")
    if kind == "contains":
        return sa.func.lower(sa.cast(column, sa.Text)).contains(condition.result.lower(), autoescape=True)
    value = _value(column.type, condition, now)
    compare: dict[str, Callable[[Any, Any], Any]] = {
        "equals": operator.eq,
        "not equals": lambda left, right: left.is_distinct_from(right),
        "less than": operator.lt,
        "greater than": operator.gt,
    }
    return cast(sa.ColumnElement[bool], compare[kind](column, value))


def _value(column: TypeEngine[Any], condition: TableCondition, now: datetime) -> Any:
    """The compared value with the column's type: a time, a number, true or false, else text."""
    text = (condition.result or "").strip()
    try:
        if isinstance(column, UTCDateTime | sa.DateTime):
            return _moment(text, now)
        if isinstance(column, sa.Boolean):
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
        if isinstance(column, sa.Integer):
            return int(text)
        if isinstance(column, sa.Numeric):
            return float(text)
    except (ValueError, KeyError):
        raise MonitorQueryError(
            f"{text!r} does not fit the field {condition.field}, which holds {type(column).__name__.lower()}; a time "
            "is written `now`, `now - 5 minutes`, `now + 7 days` or `2026-01-31 12:00`"
        ) from None
    return condition.result


def _moment(text: str, now: datetime) -> datetime:
    words = text.lower().split(maxsplit=2)
    if words[:1] == ["now"]:
        if len(words) == 1:
            return now
        if len(words) == 3 and words[1] in "+-":
            distance = parse_duration(words[2])
            return now - distance if words[1] == "-" else now + distance
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
