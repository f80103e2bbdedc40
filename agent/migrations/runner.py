"""Bring the records' tables up to date, or tell whether they are."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from agent.errors import StoreError


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration without a file; env.py takes the connection from its attributes."""
    config = Config()
    config.set_main_option("script_location", str(files("agent.migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Migrate to the newest revision within the caller's transaction.

    Raises StoreError when the database was made by a newer Exeunt.
    """
    try:
        command.upgrade(configuration(connection), "head")
    except CommandError as error:
        raise StoreError(
            f"the tables cannot be brought up to date: {error}; was a newer Exeunt used before?"
        ) from error


def revisions(connection: Connection) -> tuple[str | None, str | None]:
    """(revision of the database, newest revision); None for a database without records."""
    newest = ScriptDirectory.from_config(configuration()).get_current_head()
    return MigrationContext.configure(connection).get_current_revision(), newest
