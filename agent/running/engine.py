"""The narrow port to the durable engine: the only module that knows DBOS (DESIGN 5.1, facts `engine.md`).

The truth about runs is in our own tables. The engine only remembers that a client has something to do (a *call*), now or
after a delay, hands each client to one worker at a time, and tells which worker that is; the worker takes the runs from
our tables (`agent.running.dispatcher`). So a plan of a thousand runs costs a call per client, not a thousand. Everything
here may be lost and is made again from our tables by `agent.running.recovery`.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions
from sqlalchemy import Engine as SQLEngine
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from agent.database import explain
from agent.settings import Settings

QUEUE = "exeunt.clients"
WORKFLOW = "exeunt.serve_client"
#: Changes only when the interpreter's contract with stored plans changes; never by itself.
APPLICATION_VERSION = "engine-2"
APPLICATION = "exeunt"
#: Seconds between two looks of a worker that stops whether all is over.
STOP_POLL = 0.05
#: Seconds between two looks into the queue on SQLite, where a worker begins to serve before (`EnginePort.on_call`).
TOLD_POLL = 0.5
#: Schema of the engine's tables on PostgreSQL.
SCHEMA = "dbos"

#: What a worker does for a client: execute what is due.
Serve = Callable[[int], None]
_serve: list[Serve] = []


@DBOS.workflow(name=WORKFLOW)
def _serve_client(client_id: int) -> None:
    _serve[-1](client_id)


@dataclass(frozen=True)
class Call:
    """A call that is not over."""

    id: str
    client_id: int
    #: The worker that serves the client because of it; None while it is queued.
    executor: str | None


class EnginePort:
    """Calls workers to clients. Works without a worker in this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Told which clients were called without a delay, once that is stored.
        self.on_call: Callable[[Iterable[int]], None] | None = None

    @cached_property
    def _engine(self) -> SQLEngine:
        return _create_engine(self.settings)

    @cached_property
    def _client(self) -> DBOSClient:
        _migrate(self.settings)
        return _client_of(self._engine)

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        """Have a worker look at a client, whose run is queued in our tables, `delay_seconds` from now."""
        self.call([client_id], delay_seconds=delay_seconds)

    def enqueue_all(self, runs: Iterable[tuple[str, int, int]]) -> None:
        """The same at once for many: (run id, segment, client id)."""
        self.call(client_id for _, _, client_id in runs)

    def call(self, clients: Iterable[int], *, delay_seconds: float = 0.0) -> None:
        """Have a worker execute what is due for these clients, `delay_seconds` from now. All calls or none."""
        called = sorted(set(clients))
        if not called:
            return
        with self._engine.begin() as connection:
            for client_id in called:
                options: EnqueueOptions = {
                    "workflow_name": WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": f"client:{client_id}:{uuid4()}",
                    "app_version": APPLICATION_VERSION,
                    "queue_partition_key": str(client_id),
                }
                if delay_seconds > 0:
                    options["delay_seconds"] = delay_seconds
                self._client.enqueue_in_transaction(connection, options, client_id)
        if self.on_call is not None and delay_seconds <= 0:
            self.on_call(called)

    def cancel(self, call_id: str) -> None:
        """Forget a call. A worker that serves because of it is not interrupted."""
        self._client.cancel_workflow(call_id)

    def calls(self) -> list[Call]:
        """The calls that are queued or served now; delayed ones are left out."""
        found = self._client.list_workflows(
            queue_name=QUEUE, status=["ENQUEUED", "PENDING"], load_input=False, load_output=False
        )
        return [
            Call(w.workflow_id, int(w.workflow_id.split(":")[1]), w.executor_id if w.status == "PENDING" else None)
            for w in found
        ]

    def purge(self, before: str) -> int:
        """Forget calls that were over before an ISO time. Returns how many."""
        over = self._client.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"], completed_before=before, load_input=False, load_output=False,
            limit=1000,
        )  # fmt: skip
        self._client.delete_workflows([w.workflow_id for w in over])
        return len(over)

    def close(self) -> None:
        """Give the connections back."""
        if "_client" in self.__dict__:
            self._client.destroy()
            self._engine.dispose()


