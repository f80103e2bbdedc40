"""The executed schema and the table classes say the same; and the database itself holds the rules, for plain SQL too."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    Boolean,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    String,
    TypeDecorator,
    UniqueConstraint,
    inspect,
)
from sqlmodel import SQLModel

from agent.database import schema_statements
from agent.installation import Installation
from agent.migrations.records import RECORD_MODULES, SCHEMA_MODULES, tables_of
from agent.model.base import UTCDateTime

if TYPE_CHECKING:
    from conftest import Places

REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError)
CLIENT_FLAG, SITE_FLAG, COMPUTER_FLAG, PROCESS = 1, 2, 3, 4


def family(column_type: Any, dialect: str) -> str:
    if isinstance(column_type, (UTCDateTime, DateTime)):
        return "text" if dialect == "sqlite" else "time"
    if isinstance(column_type, TypeDecorator):
        column_type = column_type.impl_instance
    for kind, name in ((Boolean, "boolean"), (Integer, "integer"), (JSON, "json"), (String, "text")):
        if isinstance(column_type, kind):
            return name
    return repr(column_type)


def test_the_schema_agrees_with_the_model(any_installation: Installation) -> None:
    for table in (t.__tablename__ for m in SCHEMA_MODULES for t in tables_of(m)):
        assert_agrees(any_installation, str(table))


def assert_agrees(any_installation: Installation, table: str) -> None:
    engine = any_installation.database.engine
    seen, model = inspect(engine), SQLModel.metadata.tables[table]
    dialect = engine.dialect.name
    stored = {c["name"]: (family(c["type"], dialect), c["nullable"]) for c in seen.get_columns(table)}
    keys = {c.name for c in model.primary_key}
    assert stored == {c.name: (family(c.type, dialect), bool(c.nullable)) for c in model.columns}
    assert set(seen.get_pk_constraint(table)["constrained_columns"]) == keys
    assert {
        (tuple(k["constrained_columns"]), k["referred_table"], tuple(k["referred_columns"]))
        for k in seen.get_foreign_keys(table)
    } == {
        (tuple(c.name for c in k.columns), k.referred_table.name, tuple(e.column.name for e in k.elements))
        for k in model.constraints
        if isinstance(k, ForeignKeyConstraint)
    }
    uniques = {tuple(k["column_names"]) for k in seen.get_unique_constraints(table)}
    assert uniques == {tuple(c.name for c in k.columns) for k in model.constraints if isinstance(k, UniqueConstraint)}


def test_every_table_is_made_and_no_other(any_installation: Installation) -> None:
    made = set(inspect(any_installation.database.engine).get_table_names()) - {"alembic_version"}
    # The index of words is a table of SQLite's own, in several parts.
    made = {name for name in made if not name.startswith("placewords")}
    assert made == {t.__tablename__ for m in (*SCHEMA_MODULES, *RECORD_MODULES) for t in tables_of(m)}


def test_initialising_twice_changes_nothing(any_installation: Installation, plain_sql: Any) -> None:
    before = plain_sql("SELECT * FROM extrafield ORDER BY id")
    any_installation.database.initialise()
    assert plain_sql("SELECT * FROM extrafield ORDER BY id") == before


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_no_word_is_left_unexplained(dialect: str) -> None:
    statements = schema_statements(dialect)
    assert len(statements) > 50
    assert not [s for s in statements if "@id@" in s or "@moment@" in s or "@now@" in s]


def test_the_shipped_fields_are_there(any_installation: Installation, plain_sql: Any) -> None:
    rows = plain_sql("SELECT form, name, ftype, section, isdestructive FROM extrafield")
    found = {(form, name): (ftype, section, bool(destructive)) for form, name, ftype, section, destructive in rows}
    assert found[3, "Offboard Client"] == found[2, "Offboard Location"] == found[1, "Offboard Computer"]
    assert found[3, "Offboard Client"] == (1, "Offboarding", True)
    assert found[3, "Failed Uninstall Process"] == (2, "Offboarding", False)
    for form in (1, 2, 3):
        assert found[form, "Exclude From Offboarding"] == (1, "Exclusions", False)
        assert (
            found[form, "Allow Server Offboarding"]
            == found[form, "Allow Probe Offboarding"]
            == (1, "Offboarding", False)
        )
    (fill,) = plain_sql("SELECT fill FROM extrafield WHERE name = 'Failed Uninstall Process'")[0]
    assert fill.split("|")[0].split("~") == [
        "Ticket + Halt", "Ticket - Leave ScreenConnect", "Best Effort - Continue", "Ticket + Continue",
    ]  # fmt: skip


def set_value(plain_sql: Any, field: int, place: int, value: Any, by: str | None = None) -> None:
    plain_sql(
        "INSERT INTO extrafielddata (extrafieldid, id, value, changedby) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (extrafieldid, id) DO UPDATE SET value = excluded.value, changedby = excluded.changedby",
        field, place, value, by,
    )  # fmt: skip


def changes(plain_sql: Any) -> list[tuple[Any, ...]]:
    return plain_sql("SELECT changedby, extrafieldid, id, oldvalue, newvalue FROM extrafieldchange ORDER BY changeid")


def make_field(plain_sql: Any, ftype: int, fill: str = "", form: int = 3) -> int:
    (number,) = plain_sql("SELECT count(*) FROM extrafield")[0]
    field = 1000 + number
    plain_sql(
        "INSERT INTO extrafield (id, form, name, ftype, fill, ltguid) VALUES (?, ?, ?, ?, ?, ?)",
        field, form, f"Field {field}", ftype, fill, f"guid-{field}",
    )  # fmt: skip
    return field


GOOD = {
    0: ["", "any 'text' \"at\" all\n§"],
    1: ["0", "1"],
    2: ["", "a b", "c'd", "~"[:0]],
    3: ["2026-02-28", "2024-02-29", "0001-01-01", "9999-12-31"],
    4: ["0", "12", "-3", "0.5", "-0.25", "007"],
    5: ["enc:x", "enc:v1:gAAAA=="],
}
BAD = {
    1: ["", "2", "true", "on", " 1", "1 ", "01", "１"],
    2: ["a", "A B", "a b ", "a b~c'd", "~", "|", "tip", "2"],
    3: ["", "2026-02-30", "2023-02-29", "2026-2-3", "26-02-03", "2026-02-03 00:00", "now", "2026-13-01", "2026-00-10",
        "2026-01-00", "+026-01-01", "2026-01-01\n", "٢٠٢٦-01-01"],
    4: ["", "-", "1.", ".5", "1e3", "--1", "1-", "1.2.3", "1,5", " 1", "1\n", "٣", "0x10", "+1"],
    5: ["", "enc:", "ENC:x", "password", " enc:x"],
}  # fmt: skip


@pytest.mark.parametrize("ftype", GOOD)
def test_good_values_are_stored_and_bad_ones_are_refused(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any, ftype: int
) -> None:
    field = make_field(plain_sql, ftype, "a b~c'd|tip|2" if ftype == 2 else "")
    client = any_two_clients.contoso
    for value in GOOD[ftype]:
        set_value(plain_sql, field, client, value)
        assert plain_sql("SELECT value FROM extrafielddata WHERE extrafieldid = ? AND id = ?", field, client) == [
            (value,)
        ]
    before = plain_sql("SELECT value FROM extrafielddata WHERE extrafieldid = ? AND id = ?", field, client)
    log = changes(plain_sql)
    for value in BAD.get(ftype, []):
        with pytest.raises(REFUSED):
            set_value(plain_sql, field, client, value)
        with pytest.raises(REFUSED):
            set_value(plain_sql, field, any_two_clients.fabrikam, value)
    assert plain_sql("SELECT value FROM extrafielddata WHERE extrafieldid = ?", field) == before
    assert changes(plain_sql) == log


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.one_of(st.text(max_size=6), st.text("0123456789.-", max_size=6), st.dates().map(str)))
@pytest.mark.parametrize("ftype", [1, 2, 3, 4, 5])
def test_both_databases_and_the_verbs_agree_on_values(any_installation: Installation, ftype: int, value: str) -> None:
    """One judgement in three places: SQLite's triggers, PostgreSQL's, and the verb's own check."""
    from sqlalchemy import text

    from agent.errors import Conflict, UsageError
    from agent.inventory.field_values import checked_value
    from agent.model.fields import ExtraField

    if "\0" in value or not value.isprintable():
        return
    field = ExtraField(id=None, form=3, name="x", ftype=ftype, fill="1~2026-01-01~-5|t|0", ltguid="x")
    try:
        if ftype == 5:
            accepted = value.startswith("enc:") and len(value) > 4
        else:
            checked_value(None, field, value, {})  # type: ignore[arg-type]
            accepted = True
    except UsageError:
        accepted = False
    try:
        with any_installation.database.session() as session:
            session.execute(
                text("INSERT INTO extrafield (id, form, name, ftype, fill, ltguid) VALUES (77, 3, 'x', :t, :f, 'x')"),
                {"t": ftype, "f": field.fill},
            )
            session.execute(
                text("INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (77, 0, :v)"), {"v": value}
            )
            session.execute(text("DELETE FROM extrafielddata WHERE extrafieldid = 77"))
            session.execute(text("DELETE FROM extrafield WHERE id = 77"))
        stored = True
    except Conflict:
        stored = False
    assert stored == accepted


