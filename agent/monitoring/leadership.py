"""Who ticks. On SQLite this process does; on PostgreSQL only the holder of a session's advisory lock (DESIGN 5.2)."""

from __future__ import annotations

import threading
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from agent.database import Database

#: Key of the advisory lock: the letters EXMON.
LOCK_KEY = 0x45_58_4D_4F_4E


class Leadership(Protocol):
    """Whether this process may tick."""

    def held(self) -> bool:
        """Whether this process is the one that ticks; asks for it when nobody else is."""

    def release(self) -> None:
        """Let another process tick."""


class AlwaysLeader:
    """The only process."""

    def held(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing is held."""


class AdvisoryLeader:
    """The lock lives as long as its connection: a process that dies or is cut off loses it by itself."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def held(self) -> bool:
        with self._lock:
            try:
                if self._connection is None:
                    return self._acquire()
                # A lost connection means a lost lock.
                self._connection.exec_driver_sql("select 1")
            except DBAPIError:
                self._drop()
                return False
            return True

    def release(self) -> None:
        with self._lock:
            self._drop()

    def _acquire(self) -> bool:
        connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection = connection
        if connection.execute(text("select pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}).scalar_one():
            return True
        self._drop()
        return False

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Not back to the pool: the session would keep the lock.
            connection.invalidate()
            connection.close()


def leadership(database: Database) -> Leadership:
    """How this database's processes agree on who ticks."""
    return AlwaysLeader() if database.settings.is_sqlite else AdvisoryLeader(database)
