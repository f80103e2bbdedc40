"""A worker: answers calls to clients, keeps its lock, and looks after runs whose worker died."""

from __future__ import annotations

import gc
import os
import threading
import time
from types import TracebackType

import structlog

from agent.errors import StoreError
from agent.installation import Installation
from agent.running.dispatcher import Dispatcher
from agent.running.doorbell import Doorbell
from agent.running.engine import EnginePort, EngineWorker
from agent.running.executor import Executor
from agent.running.liveness import Liveness
from agent.running.recovery import reconcile, release_forgotten

log = structlog.get_logger()
#: Seconds between two looks for runs in dead hands.
RECONCILE_SECONDS = 2.0
#: Seconds between two looks at the bell: a look is one question for a file's time, and somebody may wait for it.
BELL_SECONDS = 0.02


def settle() -> None:
    """Call it when a process that will work for long is ready: what it has loaded by now stays.

    To look through all of that for garbage stops every run for a tenth of a second, each time anew.
    """
    gc.collect()
    gc.freeze()


class Worker:
    """Executes runs in this process between entering and leaving its context. At most one per process."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.port = EnginePort(installation.settings)
        self.dispatcher = Dispatcher(installation, self.port, Executor(installation, self.port))
        self.engine = EngineWorker(installation.settings, self.dispatcher.serve)
        self.liveness = Liveness(installation)
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="exeunt-reconcile", daemon=True)

    def __enter__(self) -> Worker:
        # The lock first: a worker must never execute without one, or another would take its runs.
        self.liveness.hold(self.engine.executor_id)
        self.engine.start()
        self._keeper.start()
        if self.installation.settings.is_sqlite:
            self.port.on_call = self.dispatcher.serve_now
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._keeper.join()
        self.dispatcher.stop()
        self.engine.stop()
        self.dispatcher.close()
        self.liveness.release()
        self.port.close()

    def _keep(self) -> None:
        # The first look at once: what another worker left behind must not wait.
        bell, next_look = Doorbell(self.installation.settings), 0.0
        while not self._stop.wait(BELL_SECONDS if next_look else 0.0):
            rung = bell.rung()
            if rung or time.monotonic() >= next_look:
                next_look = time.monotonic() + RECONCILE_SECONDS
                self._look(rung)

    def _look(self, rung: bool) -> None:
        try:
            if not self.liveness.is_held():
                raise StoreError("the lock of this worker is gone")
            if rung:
                self.dispatcher.look_again()
            else:
                release_forgotten(self.installation, self.port)
            reconcile(self.installation, self.port, self.liveness, at_once=rung)
        except StoreError as error:
            # Without its lock another worker takes the runs over: end at once rather than act twice.
            if not self.installation.settings.is_sqlite:
                log.critical("worker_lost_its_lock", reason=str(error))
                os._exit(70)
            log.error("reconcile_failed", reason=str(error))
