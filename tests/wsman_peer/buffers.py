"""Output on its way to a client: bounded, so that a script that writes faster than it is read has to wait."""

from __future__ import annotations

import threading
import time
from collections import deque

#: Bytes that may wait to be fetched.
LIMIT = 1_000_000


class Buffer:
    """Pieces of named streams in the order in which they were written."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[tuple[str, bytes]] = deque()
        self._size = 0
        self._abandoned = False
        #: Set when nothing more comes.
        self.exit_code: int | None = None

    def put(self, stream: str, data: bytes) -> None:
        """Add a piece; never waits."""
        with self._changed:
            self._pieces.append((stream, data))
            self._size += len(data)
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Wait until the client has fetched enough, or nobody will fetch any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < LIMIT or self._abandoned)

    def finish(self, exit_code: int) -> None:
        with self._changed:
            self.exit_code = exit_code
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nobody fetches any more."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def take(self, limit: int, timeout: float, *, whole: bool) -> tuple[list[tuple[str, bytes]], int | None]:
        """Up to `limit` bytes, waiting up to `timeout` seconds for the first; and the exit code once all is fetched.

        `whole` pieces are not cut.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._changed.wait_for(
                lambda: self._pieces or self.exit_code is not None or self._abandoned, deadline - time.monotonic()
            )
            taken: list[tuple[str, bytes]] = []
            while self._pieces and limit > 0:
                stream, data = self._pieces[0]
                if len(data) > limit and whole and taken:
                    break
                part = data if whole else data[:limit]
                if len(part) == len(data):
                    self._pieces.popleft()
                else:
                    self._pieces[0] = (stream, data[len(part) :])
                taken.append((stream, part))
                limit -= len(part)
                self._size -= len(part)
            self._changed.notify_all()
            return taken, None if self._pieces else self.exit_code
