"""The inventory's database: connections, transactions, creation. SQLite in the workspace or PostgreSQL by URL.

`edf_schema.sql` (places and extra fields) is executed statement by statement; the records' tables are migrated by Alembic.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlmodel import Session, SQLModel

from agent import shipped
from agent.errors import Conflict, SettingsError, StoreError
from agent.model import administration, fields, monitors, places, runs, tickets
from agent.settings import Settings

#: Modules whose tables `edf_schema.sql` creates; the tables of the others are records.
SCHEMA_MODULES = (places, fields)
RECORD_MODULES = (administration, monitors, runs, tickets)


class Database:
    """One database. Safe to use from many threads; cheap to make, connects on first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = _create_engine(settings)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that may write: committed at the end, rolled back on any error.

        Raises Conflict when a rule of the database refuses the data, StoreError when the database does not work.
        """
        try:
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                yield session
        except IntegrityError as error:
            raise Conflict(f"the database refused this: {_reason(error)}") from error
        except OperationalError as error:
            raise StoreError(f"the database does not work: {_reason(error)}") from error
        except DBAPIError as error:
            # PostgreSQL's triggers raise a plain database error where SQLite raises an IntegrityError.
            raise Conflict(f"the database refused this: {_reason(error)}") from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads; it never waits for a writer on SQLite."""
        bound = self.engine.execution_options(exeunt_reading=True)
        try:
            with Session(bound, expire_on_commit=False) as session, session.begin():
                yield session
        except OperationalError as error:
            raise StoreError(f"the database does not work: {_reason(error)}") from error

    def initialise(self) -> None:
        """Create what is missing. Doing it again changes nothing."""
        try:
            with self.engine.begin() as connection:
                if not inspect(connection).has_table("clients"):
                    for statement in schema_statements(connection.dialect.name):
                        connection.exec_driver_sql(statement)
                record_names = {t.__tablename__ for m in RECORD_MODULES for t in tables_of(m)}
                SQLModel.metadata.create_all(connection, [SQLModel.metadata.tables[str(n)] for n in record_names])
        except OperationalError as error:
            raise StoreError(f"the database cannot be created: {_reason(error)}") from error

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def tables_of(module: Any) -> list[type[SQLModel]]:
    """The table classes that a module of `agent.model` defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, SQLModel) and hasattr(value, "__table__")
        and value.__module__ == module.__name__
    ]  # fmt: skip


def schema_statements(dialect: str) -> list[str]:
    """The statements of `edf_schema.sql` for a dialect (`sqlite` or `postgresql`), in order.

    The file is divided by lines `--- all ---`, `--- sqlite ---`, `--- postgresql ---`; statements end with a line that
    is only `;;` (a trigger's body holds single semicolons).
    """
    chosen: list[str] = []
    keep = True
    for line in shipped.text("edf_schema.sql").splitlines():
        if line.startswith("--- ") and line.rstrip().endswith(" ---"):
            keep = line.strip("- \n") in ("all", dialect)
        elif keep:
            chosen.append(line)
    return [part.strip() for part in "\n".join(chosen).split("\n;;") if part.strip()]


def _create_engine(settings: Settings) -> Engine:
    if not settings.is_sqlite:
        try:
            return create_engine(settings.inventory_url, pool_pre_ping=True, pool_size=settings.concurrency_total + 4)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"EXEUNT_DATABASE_URL needs the driver {error.name}: install exeunt[postgresql]"
            ) from error
    engine = create_engine(settings.inventory_url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            "busy_timeout=30000", "journal_mode=wal", f"synchronous={settings.sqlite_synchronous}", "foreign_keys=on",
            "recursive_triggers=off",
        ):  # fmt: skip
            connection.execute("pragma " + pragma)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that will write takes the write lock at once: a lock taken later cannot be waited for.
        reading = connection.get_execution_options().get("exeunt_reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _reason(error: DBAPIError) -> str:
    """The driver's own words, without the statement and its parameters: those may hold a secret."""
    return str(error.orig).splitlines()[0] if error.orig and str(error.orig) else type(error.orig).__name__