def test_an_alias_becomes_its_option_and_is_logged_once(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any
) -> None:
    set_value(plain_sql, PROCESS, any_two_clients.contoso, "Ticket+Continue")
    set_value(plain_sql, PROCESS, any_two_clients.contoso, "Ticket + Continue")
    set_value(plain_sql, PROCESS, any_two_clients.contoso, "Ticket+Continue", "ann")
    set_value(plain_sql, PROCESS, any_two_clients.contoso, "Ticket + Halt", "ann")
    set_value(plain_sql, PROCESS, any_two_clients.contoso, "Ticket+Continue", "bob")
    assert plain_sql("SELECT value, changedby FROM extrafielddata") == [("Ticket + Continue", None)]
    assert [c[0:1] + c[3:] for c in changes(plain_sql)] == [
        (None, None, "Ticket + Continue"),
        ("ann", "Ticket + Continue", "Ticket + Halt"),
        ("bob", "Ticket + Halt", "Ticket + Continue"),
    ]


def test_each_change_is_logged_with_who_made_it(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any
) -> None:
    site = any_two_clients.contoso_site
    set_value(plain_sql, SITE_FLAG, site, "1")
    set_value(plain_sql, SITE_FLAG, site, "0", "ann")
    plain_sql("UPDATE extrafielddata SET value = '1' WHERE extrafieldid = ? AND id = ?", SITE_FLAG, site)
    plain_sql("UPDATE extrafielddata SET value = '1' WHERE extrafieldid = ? AND id = ?", SITE_FLAG, site)
    plain_sql("DELETE FROM extrafielddata WHERE extrafieldid = ? AND id = ?", SITE_FLAG, site)
    set_value(plain_sql, SITE_FLAG, site, "1")
    assert changes(plain_sql) == [
        (None, SITE_FLAG, site, None, "1"), ("ann", SITE_FLAG, site, "1", "0"), (None, SITE_FLAG, site, "0", "1"),
        (None, SITE_FLAG, site, "1", None), (None, SITE_FLAG, site, None, "1"),
    ]  # fmt: skip


