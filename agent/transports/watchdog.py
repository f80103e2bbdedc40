"""Deadlines for calls that wait for an answer without one of their own: one thread for all of them.

A `threading.Timer` each would be a thread for every stage of every connection, though hardly any of them ever fires.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Deadline:
    """Calls `act` once in a thread of its own, `seconds` from now, unless it is cancelled before."""

    def __init__(self, seconds: float, act: Callable[[], object]) -> None:
        self.at, self.fired, self.cancelled = time.monotonic() + seconds, False, False
        self._act: Callable[[], object] | None = act
        _WATCHDOG.watch(self)

    def cancel(self) -> None:
        """Do not fire any more."""
        self.cancelled, self._act = True, None

    def fire(self) -> None:
        """Act now; called by the watchdog."""
        act = self._act
        if act is not None and not self.cancelled:
            self.fired = True
            # On its own: it may take long, and others wait for the watchdog.
            threading.Thread(target=act, name="exeunt-deadline", daemon=True).start()


class _Watchdog:
    """The thread that waits for the next deadline. It starts with the first one, and again in a forked process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._count = itertools.count()
        self._thread: threading.Thread | None = None
        #: So many entries are too many: most of them were cancelled long before their time.
        self._clear_at = 1000

    def watch(self, deadline: Deadline) -> None:
        """Have a deadline fire at its time."""
        with self._changed:
            earliest = not self._heap or deadline.at < self._heap[0][0]
            heapq.heappush(self._heap, (deadline.at, next(self._count), deadline))
            if len(self._heap) > self._clear_at:
                self._heap = [entry for entry in self._heap if not entry[2].cancelled]
                heapq.heapify(self._heap)
                self._clear_at = 2 * len(self._heap) + 1000
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="exeunt-deadlines", daemon=True)
                self._thread.start()
            elif earliest:
                self._changed.notify()

    def _work(self) -> None:
        with self._changed:
            while True:
                while self._heap and self._heap[0][2].cancelled:
                    heapq.heappop(self._heap)
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                if left is not None and left <= 0:
                    heapq.heappop(self._heap)[2].fire()
                else:
                    self._changed.wait(left)


_WATCHDOG = _Watchdog()
