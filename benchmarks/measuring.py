"""What all benchmarks share: samples with their spread, ratios, facts of the machine, fresh processes."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import sqlite3
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Sample:
    """Repetitions of one measurement. `unit` is what the numbers are in."""

    values: tuple[float, ...]
    unit: str = "s"

    @classmethod
    def of(cls, values: Sequence[float], unit: str = "s") -> Sample:
        return cls(tuple(values), unit)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def percentile(self, share: float) -> float:
        """The smallest value that at least this share of the values does not exceed."""
        ordered = sorted(self.values)
        return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return (
            f"{show(self.median, self.unit)} [{show(low, self.unit)} .. {show(high, self.unit)}, n={len(self.values)}]"
        )


def show(value: float, unit: str) -> str:
    """A value in the unit that fits: seconds below one as milliseconds."""
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


@dataclass(frozen=True)
class Target:
    """A figure to reach. `reached` compares the median's ratio or value with the limit."""

    what: str
    value: float
    limit: float
    unit: str = "times"
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "MISSED"
        bound = "at least" if self.at_least else "at most"
        return f"{verdict:<8} {self.what}: {self.value:.2f} {self.unit} ({bound} {self.limit:g})"


def alternating(repetitions: int, *measures: Callable[[], float]) -> list[Sample]:
    """Measure all in turn, in an order that turns too, so that a change of the machine's load reaches each of them."""
    values: list[list[float]] = [[] for _ in measures]
    for repetition in range(repetitions):
        for place in range(len(measures)):
            index = (place + repetition) % len(measures)
            values[index].append(measures[index]())
    return [Sample.of(v) for v in values]


def seconds(work: Callable[[], Any]) -> float:
    """How long a call takes, wall clock."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratio(first: Sample, second: Sample) -> float:
    """Median of the ratios of the pairs: the two of a pair were measured beside each other."""
    return statistics.median(a / b for a, b in zip(first.values, second.values, strict=True))


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a process of its own: no memory, cache or engine is left over from others."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        result, traceback_text = pool.submit(_told, function, arguments).result()
    if traceback_text is not None:
        raise RuntimeError(traceback_text)
    return result


def _told(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, str | None]:
    """The result, or the traceback as text: not every error survives the way between processes."""
    try:
        return function(*arguments), None
    except Exception:  # noqa: BLE001 - whatever it was, the parent raises it
        return None, traceback.format_exc()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that goes away again; on a disk, not in memory, where TMPDIR says so."""
    with tempfile.TemporaryDirectory(prefix="exeunt-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def line(name: str, value: object) -> None:
    print(f"   {name:<58} {value}", flush=True)


def print_targets(targets: Sequence[Target]) -> None:
    for target in targets:
        print(f"   {target}", flush=True)


def machine_facts() -> None:
    """Print what the figures depend on."""
    memory = psutil.virtual_memory()
    heading("machine")
    line("cores", os.cpu_count())
    line("memory", f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB available")
    line("system", f"{platform.system()} {platform.release()}, {_file_system()} under {tempfile.gettempdir()}")
    line("Python, SQLite", f"{platform.python_version()}, {sqlite3.sqlite_version}")
    names = ("dbos", "sqlalchemy", "sqlmodel", "paramiko", "asyncssh")
    line("libraries", ", ".join(f"{n} {_version(n)}" for n in names))
    line("one fdatasync of 4 KiB", _fdatasync())
    line("load average before", load())


def load() -> str:
    """1, 5 and 15 minutes, and the share of the processors that was busy in the last half second."""
    busy = psutil.cpu_percent(interval=0.5)
    return f"{' '.join(f'{v:.2f}' for v in os.getloadavg())}, {busy:.0f} % busy just now"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _file_system() -> str:
    place = os.path.realpath(tempfile.gettempdir())
    mounts = [p for p in psutil.disk_partitions(all=True) if place.startswith(p.mountpoint)]
    return max(mounts, key=lambda p: len(p.mountpoint)).fstype if mounts else "unknown file system"


def _fdatasync() -> Sample:
    values = []
    with folder() as place, (place / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(os.urandom(4096))
            values.append(seconds(lambda: os.fdatasync(file.fileno())))
    return Sample.of(values)