class EngineWorker:
    """Answers calls in this process. At most one per process."""

    def __init__(self, settings: Settings, serve: Serve) -> None:
        self.settings = settings
        self.executor_id = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(3).hex()}"
        self._serve = serve

    def start(self) -> None:
        """Begin to answer calls."""
        self._engine = _create_engine(self.settings)
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_engine": self._engine,
            "dbos_system_schema": SCHEMA,
            "application_version": APPLICATION_VERSION,
            "executor_id": self.executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "ERROR",
            "max_executor_threads": self.settings.concurrency_total + 4,
            "use_listen_notify": False,
            # Nothing of ours is notified of anything; the thread that would look for it sees that often that it shall end.
            "notification_listener_polling_interval_sec": STOP_POLL,
        }
        if not self.settings.is_sqlite:
            config["system_database_url"] = self.settings.engine_url
        _migrate(self.settings)
        # Its questions end when the store does not answer: a worker must be able to stop then, too.
        self._client = _client_of(self._engine, retry_connection_errors=False)
        self._register_queue()
        _serve.append(self._serve)
        self._dbos = DBOS(config=config)
        DBOS.launch()

    def stop(self, *, wait_seconds: float = 10) -> None:
        """Take nothing more, wait for what executes, let go."""
        deadline = time.monotonic() + wait_seconds
        # DBOS would wait as well, but looks for the first time after a second: whoever waits for the end of one run
        # would wait that much longer. As there, nothing is taken any more first; then what was taken is waited for.
        for stopping in self._dbos.background_thread_stop_events:
            stopping.set()
        for thread in threading.enumerate():
            if thread.name == f"queue-worker-{QUEUE}":
                thread.join(wait_seconds)
        while self._answers() and time.monotonic() < deadline:
            time.sleep(STOP_POLL)
        DBOS.destroy(workflow_completion_timeout_sec=0)
        self._client.destroy()
        self._engine.dispose()
        _serve.remove(self._serve)

    def _answers(self) -> bool:
        """Whether a call that this worker took is not over, as far as the store can be asked."""
        try:
            found = self._client.list_workflows(
                queue_name=QUEUE, status="PENDING", executor_id=self.executor_id, limit=1, load_input=False,
                load_output=False,
            )  # fmt: skip
        except SQLAlchemyError:
            return False
        return bool(found)

    def _register_queue(self) -> None:
        """Done before the worker listens: it looks for queues that are new to it once a second only."""
        self._client.register_queue(
            QUEUE,
            # Whoever is served executes a run, so more clients than that would only wait.
            worker_concurrency=self.settings.concurrency_total,
            # One worker for each client, over all workers: it alone takes the client's runs and keeps their number.
            partition_concurrency=1,
            polling_interval_sec=_poll_seconds(self.settings),
            on_conflict="always_update",
            application_name=APPLICATION,
        )


def _poll_seconds(settings: Settings) -> float:
    """How often the queue is looked at, which takes 4 ms of CPU each time."""
    return max(TOLD_POLL, settings.queue_poll_seconds) if settings.is_sqlite else settings.queue_poll_seconds


def _client_of(engine: SQLEngine, *, retry_connection_errors: bool = True) -> DBOSClient:
    return DBOSClient(
        system_database_engine=engine, dbos_system_schema=SCHEMA, serializer=DBOSPortableJSONSerializer(),
        retry_connection_errors=retry_connection_errors,
    )  # fmt: skip


def _migrate(settings: Settings) -> None:
    """Bring the engine's own tables up to date; quick when they are. On PostgreSQL the engine locks them itself."""
    with ExitStack() as stack:
        if settings.is_sqlite:
            # Made by us first: who can write to the engine's store can make a worker run code.
            for name in ("engine.db", "engine.lock"):
                lock = os.open(settings.workspace / name, os.O_CREAT | os.O_RDWR, 0o600)
                stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            DBOS.migrate(settings.engine_url, schema=SCHEMA)
        except DBAPIError as error:
            raise explain(error, settings, file="engine.db") from error


def _create_engine(settings: Settings) -> SQLEngine:
    if not settings.is_sqlite:
        return create_engine(settings.engine_url, pool_pre_ping=True, pool_size=settings.concurrency_total + 4)
    engine = create_engine(settings.engine_url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: object) -> None:
        # The engine never sets write-ahead logging itself (facts engine.md 1.3).
        for pragma in ("busy_timeout=30000", "journal_mode=wal", f"synchronous={settings.sqlite_synchronous}"):
            connection.execute("pragma " + pragma)

    return engine
