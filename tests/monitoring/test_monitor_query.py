"""A monitor's SQL only reads, and time, rows and memory are bounded, on both databases."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from agent.errors import MonitorQueryError
from agent.installation import Installation
from agent.model.administration import Credential, SystemProperty
from agent.monitoring.bounds import FORBIDDEN_TABLES, readable_tables
from agent.monitoring.query import Query, run_query
from agent.monitoring.sqltext import read_query
from agent.settings import Settings

postgresql_only = pytest.mark.parametrize("any_installation", ["postgresql"], indirect=True)

WRITES = [
    "DELETE FROM computers",
    "DELETE FROM computers RETURNING computerid",
    "INSERT INTO clients (externalid, name, slug) VALUES ('x', 'x', 'x') RETURNING clientid",
    "WITH gone AS (DELETE FROM computers RETURNING computerid) SELECT computerid FROM gone",
    "WITH x AS (SELECT 1) DELETE FROM computers",
    "WITH x AS (SELECT 1) UPDATE computers SET name = 'x'",
    "UPDATE computers SET name = 'x'",
    "DROP TABLE computers",
    "CREATE TABLE x (y INTEGER)",
    "SELECT 1; DELETE FROM computers",
    "SELECT 1;\n-- a remark\nDELETE FROM computers",
    "SELECT 1 /* ; */ ; SELECT 2",
    "BEGIN",
    "COMMIT",
    "VACUUM",
    "",
    "-- nothing",
]


def snapshot(installation: Installation) -> list[tuple[object, ...]]:
    with installation.database.reading() as session:
        names = [tuple(r) for r in session.execute(text("SELECT computerid, name FROM computers ORDER BY 1"))]
        return [*names, *(tuple(r) for r in session.execute(text("SELECT clientid, name FROM clients ORDER BY 1")))]


def narrow(installation: Installation, **limits: object) -> Installation:
    """The same database with other limits."""
    return Installation(installation.settings.model_copy(update=limits))


def refused(installation: Installation, sql: str) -> str:
    """The message with which a query is refused; nothing has changed after it."""
    before = snapshot(installation)
    with pytest.raises(MonitorQueryError) as error:
        run_query(installation.database, Query(sql))
    assert snapshot(installation) == before
    assert run_query(installation.database, Query("SELECT 1 AS one")).rows[0][0] == 1
    return str(error.value)


@pytest.mark.parametrize("sql", WRITES)
def test_no_write_passes(any_installation: Installation, any_two_clients: object, sql: str) -> None:
    refused(any_installation, sql)


def test_the_write_tests_can_fail(any_installation: Installation, any_two_clients: object) -> None:
    """The same statement, by a connection without bounds, does delete."""
    with any_installation.database.session() as session:
        session.execute(text("DELETE FROM computers"))
    assert len(snapshot(any_installation)) == 2


@pytest.mark.parametrize("table", sorted(FORBIDDEN_TABLES))
def test_secrets_are_not_read(any_installation: Installation, table: str) -> None:
    with any_installation.database.session() as session:
        session.add(Credential(kind="ssh", name="a", secret="enc:v1:top-secret"))
        session.add(SystemProperty(name="a", value="top-secret", is_secret=True))
    for sql in (
        f"SELECT * FROM {table}", f"SELECT count(*) FROM {table}", f'SELECT x FROM (SELECT 1 AS x FROM "{table}") AS y',
        f"WITH y AS (SELECT * FROM {table.upper()}) SELECT * FROM y",
        f"SELECT (SELECT max(1) FROM {table}) FROM computers", f"SELECT 1 WHERE EXISTS (SELECT 1 FROM {table})",
    ):  # fmt: skip
        message = refused(any_installation, sql)
        assert table in message.lower()
        assert "top-secret" not in message


def test_every_other_table_is_readable(any_installation: Installation) -> None:
    for table in sorted(readable_tables()):
        run_query(any_installation.database, Query(f"SELECT * FROM {table}"))
    for view in ("v_extradataclients", "v_extradatacomputers"):
        run_query(any_installation.database, Query(f"SELECT * FROM {view}"))


def test_a_query_that_never_ends_is_ended(any_installation: Installation) -> None:
    hasty = narrow(any_installation, monitor_seconds=2)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n WHERE i < 0"
    thirty = "(SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) AS "
    explosion = "SELECT count(*) FROM " + ", ".join(f"{thirty} t{i}" for i in range(30))
    for sql in (endless, explosion):
        started = time.monotonic()
        message = refused(hasty, sql)
        assert "longer than 2 s" in message and "EXEUNT_MONITOR_SECONDS" in message
        assert time.monotonic() - started < 60
    hasty.database.close()


def test_rows_are_limited_and_never_cut_off(any_installation: Installation) -> None:
    small = narrow(any_installation, monitor_rows=100)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n"
    assert len(run_query(small.database, Query(numbers.format(100))).rows) == 100
    assert "more than 100 rows" in refused(small, numbers.format(101))
    small.database.close()


def test_a_large_result_is_refused(any_installation: Installation) -> None:
    chunk = "'" + "x" * 50_000 + "'"
    sql = (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i, {chunk} AS v FROM n"
    )
    assert "bytes" in refused(any_installation, sql)


def test_parameters(any_installation: Installation, any_two_clients: object) -> None:
    sql = (
        "SELECT name, '12:30 :now %s %' AS quoted FROM computers WHERE lastcontact > :online_since AND "
        "lastcontact < :days_ahead_1 AND name LIKE '%PC1' AND '2000-01-01' < :today AND :today_minus_1 < :today_plus_1 "
        "ORDER BY name -- :nothing"
    )
    rows = run_query(any_installation.database, Query(sql)).rows
    assert [tuple(r) for r in rows] == [("CONTOSO-PC1", "12:30 :now %s %"), ("FABRIKAM-PC1", "12:30 :now %s %")]
    assert ":online_since" in refused(any_installation, "SELECT name FROM computers WHERE name = :nobody")
    assert "calendar" in refused(any_installation, "SELECT name FROM computers WHERE lastcontact < :days_ago_999999")


@pytest.mark.parametrize(
    ("zone", "today"), [("UTC", "2026-02-28"), ("Europe/Berlin", "2026-03-01"), ("America/Los_Angeles", "2026-02-28")]
)
def test_today_is_a_day_of_the_installations_time_zone(
    any_installation: Installation, any_two_clients: object, monkeypatch: pytest.MonkeyPatch, zone: str, today: str
) -> None:
    monkeypatch.setattr(Settings, "zone", ZoneInfo(zone))
    query = Query(
        "SELECT name FROM computers WHERE name = 'CONTOSO-PC1' AND :today = :expected AND :today_minus_1 < :expected "
        "AND :today_plus_1 > :expected AND :today_everywhere = '2026-02-28'", {"expected": today},
    )  # fmt: skip
    late = datetime(2026, 2, 28, 23, 30, tzinfo=UTC)
    assert len(run_query(any_installation.database, query, now=late).rows) == 1


def test_an_own_value_is_bound_and_not_read_as_sql(any_installation: Installation, any_two_clients: object) -> None:
    query = Query("SELECT name FROM computers WHERE name = :wanted", {"wanted": "x' OR '1'='1"})
    assert not run_query(any_installation.database, query).rows


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("ATTACH '/tmp/x' AS x", "ATTACH"),
        ("PRAGMA writable_schema=1", "PRAGMA"),
        ("SELECT load_extension('x')", "load_extension"),
        ("SELECT * FROM pragma_table_info('credential')", "only reads"),
        ("SELECT sql FROM sqlite_master", "sqlite_master"),
        ("SELECT sql FROM sqlite_schema WHERE sql LIKE '%secret%'", "sqlite_"),
        ("SELECT randomblob(1000000000)", "randomblob"),
        ("SELECT zeroblob(1000000000)", "zeroblob"),
        ("SELECT replace(printf('%1000d', 1), ' ', printf('%1000d', 1))", ""),
        ("SELECT group_concat(i, 'xxxxxxxxxxxxxxxxxxxx') FROM (WITH RECURSIVE n(i) AS "
         "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n)", ""),
        ("SELECT 'x' LIKE '" + "%a" * 2000 + "'", "LIKE"),
        ("SELECT 1 AS \"a", ""),
        ("SELECT 1 /* /* */ */", "nested"),
    ],
)  # fmt: skip
def test_sqlite_is_closed_in(installation: Installation, two_clients: object, sql: str, reason: str) -> None:
    assert reason.lower() in refused(installation, sql).lower()


@pytest.mark.parametrize("call", ["printf('%1000000000d', 1)", "printf('%.*c', 100000000, 'x')"])
def test_a_value_as_large_as_memory_is_not_made(installation: Installation, call: str) -> None:
    rows = run_query(installation.database, Query(f"SELECT length({call})")).rows
    assert rows[0][0] is None or rows[0][0] < 1_000_000


def test_a_like_that_backtracks_for_long_is_bounded(installation: Installation) -> None:
    hasty = narrow(installation, monitor_seconds=2)
    started = time.monotonic()
    sql = "SELECT count(*) FROM (SELECT 1 UNION ALL SELECT 2) WHERE printf('%100000d', 1) LIKE '" + "%_1" * 100 + "'"
    with suppress(MonitorQueryError):
        run_query(hasty.database, Query(sql))
    assert time.monotonic() - started < 60


def test_the_connection_itself_is_read_only(installation: Installation) -> None:
    """Without the authorizer the file is still opened read-only: two walls, not one."""
    from agent.monitoring import sqlite_query
    from agent.monitoring.bounds import Bounds

    reader = sqlite_query._Reader(installation.settings, Bounds(installation.settings))
    reader.connection.set_authorizer(None)
    with pytest.raises(Exception, match="readonly"):
        reader.connection.execute("CREATE TABLE x (y)")
    reader.connection.execute("pragma query_only=off")
    # The search's triggers of the places are refused even before: they write a virtual table, which this connection distrusts.
    for table, reason in (("ticket", "readonly"), ("extrafielddata", "readonly"), ("computers", "readonly|unsafe use")):
        with pytest.raises(sqlite3.Error, match=reason):
            reader.connection.execute(f"DELETE FROM {table}")
    reader.connection.close()


def test_a_workspace_with_a_strange_name(tmp_path: Path) -> None:
    folder = tmp_path / "a 41 #'\" ü &mode=rwc"
    folder.mkdir()
    installation = Installation(Settings(workspace=folder))
    installation.database.initialise()
    assert not run_query(installation.database, Query("SELECT computerid FROM computers")).rows
    installation.database.close()


@postgresql_only
@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT set_config('transaction_read_only', 'off', true)", "set_config"),
        ('SELECT "set_config"(\'transaction_read_only\', \'off\', true)', "set_config"),
        ("SELECT U&\"s\\0065t_config\"('transaction_read_only', 'off', true)", "U&"),
        ("SET transaction_read_only = off", "SET"),
        ("COPY (SELECT 1) TO PROGRAM 'touch /tmp/x'", "COPY"),
        ("SELECT pg_sleep(60)", "pg_sleep"),
        ("SELECT pg_read_file('/etc/passwd')", "pg_read_file"),
        ("SELECT pg_catalog.pg_ls_dir('.')", "pg_"),
        ("SELECT * FROM dblink('dbname=postgres', 'DELETE FROM computers') AS t(x text)", "dblink"),
        ("SELECT query_to_xml('SELECT secret FROM credential', true, true, '')", "query_to_xml"),
        ("SELECT table_to_xml('credential', true, true, '')", "table_to_xml"),
        ("SELECT lo_import('/etc/passwd')", "lo_import"),
        ("SELECT nextval('x')", "nextval"),
        ("SELECT pg_advisory_lock(1)", "pg_advisory_lock"),
        ("SELECT pg_terminate_backend(1)", "pg_terminate_backend"),
        ("SELECT rolpassword FROM pg_authid", "pg_authid"),
        ("SELECT table_name FROM information_schema.tables", "information_schema"),
        ("SELECT repeat('x', 1000000000)", "repeat"),
        ("SELECT name INTO copied FROM computers", ""),
        ("SELECT name FROM computers FOR UPDATE", ""),
        ("SELECT $$x$$", "$"),
        ("SELECT 1) TO STDOUT --", ""),
        ("SELECT ts_stat('SELECT secret FROM credential')", "ts_stat"),
    ],
)  # fmt: skip
def test_postgresql_is_closed_in(
    any_installation: Installation, any_two_clients: object, sql: str, reason: str
) -> None:
    assert reason.lower() in refused(any_installation, sql).lower()


@postgresql_only
def test_no_column_is_taken_for_a_function_with_effects(any_installation: Installation) -> None:
    from sqlmodel import SQLModel

    for table in SQLModel.metadata.sorted_tables:
        if table.name in readable_tables():
            columns = ", ".join(column.name for column in table.columns)
            run_query(any_installation.database, Query(f"SELECT {columns} FROM {table.name}"))


@postgresql_only
def test_a_role_without_rights_is_taken_on(any_installation: Installation) -> None:
    with any_installation.database.session() as session:
        session.execute(text("CREATE ROLE exeunt_monitor_test NOLOGIN"))
        session.execute(text("GRANT SELECT ON computers TO exeunt_monitor_test"))
    limited = narrow(any_installation, monitor_role="exeunt_monitor_test")
    try:
        assert not run_query(limited.database, Query("SELECT name FROM computers")).rows
        with pytest.raises(MonitorQueryError, match="permission denied"):
            run_query(limited.database, Query("SELECT name FROM clients"))
    finally:
        limited.database.close()
        with any_installation.database.session() as session:
            session.execute(text("DROP OWNED BY exeunt_monitor_test"))
            session.execute(text("DROP ROLE exeunt_monitor_test"))


def test_settings_of_the_transaction_do_not_stay_in_the_pool(any_installation: Installation) -> None:
    run_query(any_installation.database, Query("SELECT 1"))
    with any_installation.database.session() as session:
        session.execute(text("UPDATE clients SET name = 'x' WHERE clientid = 0"))


@postgresql_only
def test_times_are_utc_whatever_the_zone_of_the_server(any_installation: Installation) -> None:
    with any_installation.database.session() as session:
        name = session.scalar(text("SELECT current_database()"))
        session.execute(text(f"ALTER DATABASE {name} SET timezone = 'America/Los_Angeles'"))
    # Connections that are open keep what they had.
    any_installation.database.engine.dispose()
    with any_installation.database.engine.connect() as connection:
        assert connection.scalar(text("SHOW timezone")) == "America/Los_Angeles"
    sql = "SELECT TIMESTAMPTZ '2026-11-22 05:00Z' AS at, CAST(TIMESTAMPTZ '2026-11-22 05:00Z' AS TEXT) AS said"
    ((at, said),) = run_query(any_installation.database, Query(sql)).rows
    assert (at.isoformat(), said) == ("2026-11-22T05:00:00+00:00", "2026-11-22 05:00:00+00")


def test_a_trailing_semicolon_and_comments_are_accepted(any_installation: Installation) -> None:
    sql = "/* what it is for; */ SELECT 1 AS one, ';' AS two -- end; of it\n ; -- really\n ;"
    assert [tuple(r) for r in run_query(any_installation.database, Query(sql)).rows] == [(1, ";")]


def test_names_are_found_outside_strings_and_comments() -> None:
    query = read_query("SELECT \"Offboard Client\", 'credential :x' -- :y credential\nFROM Clients WHERE a::text = :z")
    assert query.parameters == {"z"}
    assert query.names == {"select", "Offboard Client", "from", "clients", "where", "a", "text"}
