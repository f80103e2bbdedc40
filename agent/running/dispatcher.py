"""Executes the due runs of the clients that the engine hands to this worker, within its limits.

The engine knows *that* a client has something to do, and which worker does it: one at a time for each client, over all
workers. *What* there is to do stands in our own tables, and is taken from there until nothing is due. So the engine is
asked once for many runs, and the limit per client holds over all workers because only one of them serves the client.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from agent.errors import ExeuntError
from agent.installation import Installation
from agent.model.administration import Credential
from agent.model.runs import ScriptRun
from agent.running import statements
from agent.running.engine import EnginePort
from agent.running.executor import Executor
from agent.running.liveness import alone
from agent.running.recovery import take_over
from agent.running.targets import Target, load_target, load_targets
from agent.running.tree import RunTree, load_trees
from agent.services import credentials

log = structlog.get_logger()
#: Seconds to wait before a run whose execution broke off is looked at again: mostly the database does not work.
BROKEN_WAIT = 1.0
#: Seconds for which a run's target and credentials count as known; after that they are looked at again when it starts.
FRESH = 2.0
#: Seconds between two looks for new runs of a client whose others take long, where no bell tells of them.
BUSY_POLL = 0.5
#: The same where one does.
TOLD_POLL = 5.0
#: Seconds for which a worker that stops waits for a client whom it began to serve by itself.
CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class _Due:
    """A run that may start, and what it needs for that."""

    tree: RunTree
    #: None when it is gone, which is told when the run starts.
    target: Target | None
    #: Those of its client that the batch's transports may use.
    credentials: Sequence[Credential]
    loaded_at: float

    @property
    def is_fresh(self) -> bool:
        return self.target is not None and time.monotonic() - self.loaded_at < FRESH

    @property
    def id(self) -> str:
        return self.tree.root.id


class _Client:
    """One client while it is served: what was loaded and not begun, and what executes."""

    def __init__(self, client_id: int) -> None:
        self.id = client_id
        self.ready: deque[_Due] = deque()
        self.executing: set[str] = set()
        #: More may be due than was loaded the last time.
        self.more = True
        #: All that was loaded is under way, or over: look again.
        self.look = threading.Event()
        #: It is served no more.
        self.over = threading.Event()


class Dispatcher:
    """Serves clients. One per worker."""

    def __init__(self, installation: Installation, port: EnginePort, executor: Executor) -> None:
        settings = installation.settings
        self._installation, self._port, self._executor = installation, port, executor
        self._per_client = min(settings.concurrency_per_client, settings.concurrency_total)
        self._free = settings.concurrency_total
        self._poll = TOLD_POLL if settings.is_sqlite else max(BUSY_POLL, settings.queue_poll_seconds)
        self._threads = ThreadPoolExecutor(settings.concurrency_total, thread_name_prefix="exeunt-run")
        self._lock, self._stopping = threading.Lock(), threading.Event()
        #: Clients that are served; who stands first is asked first for a run when a thread is free.
        self._turns: deque[_Client] = deque()
        #: Clients that are served next without waiting for the engine, and the threads that do; a plan may call thousands.
        self._called: dict[int, None] = {}
        self._early: list[threading.Thread] = []
        self._most_early = settings.concurrency_total

    def serve(self, client_id: int) -> None:
        """Execute what is due for a client until nothing is, or the worker stops. Called by the engine.

        Where the client is served already, it waits for the end of that: the engine's call must last as long.
        """
        client = _Client(client_id)
        while (other := self._take_up(client)) is not None:
            other.over.wait()
        try:
            with alone(self._installation.settings, client_id, self._stopping):
                while self._go_on(client):
                    client.look.wait(self._poll)
        finally:
            with self._lock:
                self._turns.remove(client)
            client.over.set()
        if self._stopping.is_set() and self._load(client, 1):
            # Another worker need not wait until it notices by itself.
            self._port.call([client_id])

    def serve_now(self, clients: Iterable[int]) -> None:
        """Begin to serve clients to whom the engine was just asked to send somebody: it takes a tenth of a second."""
        with self._lock:
            served = {client.id: client for client in self._turns}
            for client_id in clients:
                if client_id in served:
                    served[client_id].look.set()
                else:
                    self._called[client_id] = None
            for _ in range(min(len(self._called), self._most_early - len(self._early))):
                thread = threading.Thread(target=self._serve_called, daemon=True)
                self._early.append(thread)
                thread.start()

    def look_again(self) -> None:
        """Runs were queued: have every client that is served now look for them."""
        with self._lock:
            for client in self._turns:
                client.look.set()

    def stop(self) -> None:
        """Begin nothing more; what executes goes on to its end."""
        self._stopping.set()
        with self._lock:
            for client in self._turns:
                client.ready.clear()
                client.look.set()

    def close(self) -> None:
        """Let the threads end; one that executes ends with its run."""
        deadline = time.monotonic() + CLOSE_SECONDS
        with self._lock:
            early = list(self._early)
        for thread in early:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads.shutdown(wait=False)

    def _take_up(self, client: _Client) -> _Client | None:
        """Begin to serve a client. Whoever serves it in this worker already, instead."""
        with self._lock:
            other = next((c for c in self._turns if c.id == client.id), None)
            if other is None:
                self._turns.append(client)
        return other

    def _serve_called(self) -> None:
        """Serve one called client after the other, until there is none."""
        while True:
            with self._lock:
                if not self._called or self._stopping.is_set():
                    self._early.remove(threading.current_thread())
                    return
                client_id = next(iter(self._called))
                del self._called[client_id]
            try:
                self.serve(client_id)
            except ExeuntError as error:
                # The engine sends somebody to this client anyhow, who tries it again.
                log.error("client_not_served", client=client_id, reason=str(error))

    def _go_on(self, client: _Client) -> bool:
        """Load what is due if there is room for it. False when there is nothing, and nothing executes."""
        client.look.clear()
        with self._lock:
            room = not client.ready and len(client.executing) < self._per_client and not self._stopping.is_set()
        limit = 2 * self._per_client
        # Twice what may execute at once: the next ones are at hand when the first have ended.
        found = self._load(client, limit) if room else []
        with self._lock:
            if room:
                client.more = len(found) == limit
            if not self._stopping.is_set():
                client.ready.extend(found)
                self._assign()
            return bool(client.ready or client.executing)

    def _load(self, client: _Client, limit: int) -> list[_Due]:
        with self._lock:
            known = [*client.executing, *(due.id for due in client.ready)]
        with self._installation.database.reading() as session:
            ids = statements.due_runs(session, client.id, known, limit)
            if not ids:
                return []
            trees = load_trees(session, ids)
            targets = load_targets(session, {(t.root.target_kind, t.root.target_id) for t in trees})
            usable, now = credentials.of_client(session, _transports(targets.values()), client.id), time.monotonic()
        return [_Due(t, targets.get((t.root.target_kind, t.root.target_id)), usable, now) for t in trees]

    def _assign(self) -> None:
        """With the lock held: give free threads to the clients in turn."""
        idle = 0
        while self._free and idle < len(self._turns):
            client = self._turns[0]
            self._turns.rotate(-1)
            if client.ready and len(client.executing) < self._per_client:
                due, idle = client.ready.popleft(), 0
                client.executing.add(due.id)
                self._free -= 1
                self._threads.submit(self._execute, client, due)
            else:
                idle += 1

    def _execute(self, client: _Client, due: _Due) -> None:
        try:
            self._execute_or_give_back(due)
        finally:
            with self._lock:
                client.executing.discard(due.id)
                self._free += 1
                self._assign()
                if not client.ready and (client.more or not client.executing):
                    client.look.set()

    def _execute_or_give_back(self, due: _Due) -> None:
        """What breaks off on the way, such as by an error of the database, is taken up again like after a crash."""
        root = due.tree.root
        segment = root.segment
        try:
            target, usable = due.target, due.credentials
            if target is None or not due.is_fresh:
                target, usable = self._look_up(root)
            self._executor.execute_loaded(due.tree, target, usable)
        except Exception as error:  # noqa: BLE001 - whatever it was, the run must not be left in no hands
            log.error("run_broke_off", run=root.id, error=type(error).__name__, reason=_reason(error))
            self._give_back(root.id, segment)

    def _look_up(self, root: ScriptRun) -> tuple[Target, Sequence[Credential]]:
        """The target of a run as it is now, and the credentials that it may use. Raises NotFound."""
        with self._installation.database.reading() as session:
            target = load_target(session, root.target_kind, root.target_id)
            return target, credentials.of_client(session, _transports([target]), target.client_id)

    def _give_back(self, run_id: str, segment: int) -> None:
        while not self._stopping.wait(BROKEN_WAIT):
            try:
                take_over(self._installation, run_id, segment)
                return
            except ExeuntError as error:
                log.error("run_not_given_back", run=run_id, reason=str(error))


def _transports(targets: Iterable[Target]) -> set[str]:
    kinds = {computer["transport"] for t in targets if (computer := t.places.get("computer")) is not None}
    return kinds - {None}


def _reason(error: Exception) -> str:
    """Our own errors say what is wrong; those of libraries may quote a secret."""
    return str(error) if isinstance(error, ExeuntError) else ""
