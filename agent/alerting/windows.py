"""Days and hours (UTC) in which something may be done; a window may reach over midnight."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

from agent.content.definitions import Window

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::[0-5]\d)?")


def parse_clock(text: str) -> time:
    """`HH:MM` or `HH:MM:SS` (seconds are dropped) -> time. Raises ValueError."""
    found = _CLOCK.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a time of day, written HH:MM")
    return time(int(found[1]), int(found[2]))


def within(start: time | None, end: time | None, now: datetime) -> bool:
    """Whether a time (UTC) is in [start, end). No start means midnight, no end the next one; equal means always."""
    return _opened_on(start, end, now) is not None


def is_open(window: Window | None, now: datetime) -> bool:
    """Whether a window is open at a time (UTC). After midnight it belongs to the day on which it was opened."""
    if window is None:
        return True
    start = parse_clock(window.from_) if window.from_ else None
    end = parse_clock(window.until) if window.until else None
    opened = _opened_on(start, end, now)
    return opened is not None and (not window.days or _DAYS[opened.weekday()] in window.days)


def _opened_on(start: time | None, end: time | None, now: datetime) -> datetime | None:
    """The day on which the window that is open at `now` was opened; None when none is."""
    first, clock = start or time(0), now.time()
    if end is None or end == time(0):
        return now if clock >= first else None
    if first == end:
        return now if clock >= first else now - timedelta(days=1)
    if first < end:
        return now if first <= clock < end else None
    if clock >= first:
        return now
    return now - timedelta(days=1) if clock < end else None