@pytest.mark.parametrize("recursive", ["off", "on"])
def test_replace_is_logged_with_the_old_value(installation: Installation, two_clients: Places, recursive: str) -> None:
    with closing(sqlite3.connect(str(installation.database.engine.url.database), isolation_level=None)) as plain:
        plain.execute(f"PRAGMA recursive_triggers = {recursive}")
        for value in ("1", "0", "0"):
            plain.execute(
                "REPLACE INTO extrafielddata (extrafieldid, id, value) VALUES (1, ?, ?)", (two_clients.contoso, value)
            )
        log = plain.execute("SELECT oldvalue, newvalue FROM extrafieldchange ORDER BY changeid").fetchall()
        assert log[0] == (None, "1")
        assert log[-1][1] == "0"
        assert ("1", "0") in log or log[1:3] == [("1", None), (None, "0")]
        with pytest.raises(sqlite3.IntegrityError, match="cannot be changed"):
            plain.execute("REPLACE INTO extrafieldchange SELECT * FROM extrafieldchange WHERE changeid = 1")
        with pytest.raises(sqlite3.IntegrityError, match="text, not bytes"):
            plain.execute("UPDATE extrafielddata SET value = x'31'")
        plain.execute("UPDATE extrafielddata SET value = 1")
        assert plain.execute("SELECT typeof(value) FROM extrafielddata").fetchall() == [("text",)]


