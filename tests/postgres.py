"""A PostgreSQL server for tests: loopback, a free port, its own folder; a template database is copied for each test.

Use the fixture `postgres_url` (a new empty database), or `any_installation` (the same test on SQLite and on PostgreSQL).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path

import psycopg
import pytest
from peers import kept_port, require

from agent.database import Database
from agent.settings import Settings

_NUMBERS = count(1)


@dataclass
class PostgresServer:
    """A running server. `url(...)` is for SQLAlchemy, `connect(...)` is psycopg itself."""

    port: int
    templates: set[str] = field(default_factory=set)

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A plain connection in autocommit mode."""
        return psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True)

    @cached_property
    def administration(self) -> psycopg.Connection[tuple[object, ...]]:
        """The connection that makes and drops databases, open until the server stops."""
        return self.connect()

    def create(self, template: str = "template1") -> str:
        """A new database copied from a template; its name."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        # Copying the files takes half the time of copying through the log, which is there for large servers.
        self.administration.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop(self, name: str) -> None:
        """Remove a database that `create` made."""
        self.administration.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def template(self, name: str, fill: object) -> str:
        """The template database of that name, filled by `fill(url)` when it is asked for the first time."""
        if name not in self.templates:
            self.administration.execute(f"CREATE DATABASE {name}")
            assert callable(fill)
            fill(self.url(name))
            self.templates.add(name)
        return name


def _binaries() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    found = require("initdb", "postgresql", path=os.pathsep.join([*map(str, reversed(versions)), os.environ["PATH"]]))
    return Path(found).resolve().parent


def _run(*command: str) -> None:
    # initdb and postgres refuse to run as root.
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=300, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Start a server and stop it at the end. `durable` keeps fsync on, as benchmarks and claims of durability need."""
    binaries = _binaries()
    # Not under pytest's own folder: that is closed to the user postgres, and a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="exeunt-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data = str(folder / "data")
        how = ("-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        _run(str(binaries / "initdb"), "-D", data, *how)
        with kept_port() as port:
            options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c max_connections=100"
            options += " -c shared_buffers=64MB"
            if not durable:
                options += " -c autovacuum=off -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
            # The server would keep the pipes of its starter open, so it writes to its log.
            _run(str(binaries / "pg_ctl"), "-w", "-t", "240", "-D", data, "-l", str(folder / "log"), "-o", options, "start")
        server = PostgresServer(port)
        try:
            yield server
        finally:
            if "administration" in vars(server):
                server.administration.close()
            _run(str(binaries / "pg_ctl"), "-w", "-t", "240", "-D", data, "-m", "fast", "stop")
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def create_tables(url: str) -> None:
    """Create Exeunt's tables in an empty database."""
    database = Database(Settings(workspace=Path("/nonexistent"), database_url=url))
    database.initialise()
    database.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of this process."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of a new database with nothing in it; it is removed after the test."""
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)
