"""The narrow port to the durable engine: the only module that knows DBOS (DESIGN 5.1, facts `engine.md`).

The truth about a run is in our own tables. The engine only remembers that segment `n` of a run is to be executed, keeps
the limits per client and in total, delays a segment, and tells which worker holds it. Everything here may be lost and
is made again from our tables by `agent.running.recovery`.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions
from sqlalchemy import Engine as SQLEngine
from sqlalchemy import create_engine, event

from agent.settings import Settings

QUEUE = "exeunt.runs"
WORKFLOW = "exeunt.run_segment"
#: Changes only when the interpreter's contract with stored plans changes; never by itself.
APPLICATION_VERSION = "engine-1"
#: Schema of the engine's tables on PostgreSQL.
SCHEMA = "dbos"

#: What a worker does with a segment: (run id, segment number).
Execute = Callable[[str, int], None]
_execute: list[Execute] = []


@DBOS.workflow(name=WORKFLOW)
def _run_segment(run_id: str, segment: int) -> None:
    _execute[-1](run_id, segment)


def segment_id(run_id: str, segment: int) -> str:
    """The engine's id of a segment, made from its meaning: the same segment is never queued twice."""
    return f"run:{run_id}:{segment}"


@dataclass(frozen=True)
class SegmentStatus:
    """What the engine knows about a segment."""

    #: queued (also delayed), executing, over
    phase: str
    executor: str | None


_PHASES = {"ENQUEUED": "queued", "DELAYED": "queued", "PENDING": "executing"}


class EnginePort:
    """Queues, delays, cancels and looks up segments. Works without a worker in this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def _engine(self) -> SQLEngine:
        return _create_engine(self.settings)

    @cached_property
    def _client(self) -> DBOSClient:
        _migrate(self.settings)
        return DBOSClient(
            system_database_engine=self._engine,
            dbos_system_schema=SCHEMA,
            serializer=DBOSPortableJSONSerializer(),
        )

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        """Queue a segment, to be started no sooner than `delay_seconds` from now. The same segment twice is one."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": segment_id(run_id, segment),
            "app_version": APPLICATION_VERSION,
            "queue_partition_key": str(client_id),
        }
        if delay_seconds > 0:
            options["delay_seconds"] = delay_seconds
        self._client.enqueue(options, run_id, segment)

    def cancel(self, run_id: str, segment: int) -> None:
        """Take a segment out of the queue. One that executes is not interrupted."""
        self._client.cancel_workflow(segment_id(run_id, segment))

    def wake(self, run_id: str, segment: int) -> None:
        """Let a delayed segment start now."""
        self._client.set_workflow_delay(segment_id(run_id, segment), delay_seconds=0.0)

    def statuses(self, segments: Iterable[tuple[str, int]]) -> dict[str, SegmentStatus]:
        """What the engine knows about these segments, by segment id; one that it does not know is left out."""
        ids = [segment_id(*s) for s in segments]
        found: dict[str, SegmentStatus] = {}
        for start in range(0, len(ids), 500):
            for status in self._client.list_workflows(
                workflow_ids=ids[start : start + 500], load_input=False, load_output=False
            ):
                found[status.workflow_id] = SegmentStatus(_PHASES.get(status.status, "over"), status.executor_id)
        return found

    def purge(self, before: str) -> int:
        """Forget segments that were over before an ISO time. Returns how many."""
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
    """Executes segments in this process. At most one per process."""

    def __init__(self, settings: Settings, execute: Execute) -> None:
        self.settings = settings
        self.executor_id = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(3).hex()}"
        self._execute = execute

    def start(self) -> None:
        """Begin to take segments from the queue."""
        self._engine = _create_engine(self.settings)
        config: DBOSConfig = {
            "name": "exeunt",
            "system_database_engine": self._engine,
            "dbos_system_schema": SCHEMA,
            "application_version": APPLICATION_VERSION,
            "executor_id": self.executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "ERROR",
            "max_executor_threads": self.settings.concurrency_total + 4,
            "use_listen_notify": False,
        }
        if not self.settings.is_sqlite:
            config["system_database_url"] = self.settings.engine_url
        _migrate(self.settings)
        _execute.append(self._execute)
        DBOS(config=config)
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self.settings.concurrency_total,
            partition_concurrency=min(self.settings.concurrency_per_client, self.settings.concurrency_total),
            polling_interval_sec=self.settings.queue_poll_seconds,
            on_conflict="always_update",
        )

    def stop(self, *, wait_seconds: int = 10) -> None:
        """Take nothing more, wait for what executes, let go."""
        DBOS.destroy(workflow_completion_timeout_sec=wait_seconds)
        self._engine.dispose()
        _execute.remove(self._execute)


def _migrate(settings: Settings) -> None:
    """Bring the engine's own tables up to date; quick when they are. On PostgreSQL the engine locks them itself."""
    with ExitStack() as stack:
        if settings.is_sqlite:
            # Made by us first: who can write to the engine's store can make a worker run code.
            for name in ("engine.db", "engine.lock"):
                lock = os.open(settings.workspace / name, os.O_CREAT | os.O_RDWR, 0o600)
                stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
        DBOS.migrate(settings.engine_url, schema=SCHEMA)


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