REFUSED_STATEMENTS = [
    "INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (3, 999, '1')",
    "INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (999, 0, '1')",
    "INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (3, -1, '1')",
    "INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (1, 4, '1')",
    "INSERT INTO extrafielddata (extrafieldid, id, value) VALUES (1, 1, NULL)",
    "UPDATE extrafielddata SET id = 2 WHERE extrafieldid = 4",
    "UPDATE extrafielddata SET extrafieldid = 1 WHERE extrafieldid = 4",
    "UPDATE extrafield SET ftype = 0 WHERE id = 4",
    "UPDATE extrafield SET form = 2 WHERE id = 4",
    "DELETE FROM extrafield WHERE id = 4",
    "INSERT INTO extrafield (form, name, ltguid) VALUES (3, 'offboard CLIENT', 'g')",
    "INSERT INTO extrafield (form, name, ltguid) VALUES (3, 'a\"b', 'g')",
    "INSERT INTO extrafield (form, name, ltguid) VALUES (5, 'a', 'g')",
    "INSERT INTO extrafield (form, name, ftype, ltguid) VALUES (3, 'a', 6, 'g')",
    "UPDATE computers SET platform = 'beos'",
    "UPDATE computers SET transport = 'telnet'",
    "UPDATE computers SET port = 70000",
    "UPDATE computers SET clientid = 2 WHERE computerid = 1",
    "UPDATE computers SET locationid = 2 WHERE computerid = 1",
    "UPDATE computers SET locationid = 99 WHERE computerid = 1",
    "UPDATE locations SET clientid = 2 WHERE locationid = 1",
    "INSERT INTO computers (clientid, locationid, externalid, name) VALUES (1, 2, 'x', 'x')",
    "INSERT INTO contacts (clientid, locationid, externalid, name) VALUES (1, 2, 'x', 'x')",
    "INSERT INTO contacts (clientid, externalid, name) VALUES (99, 'x', 'x')",
    "INSERT INTO locations (clientid, externalid, name) VALUES (99, 'x', 'x')",
    "INSERT INTO computers (clientid, locationid, externalid, name) VALUES (1, 1, 'contoso-pc1', 'x')",
    "INSERT INTO clients (externalid, name, slug) VALUES ('x', 'x', '../x')",
    "INSERT INTO clients (externalid, name, slug) VALUES ('x', 'x', 'X')",
    "INSERT INTO clients (externalid, name, slug) VALUES ('x', '', 'x')",
    "DELETE FROM clients WHERE clientid = 1",
    "DELETE FROM locations WHERE locationid = 1",
    "INSERT INTO agentcomputerdata (computerid, uptimestart, uptimeend) VALUES (1, '24:00', '10:00')",
    "INSERT INTO agentcomputerdata (computerid, uptimestart, uptimeend) VALUES (1, '8:00', '10:00')",
    "INSERT INTO agentcomputerdata (computerid, uptimestart, uptimeend) VALUES (1, '10:60', '11:00')",
    "INSERT INTO agentcomputerdata (computerid, uptimestart, uptimeend) VALUES (1, 'ab:cd', '11:00')",
    "INSERT INTO agentcomputerdata (computerid, uptimestart) VALUES (1, '10:00')",
    "INSERT INTO maintenancemode (computerid, timestart, durration) VALUES (1, '2026-01-01 00:00:00', 0)",
]


