"""Which workers are alive: each holds a lock that its death releases, whatever way it dies.

SQLite: a file in `<workspace>/workers` under `flock`. PostgreSQL: a session advisory lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, text

from agent.errors import StoreError
from agent.installation import Installation
from agent.settings import Settings

#: In place of a worker's id: the lock that all workers share (PostgreSQL).
_ANY = "any worker"
#: Seconds between two looks whether another worker has let go of a client.
OTHERS_POLL = 0.1


class Liveness:
    """The lock of one worker, and the question whether another worker still holds its own."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._file: int | None = None
        self._connection: Connection | None = None

    def hold(self, executor_id: str) -> None:
        """Hold the lock of this worker until `release` or the end of the process."""
        if self.installation.settings.is_sqlite:
            path = self._path(executor_id)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        else:
            self._connection = self.installation.database.engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            )
            self._connection.execute(text("select pg_advisory_lock(:key)"), {"key": _key(executor_id)})
            self._connection.execute(text("select pg_advisory_lock_shared(:key)"), {"key": _key(_ANY)})

    def is_held(self) -> bool:
        """Whether this worker's own lock still stands; on PostgreSQL the connection may have been lost."""
        if self._connection is None:
            return self._file is not None
        return self._connection.execute(text("select 1")).scalar() == 1

    def alive(self, executor_id: str) -> bool:
        """Whether a worker holds its lock."""
        if self.installation.settings.is_sqlite:
            return self._file_held(self._path(executor_id))
        with self.installation.database.engine.begin() as connection:
            free = connection.execute(
                text("select pg_try_advisory_xact_lock(:key)"), {"key": _key(executor_id)}
            ).scalar()
        return not free

    def any_alive(self) -> bool:
        """Whether any worker of this installation is alive."""
        if self.installation.settings.is_sqlite:
            folder = self.installation.settings.workspace / "workers"
            # Every one is looked at, so that what dead workers left is cleared away.
            held = [self._file_held(path) for path in sorted(folder.glob("*.lock"))]
            return any(held)
        return self.alive(_ANY)

    def release(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._connection is not None:
            # A connection that goes back to the pool would keep its locks.
            self._connection.detach()
            self._connection.close()
            self._connection = None

    def _file_held(self, path: Path) -> bool:
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(file)

    def _path(self, executor_id: str) -> Path:
        name = hashlib.sha256(executor_id.encode()).hexdigest()[:16]
        return self.installation.settings.workspace / "workers" / f"{name}.lock"


@contextmanager
def alone(settings: Settings, client_id: int, stopping: threading.Event) -> Iterator[None]:
    """Serve a client while no other worker of this machine does: waits for that, but not once `stopping` is set.

    SQLite: a file in `<workspace>/serving` under `flock`, since a worker may begin before the engine has sent it. On
    PostgreSQL nobody does, and the engine hands a client to one worker at a time.
    """
    if not settings.is_sqlite:
        yield
        return
    path = settings.workspace / "serving" / f"{client_id}.lock"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StoreError(f"the lock {path} cannot be made: {error.strerror}; make room or check permissions") from error
    try:
        while not _locked(file) and not stopping.wait(OTHERS_POLL):
            continue
        yield
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _key(executor_id: str) -> int:
    """A 64-bit signed key out of a worker's id."""
    return int.from_bytes(hashlib.sha256(b"exeunt.worker:" + executor_id.encode()).digest()[:8], "big", signed=True)
