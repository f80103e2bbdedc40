"""Places by words, on both databases: what is found, in which order, and that plain SQL keeps the index."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from peers import require
from sqlalchemy import text
from sqlmodel import Session, select

from agent.database import Database, schema_statements
from agent.installation import Installation
from agent.inventory import places
from agent.inventory.search import MOST_WORDS, matching, words_of
from agent.migrations.runner import configuration
from agent.model.places import Client, Computer, Contact, Location
from agent.settings import Settings

if TYPE_CHECKING:
    from conftest import Places


def found(session: Session, model: Any, typed: str, clients: Any = None) -> list[str]:
    query, order = matching(session, select(model), model, typed, clients)
    return [row[0].name for row in session.execute(query.order_by(order))]


@pytest.fixture
def session(any_installation: Installation, any_two_clients: Places) -> Any:
    with any_installation.database.session() as session:
        where = {"location_id": any_two_clients.contoso_site, "actor": "ann"}
        places.add_computer(session, name="NYC-LT00423", user_name="CONTOSO\\byron", address="192.0.2.7", **where)  # type: ignore[arg-type]
        places.add_computer(session, name='<b>"quoted"</b>', external_id="asset-77", **where)  # type: ignore[arg-type]
        places.add_contact(
            session, client_id=any_two_clients.contoso, name="Ada Byron", actor="ann", email="ada@contoso.example",
            upn="ab@contoso.onmicrosoft.example", external_ids={"zoom": "zx81"},
        )  # fmt: skip
        yield session


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("nyc", ["NYC-LT00423"]), ("NYC-LT004", ["NYC-LT00423"]), ("lt00423", ["NYC-LT00423"]), ("byro", ["NYC-LT00423"]),
        ("192.0.2", ["NYC-LT00423"]), ("asset-77", ['<b>"quoted"</b>']), ("77 quot", ['<b>"quoted"</b>']),
        ("pc1", ["CONTOSO-PC1", "FABRIKAM-PC1"]), ("contoso pc", ["CONTOSO-PC1", "CONTOSO-PC2"]),
        ("yc", []), ("", []), ("--- \"*'", []), ('" OR words : a', []), ("nyc zzz", []),
    ],
)  # fmt: skip
def test_each_word_begins_a_word_of_the_computer(session: Session, typed: str, expected: list[str]) -> None:
    assert found(session, Computer, typed) == expected


@pytest.mark.parametrize("typed", ["ada", "byron ada", "ada@con", "zx81", "AB@contoso.onm"])
def test_a_person_is_found_by_name_address_and_ids(session: Session, typed: str) -> None:
    assert found(session, Contact, typed) == ["Ada Byron"]


def test_clients_and_locations_are_found(session: Session) -> None:
    assert found(session, Client, "fab") == ["Fabrikam"]
    assert found(session, Location, "head") == ["Headquarters", "Headquarters"]


def test_only_clients_that_count_are_searched(session: Session, any_two_clients: Places) -> None:
    assert found(session, Computer, "pc1", {any_two_clients.fabrikam}) == ["FABRIKAM-PC1"]
    assert found(session, Computer, "pc1", set()) == []


def test_plain_sql_keeps_the_words(session: Session, any_two_clients: Places) -> None:
    one, two = any_two_clients.contoso_computers
    session.execute(text("UPDATE computers SET name = 'RENAMED' WHERE computerid = :one"), {"one": one})
    session.execute(text("DELETE FROM computers WHERE computerid = :two"), {"two": two})
    assert found(session, Computer, "renamed") == ["RENAMED"]
    assert found(session, Computer, "contoso-pc2") == []
    session.execute(text("UPDATE computers SET lastcontact = NULL"))
    assert found(session, Computer, "renamed") == ["RENAMED"]


def test_sqlite_replaces_words_with_their_row(installation: Installation, two_clients: Places) -> None:
    with installation.database.session() as session:
        for name in ("first", "second"):
            session.execute(
                text(
                    "INSERT OR REPLACE INTO clients (clientid, externalid, name, slug) VALUES (9, 'nine', :name, 'nine')"
                ),
                {"name": name},
            )
        assert found(session, Client, "first") == [] and found(session, Client, "second") == ["second"]


def test_the_stock_command_line_changes_places_and_fields(installation: Installation, two_clients: Places) -> None:
    """People change the inventory by plain SQL with Debian's `sqlite3`, which must know what the triggers need."""
    program = require("sqlite3", "sqlite3")
    added = "(clientid, locationid, externalid, name) VALUES"
    sql = f"""
        INSERT INTO computers {added} ({two_clients.contoso}, {two_clients.contoso_site}, 'plain-1', 'PLAIN-PC');
        UPDATE computers SET name = 'RENAMED-PC' WHERE externalid = 'plain-1';
        INSERT INTO extrafielddata (extrafieldid, id, value) SELECT 3, computerid, '1' FROM computers WHERE name = 'RENAMED-PC';
        UPDATE extrafielddata SET value = '0' WHERE extrafieldid = 3;
        SELECT count(*) FROM placewords WHERE placewords MATCH 'renamed OR plain';
        DELETE FROM computers WHERE externalid = 'plain-1';
        SELECT count(*) FROM placewords WHERE placewords MATCH 'renamed';
        SELECT count(*) FROM extrafielddata WHERE extrafieldid = 3;
        INSERT INTO clients (externalid, name, slug) VALUES ('plain-c', 'Plain Ltd', 'plain');
        UPDATE contacts SET name = name || ' Plainly'; UPDATE locations SET name = 'Plain Site';
        DELETE FROM clients WHERE slug = 'plain';
    """
    database = str(installation.database.engine.url.database)
    done = subprocess.run([program, "-bail", database, sql], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["1", "0", "0"])
    with installation.database.reading() as session:
        assert found(session, Location, "plain site")


def test_a_workspace_of_before_gets_its_words(settings: Settings) -> None:
    database = Database(settings)
    with database.engine.begin() as connection:
        for statement in schema_statements("sqlite"):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("CREATE INDEX computers_name ON computers (name)")
        command.upgrade(configuration(connection), "0005_user_names")
        connection.exec_driver_sql(
            "INSERT INTO clients (clientid, externalid, name, slug) VALUES (1, 'c', 'Contoso', 'c')"
        )
        connection.exec_driver_sql(
            "INSERT INTO locations (locationid, clientid, externalid, name) VALUES (1, 1, 'l', 'HQ')"
        )
        connection.exec_driver_sql(
            "INSERT INTO computers (clientid, locationid, externalid, name) VALUES (1, 1, 'x', 'CONTOSO-PC2')"
        )
    database.initialise()
    with database.reading() as session:
        assert found(session, Computer, "pc2") == ["CONTOSO-PC2"]
        assert found(session, Client, "cont") == ["Contoso"]
    assert database.is_current()
    database.close()


@given(st.text())
def test_words_hold_nothing_that_a_query_could_mean(typed: str) -> None:
    words = words_of(typed)
    assert len(words) <= MOST_WORDS
    assert all(word.isalnum() for word in words)