def test_the_database_refuses(any_installation: Installation, any_two_clients: Places, plain_sql: Any) -> None:
    set_value(plain_sql, PROCESS, any_two_clients.contoso, "Ticket + Halt")
    plain_sql("INSERT INTO clients (externalid, name, slug) VALUES ('fits', 'Fits', 'fits')")
    plain_sql("INSERT INTO agentcomputerdata (computerid, uptimestart, uptimeend) VALUES (2, '23:59', '00:00')")
    accepted = []
    for statement in REFUSED_STATEMENTS:
        try:
            plain_sql(statement)
            accepted.append(statement)
        except REFUSED:
            pass
    assert accepted == []


@pytest.mark.parametrize(
    "moment",
    ["1700000000", "2026-01-01", "2026-01-01T10:00:00", "yesterday", "2026-13-01 10:00:00", "2026-02-30 10:00:00", ""],
)
def test_sqlite_refuses_a_time_that_would_not_sort(
    installation: Installation, two_clients: Places, moment: str
) -> None:
    with installation.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE computers SET lastcontact = '2026-01-01 10:00:00'")
    with closing(sqlite3.connect(str(installation.database.engine.url.database), isolation_level=None)) as plain:
        plain.execute("UPDATE computers SET lastcontact = datetime('now')")
        with pytest.raises(sqlite3.IntegrityError, match="YYYY-MM-DD"):
            plain.execute("UPDATE computers SET lastcontact = ?", (moment,))


def test_deleting_a_place_takes_its_values_along(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any
) -> None:
    doomed, kept = any_two_clients.contoso_computers
    for place in (doomed, kept, 0):
        set_value(plain_sql, COMPUTER_FLAG, place, "1")
    set_value(plain_sql, CLIENT_FLAG, any_two_clients.contoso, "1")  # the same number on another level
    plain_sql("INSERT INTO software (computerid, name) VALUES (?, 'App')", doomed)
    with any_installation.database.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM computers WHERE computerid = {doomed}")
    left = plain_sql("SELECT extrafieldid, id FROM extrafielddata ORDER BY 1, 2")
    assert left == [(CLIENT_FLAG, any_two_clients.contoso), (COMPUTER_FLAG, 0), (COMPUTER_FLAG, kept)]
    assert changes(plain_sql)[-1] == (None, COMPUTER_FLAG, doomed, "1", None)
    assert plain_sql("SELECT count(*) FROM software") == [(0,)]


def test_ids_are_never_given_twice(any_installation: Installation, any_two_clients: Places, plain_sql: Any) -> None:
    last = max(any_two_clients.fabrikam_computers)
    plain_sql("DELETE FROM computers WHERE computerid = ?", last)
    plain_sql(
        "INSERT INTO computers (clientid, locationid, externalid, name) VALUES (?, ?, 'again', 'again')",
        any_two_clients.fabrikam, any_two_clients.fabrikam_site,
    )  # fmt: skip
    assert plain_sql("SELECT computerid FROM computers WHERE externalid = 'again'") == [(last + 1,)]


def test_the_views_show_own_value_then_default_then_zero(
    any_installation: Installation, any_two_clients: Places, plain_sql: Any
) -> None:
    one, two = any_two_clients.contoso_computers
    query = 'SELECT "Offboard Computer" FROM v_extradatacomputers WHERE computerid = ?'
    assert plain_sql(query, one) == [("0",)]
    set_value(plain_sql, COMPUTER_FLAG, 0, "1")
    assert plain_sql(query, one) == [("1",)]
    set_value(plain_sql, COMPUTER_FLAG, one, "0")
    assert (plain_sql(query, one), plain_sql(query, two)) == ([("0",)], [("1",)])
    for view, key in (("clients", "clientid"), ("locations", "locationid"), ("contacts", "contactid")):
        rows = plain_sql(f"SELECT {key} FROM v_extradata{view}")
        assert len(rows) == (0 if view == "contacts" else 2)
