"""Collecting a command's output: both streams apart, a bounded head in memory, the whole in files, secrets masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol


class OutputCollector(Protocol):
    """Takes bytes as they come; thread-safe."""

    def write(self, stream: str, data: bytes) -> None:
        """Take bytes of `stdout` or `stderr`."""

    def finish(self) -> dict[str, Any]:
        """End both streams: {"stdout": {"text", "bytes", "truncated", "file"}, "stderr": {...}}."""


CollectorFactory = Callable[[Path, Sequence[str]], OutputCollector]
