"""Days and hours in which something may be done; a window may reach over midnight.

A window is compared with the clock on the wall of a time zone. So an hour that occurs twice, when the clocks go back, belongs
to it both times, and an hour that is left out, when they go forward, is not there: a window that lies wholly within it does
not open on that day.
"""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from agent.content.definitions import Window
from agent.time_zones import time_zone

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::[0-5]\d)?")


def parse_clock(text: str) -> time:
    """`HH:MM` or `HH:MM:SS` (seconds are dropped) -> time. Raises ValueError."""
    found = _CLOCK.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a time of day, written HH:MM")
    return time(int(found[1]), int(found[2]))


def within(start: time | None, end: time | None, now: datetime, zone: ZoneInfo) -> bool:
    """Whether an aware time is in [start, end) of the zone. No start means midnight, no end the next; equal means always."""
    return _opened_on(start, end, now.astimezone(zone)) is not None


def is_open(window: Window | None, now: datetime, zone: ZoneInfo) -> bool:
    """Whether a window is open at an aware time. After midnight it belongs to the day on which it was opened.

    zone: the installation's, for a window that names none.
    """
    if window is None:
        return True
    start = parse_clock(window.from_) if window.from_ else None
    end = parse_clock(window.until) if window.until else None
    own = time_zone(window.time_zone) if window.time_zone else zone
    opened = _opened_on(start, end, now.astimezone(own))
    return opened is not None and (not window.days or _DAYS[opened.weekday()] in window.days)


def _opened_on(start: time | None, end: time | None, local: datetime) -> datetime | None:
    """The day on which the window that is open at a local time was opened; None when none is."""
    first, clock = start or time(0), local.time()
    if end is None or end == time(0):
        return local if clock >= first else None
    # Days are counted on the wall, too: subtracting one from a local time keeps its clock.
    if first == end:
        return local if clock >= first else local - timedelta(days=1)
    if first < end:
        return local if first <= clock < end else None
    if clock >= first:
        return local
    return local - timedelta(days=1) if clock < end else None
