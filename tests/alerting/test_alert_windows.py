"""Windows of days and hours by the clock on the wall: over midnight, and where the clocks are changed."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alerting.windows import is_open, parse_clock, within
from agent.content.definitions import Window

UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 1, 2, tzinfo=UTC)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
clocks = st.times(timezones=st.none()).map(lambda t: t.replace(second=0, microsecond=0))
moments = st.integers(0, 30_000_000).map(lambda minutes: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes))
#: Changes by an hour, by half an hour, at midnight, in Ramadan too, none; far east, far west, odd minutes.
zones = st.sampled_from(
    [
        "UTC", "Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe", "America/Havana", "Africa/Casablanca",
        "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "Asia/Beirut",
    ]
).map(ZoneInfo)  # fmt: skip


@pytest.mark.parametrize(
    ("hour", "minute", "expected"), [(21, 59, False), (22, 0, True), (23, 59, True), (24, 0, True), (29, 59, True), (30, 0, False)]
)  # fmt: skip
def test_a_window_over_midnight_belongs_to_the_day_it_opened(hour: int, minute: int, expected: bool) -> None:
    window = Window.model_validate({"days": ["fri"], "from": "22:00", "until": "06:00"})
    assert is_open(window, FRIDAY + timedelta(hours=hour, minutes=minute), UTC_ZONE) is expected
    # The night from Thursday to Friday is Thursday's.
    assert not is_open(window, FRIDAY + timedelta(hours=3), UTC_ZONE)


def test_days_alone_and_no_window() -> None:
    weekend = Window.model_validate({"days": ["sat", "sun"]})
    assert not is_open(weekend, FRIDAY + timedelta(hours=23, minutes=59), UTC_ZONE)
    assert is_open(weekend, FRIDAY + timedelta(days=1), UTC_ZONE)
    assert is_open(None, FRIDAY, UTC_ZONE)


def test_days_and_hours_are_those_of_the_zone() -> None:
    """08:00 in Berlin is 07:00 UTC in winter and 06:00 in summer; Saturday begins an hour or two earlier, too."""
    work = Window.model_validate({"days": ["fri"], "from": "08:00", "until": "17:00"})
    summer = datetime(2026, 7, 3, tzinfo=UTC)
    opening = [(FRIDAY, 6, False), (FRIDAY, 7, True), (FRIDAY, 15, True), (FRIDAY, 16, False)]
    for day, hour, expected in [*opening, (summer, 5, False), (summer, 6, True), (summer, 15, False)]:
        assert is_open(work, day + timedelta(hours=hour), BERLIN) is expected, (day, hour)
    saturday = Window.model_validate({"days": ["sat"]})
    assert not is_open(saturday, FRIDAY + timedelta(hours=22, minutes=59), BERLIN)
    assert is_open(saturday, FRIDAY + timedelta(hours=23), BERLIN)


def test_a_windows_own_zone_comes_before_the_installations() -> None:
    window = Window.model_validate({"from": "08:00", "until": "09:00", "time_zone": "America/New_York"})
    hours = [h for h in range(24) if is_open(window, FRIDAY + timedelta(hours=h), BERLIN)]
    assert hours == [13]


def minutes_open(window: Window, zone: ZoneInfo, begin: datetime, hours: int) -> int:
    return sum(is_open(window, begin + timedelta(minutes=m), zone) for m in range(hours * 60))


@pytest.mark.parametrize(
    ("hours", "ordinary", "forward", "back"),
    [
        # 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00 again.
        (("02:00", "03:00"), 60, 0, 120),
        (("02:30", "03:30"), 60, 30, 90),
        (("01:00", "02:00"), 60, 60, 60),
        (("22:00", "06:00"), 480, 420, 540),
        (("02:30", "02:30"), 1440, 1440, 1440),
    ],
)
def test_a_missing_hour_is_not_there_and_one_that_occurs_twice_counts_twice(
    hours: tuple[str, str], ordinary: int, forward: int, back: int
) -> None:
    window = Window.model_validate({"from": hours[0], "until": hours[1]})
    for day, expected in ((3, 22), ordinary), ((3, 28), forward), ((10, 24), back):
        noon = datetime(2026, *day, 12, tzinfo=BERLIN).astimezone(UTC)
        assert minutes_open(window, BERLIN, noon, 24) == expected


def test_a_night_over_the_change_of_the_clocks_belongs_to_the_day_before() -> None:
    window = Window.model_validate({"days": ["sat"], "from": "22:00", "until": "06:00"})
    for day, length in ((28, 420), (21, 480)):
        begin = datetime(2026, 3, day, 12, tzinfo=BERLIN).astimezone(UTC)
        assert minutes_open(window, BERLIN, begin, 48) == length


@given(clocks, clocks, moments, zones)
def test_a_window_and_its_complement_share_the_day(start: time, end: time, now: datetime, zone: ZoneInfo) -> None:
    if start == end:
        assert within(start, end, now, zone)
    else:
        assert within(start, end, now, zone) != within(end, start, now, zone)


@given(clocks, moments, zones)
def test_half_windows_share_the_day(clock: time, now: datetime, zone: ZoneInfo) -> None:
    if clock != time(0):
        assert within(clock, None, now, zone) != within(None, clock, now, zone)
    assert within(None, None, now, zone)


@given(clocks, clocks, st.sets(st.sampled_from(DAYS)), moments, zones)
def test_only_what_the_clock_on_the_wall_shows_decides(
    start: time, end: time, days: set[str], now: datetime, zone: ZoneInfo
) -> None:
    """The minutes of the week that a window names, counted out, against where the clock on the wall stands."""
    window = Window.model_validate({"days": sorted(days), "from": f"{start:%H:%M}", "until": f"{end:%H:%M}"})
    begin = start.hour * 60 + start.minute
    length = (end.hour * 60 + end.minute - begin) % 1440 or 1440
    named = {
        (DAYS.index(day) * 1440 + begin + m) % (7 * 1440) for day in days or DAYS for m in range(length)
    }  # fmt: skip
    local = now.astimezone(zone)
    assert is_open(window, now, zone) == (local.weekday() * 1440 + local.hour * 60 + local.minute in named)


@pytest.mark.parametrize("wrong", ["", "24:00", "7:00", "07:60", "0700", "٠٧:٠٠", "07:00\n08:00"])
def test_what_is_no_time_of_day(wrong: str) -> None:
    with pytest.raises(ValueError, match="HH:MM"):
        parse_clock(wrong)


def test_seconds_are_accepted_as_automate_writes_them() -> None:
    assert parse_clock("07:30:00") == time(7, 30)


def test_a_machine_without_zone_files_has_those_of_the_package() -> None:
    """PYTHONTZPATH that is empty: no folder of the system is searched."""
    code = (
        "import zoneinfo; from agent.time_zones import time_zone; assert zoneinfo.TZPATH == ();"
        "from datetime import datetime; print(datetime(2026, 7, 1, tzinfo=time_zone('Europe/Berlin')).utcoffset())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONTZPATH": ""}, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("2:00:00\n", "")
