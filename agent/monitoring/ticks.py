"""When a monitor is due. Every process computes the same ticks, so a tick's id is made from its meaning."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta


def latest_tick(name: str, interval: timedelta, now: datetime) -> datetime:
    """The last planned time at or before `now`.

    Ticks lie `interval` apart on a grid that is shifted by the monitor's name, so that not all run at the full hour.
    """
    step = interval.total_seconds()
    shift = zlib.crc32(name.encode()) / 2**32 * step
    number = (now.timestamp() - shift) // step
    return datetime.fromtimestamp(number * step + shift, UTC)


def first_tick(name: str, interval: timedelta, last_scan: datetime | None, now: datetime) -> datetime:
    """When to run first after a start: at once when a tick was missed meanwhile, else at the next one."""
    latest = latest_tick(name, interval, now)
    return latest if last_scan is None or last_scan < latest else latest + interval


def tick_id(name: str, tick: datetime) -> str:
    """`monitor:<name>:<time>`: the same for every process that ticks."""
    return f"monitor:{name}:{tick.astimezone(UTC).isoformat(timespec='seconds')}"
