"""What the database says when it cannot work: what, where, what to do; never a statement's parameters."""

from __future__ import annotations

import os
import sqlite3
import traceback
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers import kept_port
from sqlalchemy import event, text

from agent.database import Database
from agent.errors import Conflict, SettingsError, StoreError
from agent.installation import Installation
from agent.settings import Settings

if TYPE_CHECKING:
    from conftest import Places

SECRET = "correct horse battery staple"


def file_of(installation: Installation) -> Path:
    return installation.settings.workspace / "inventory.db"


def test_a_locked_database_is_named(installation: Installation) -> None:
    @event.listens_for(installation.database.engine, "connect")
    def _soon(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 50")

    installation.database.engine.dispose()
    with closing(sqlite3.connect(file_of(installation), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(StoreError, match=r"inventory\.db.*another process keeps it locked"),
            installation.database.session() as session,
        ):
            session.execute(text("SELECT 1"))
        with installation.database.reading() as session:  # a reader does not wait for a writer
            assert session.execute(text("SELECT count(*) FROM clients")).scalar() == 0


def test_a_full_disk_is_named_and_nothing_is_half_written(installation: Installation) -> None:
    with pytest.raises(StoreError, match="the disk is full"), installation.database.session() as session:
        pages = session.execute(text("PRAGMA page_count")).scalar()
        session.execute(text(f"PRAGMA max_page_count = {pages}"))
        for number in range(2000):
            session.execute(
                text("INSERT INTO clients (externalid, name, slug) VALUES (:e, :n, :e)"),
                {"e": f"c{number}", "n": "x" * 500},
            )
    installation.database.close()
    with installation.database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM clients")).scalar() == 0


def test_a_file_that_is_no_database_is_named(settings: Settings) -> None:
    (settings.workspace / "inventory.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match=r"inventory\.db.*not a database"):
        Database(settings).initialise()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    database = Database(Settings(workspace=tmp_path / "nowhere"))
    with pytest.raises(StoreError, match="cannot be created: No such file"):
        database.initialise()
    with pytest.raises(StoreError, match="exeunt init"), database.session() as session:
        session.execute(text("SELECT 1"))


def test_a_database_without_tables_asks_for_init(settings: Settings) -> None:
    with pytest.raises(StoreError, match="run `exeunt init` first"), Database(settings).session() as session:
        session.execute(text("SELECT * FROM clients"))


@pytest.mark.skipif(not hasattr(os, "umask"), reason="no file permissions")
def test_the_file_is_for_its_owner_only(installation: Installation) -> None:
    assert file_of(installation).stat().st_mode & 0o077 == 0


def test_an_unreachable_postgresql_is_named_without_its_password(settings: Settings) -> None:
    with kept_port() as port:
        url = f"postgresql+psycopg://ann:{SECRET.split()[0]}@127.0.0.1:{port}/x"
        database = Database(settings.model_copy(update={"database_url": url}))
        with pytest.raises(StoreError, match="EXEUNT_DATABASE_URL does not work") as caught:
            database.initialise()
    assert SECRET.split()[0] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://x/y",
        "postgresql+psycopg2://x/y",
        "postgresql+nodriver://x/y",
        "nosuch://x/y",
        "postgresql+psycopg://host:port/x",
    ],
)
def test_a_wrong_url_is_a_settings_error(settings: Settings, url: str) -> None:
    with pytest.raises(SettingsError, match="EXEUNT_DATABASE_URL"):
        Database(settings.model_copy(update={"database_url": url}))


def test_parameters_stay_out_of_errors(any_installation: Installation) -> None:
    with pytest.raises(Conflict) as caught, any_installation.database.session() as session:
        session.execute(
            text("INSERT INTO clients (externalid, name, slug) VALUES ('x', :secret, :secret)"), {"secret": SECRET}
        )
    assert SECRET not in str(caught.value)
    with pytest.raises((Conflict, StoreError)) as caught, any_installation.database.session() as session:
        session.execute(text("SELECT CAST(:secret AS INTEGER) / no_such_column FROM clients"), {"secret": SECRET})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_rolled_back_session_leaves_nothing(any_installation: Installation, any_two_clients: Places) -> None:
    with pytest.raises(RuntimeError), any_installation.database.session() as session:
        session.execute(text("INSERT INTO clients (externalid, name, slug) VALUES ('x', 'x', 'x')"))
        raise RuntimeError
    with any_installation.database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM clients")).scalar() == 2
