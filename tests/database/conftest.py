"""Raw connections to an installation's database, the way that somebody with plain SQL has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from agent.installation import Installation

#: Executes a statement with `?` for its parameters; the rows, if any.
PlainSql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def plain_sql(any_installation: Installation) -> Iterator[PlainSql]:
    """A connection of the driver itself, autocommit, foreign keys as the driver has them (off on SQLite)."""
    url = any_installation.database.engine.url
    with ExitStack() as stack:
        if url.get_backend_name() == "sqlite":
            lite = stack.enter_context(closing(sqlite3.connect(str(url.database), isolation_level=None, timeout=30)))
            yield lambda statement, *values: lite.execute(statement, values).fetchall()
        else:
            connection = stack.enter_context(
                psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database, autocommit=True)
            )

            def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
                cursor = connection.execute(statement.replace("%", "%%").replace("?", "%s"), values or None)
                return cursor.fetchall() if cursor.description else []

            yield execute
