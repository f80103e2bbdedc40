"""Telling the worker that runs are queued, without loading the engine: what a command line needs half its time for.

On SQLite everything is on one machine, so a file's time is enough: a worker looks at it many times a second, and asks our
tables what is due when it has changed. Nothing depends on the bell being heard: what is due stands in our tables, and a
worker that did not hear it, or starts later, finds it there (`agent.running.recovery`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from agent.settings import Settings


class Port(Protocol):
    """Where queued runs are announced: the engine's port, or the bell."""

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        """A run of a client is queued in our tables, or due after a delay."""

    def enqueue_all(self, runs: Iterable[tuple[str, int, int]]) -> None:
        """The same for many: (run id, segment, client id)."""

    def close(self) -> None:
        """Give everything back."""


class Doorbell:
    """The bell of a workspace, for those who ring and for the worker who listens."""

    def __init__(self, settings: Settings) -> None:
        self._path: Path = settings.workspace / "workers" / "bell"
        self._heard = -1

    def enqueue(self, run_id: str, segment: int, client_id: int, *, delay_seconds: float = 0.0) -> None:
        """Ring. A delay stands in the run's row, and whoever looks keeps to it."""
        self.enqueue_all([(run_id, segment, client_id)])

    def enqueue_all(self, runs: Iterable[tuple[str, int, int]]) -> None:
        """Ring once."""
        if any(True for _ in runs):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
            os.utime(self._path)

    def close(self) -> None:
        """Nothing is held."""

    def rung(self) -> bool:
        """Whether it was rung since this was asked the last time; the first time: whether it ever was."""
        try:
            at = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        changed, self._heard = at != self._heard, at
        return changed


def open_port(settings: Settings) -> Port:
    """The port for a process that executes nothing itself: the bell on SQLite, the engine's on PostgreSQL."""
    if settings.is_sqlite:
        return Doorbell(settings)
    from agent.running.engine import EnginePort

    return EnginePort(settings)
