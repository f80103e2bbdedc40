"""Windows of days and hours, in UTC, over midnight too."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.windows import is_open, parse_clock, within
from agent.content.definitions import Window

FRIDAY = datetime(2026, 1, 2, tzinfo=UTC)
clocks = st.times(timezones=st.none()).map(lambda t: t.replace(second=0, microsecond=0))
moments = st.integers(0, 30_000_000).map(lambda minutes: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("hour", "minute", "expected"), [(21, 59, False), (22, 0, True), (23, 59, True), (24, 0, True), (29, 59, True), (30, 0, False)]
)  # fmt: skip
def test_a_window_over_midnight_belongs_to_the_day_it_opened(hour: int, minute: int, expected: bool) -> None:
    window = Window.model_validate({"days": ["fri"], "from": "22:00", "until": "06:00"})
    assert is_open(window, FRIDAY + timedelta(hours=hour, minutes=minute)) is expected
    # The night from Thursday to Friday is Thursday's.
    assert not is_open(window, FRIDAY + timedelta(hours=3))


def test_days_alone_and_no_window() -> None:
    weekend = Window.model_validate({"days": ["sat", "sun"]})
    assert not is_open(weekend, FRIDAY + timedelta(hours=23, minutes=59))
    assert is_open(weekend, FRIDAY + timedelta(days=1))
    assert is_open(None, FRIDAY)


@given(clocks, clocks, moments)
def test_a_window_and_its_complement_share_the_day(start: time, end: time, now: datetime) -> None:
    if start == end:
        assert within(start, end, now)
    else:
        assert within(start, end, now) != within(end, start, now)


@given(clocks, moments)
def test_half_windows_share_the_day(clock: time, now: datetime) -> None:
    if clock != time(0):
        assert within(clock, None, now) != within(None, clock, now)
    assert within(None, None, now)


@pytest.mark.parametrize("wrong", ["", "24:00", "7:00", "07:60", "0700", "٠٧:٠٠", "07:00\n08:00"])
def test_what_is_no_time_of_day(wrong: str) -> None:
    with pytest.raises(ValueError, match="HH:MM"):
        parse_clock(wrong)


def test_seconds_are_accepted_as_automate_writes_them() -> None:
    assert parse_clock("07:30:00") == time(7, 30)
