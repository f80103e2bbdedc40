"""The thirteen alert styles (facts 11.2): when an alert whose row is still there is given again. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

_DAYS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 30, 9: 60, 10: 90}
_YEARS = {11: 1, 12: 5}
_TEXT = re.compile(r"once per (?:([0-9]{1,3}) )?(day|year)s?")


@dataclass(frozen=True)
class AlertStyle:
    """A style by its number, 0 to 12. `count` units are between two alerts; style 0 has no such time."""

    number: int
    count: int = 0
    unit: Literal["day", "year"] = "day"

    def __str__(self) -> str:
        if self.number == 0:
            return "send fail after success"
        return f"once per {self.unit}" if self.count == 1 else f"once per {self.count} {self.unit}s"


SEND_FAIL_AFTER_SUCCESS = AlertStyle(0)
STYLES: tuple[AlertStyle, ...] = (
    SEND_FAIL_AFTER_SUCCESS,
    *(AlertStyle(number, days) for number, days in _DAYS.items()),
    *(AlertStyle(number, years, "year") for number, years in _YEARS.items()),
)


def parse_style(value: str | int) -> AlertStyle:
    """A style from its number (`0` to `12`) or its words (`once per 30 days`).

    Raises ValueError with the styles that there are.
    """
    words = " ".join(str(value).lower().replace("_", " ").split())
    if words.isascii() and words.isdigit() and int(words) < len(STYLES):
        return STYLES[int(words)]
    if words == str(SEND_FAIL_AFTER_SUCCESS):
        return SEND_FAIL_AFTER_SUCCESS
    found = _TEXT.fullmatch(words)
    for style in STYLES[1:]:
        if found and (style.count, style.unit) == (int(found[1] or 1), found[2]):
            return style
    known = ", ".join(f"{s.number} `{s}`" for s in STYLES)
    raise ValueError(f"{value!r} is no alert style; there are {known}")


def next_due(style: AlertStyle, alerted_at: datetime) -> datetime | None:
    """When an alert that was last given at `alerted_at` may be given again; None: not while its row stays."""
    if style.number == 0:
        return None
    return alerted_at + timedelta(days=style.count) if style.unit == "day" else _years_later(alerted_at, style.count)


def is_due(style: AlertStyle, *, alerted_at: datetime | None, now: datetime) -> bool:
    """Whether an alert whose row is there is given now."""
    if alerted_at is None:
        return True
    due = next_due(style, alerted_at)
    return due is not None and now >= due


def _years_later(moment: datetime, years: int) -> datetime:
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:
        # 29 February: one year later is 1 March.
        return moment.replace(year=moment.year + years, month=3, day=1)
