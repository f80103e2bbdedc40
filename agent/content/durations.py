"""Lengths of time as people write them in content."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_DURATION = re.compile(r"\d+(\.\d{1,6})?|(\d+(\.\d{1,6})?\s*(second|minute|hour|day|week)s?(\s+|$))+", re.ASCII | re.I)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+?)?s?(?:\s+|$)", re.ASCII | re.I)
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


def parse_duration(value: Any) -> timedelta:
    """`5 minutes`, `1 hour 30 minutes`, `90` (seconds) -> timedelta. Raises ValueError with what was expected."""
    if isinstance(value, timedelta):
        return value
    text = str(value).strip()
    wrong = ValueError(f"{text[:60]!r} is not a length of time: write for example `30 seconds`, `5 minutes`, `1 day`")
    if len(text) > 60 or not _DURATION.fullmatch(text):
        raise wrong
    parts = [(number, unit or "second") for number, unit in _PART.findall(text)]
    try:
        # In integers of microseconds: a sum of floats would lose some.
        return timedelta(microseconds=sum(int(Decimal(n) * 1_000_000) * _UNITS[u.lower()] for n, u in parts))
    except OverflowError:
        raise wrong from None


def in_words(value: timedelta) -> str:
    """`5 minutes`, `1 day`, `1 hour 30 minutes`: as content writes it, down to whole seconds."""
    rest, parts = value // timedelta(seconds=1), []
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(parts) or "0 seconds"


def _seconds(value: timedelta) -> str:
    """A form that `parse_duration` reads back without loss."""
    whole, micro = value // timedelta(seconds=1), value.microseconds
    return f"{whole}.{micro:06d}" if micro else str(whole)


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(_seconds, when_used="json")]
