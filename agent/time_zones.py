"""Time zones by their IANA names, such as Europe/Berlin: one check for settings, content files and columns.

The zones come from the operating system, else from the package `tzdata`, which is always installed.
"""

from __future__ import annotations

import difflib
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones


def time_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises ValueError that says what to write instead."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name[:60], available_timezones(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{name[:60]!r} is no time zone: use an IANA name such as Europe/Berlin{hint}") from None
