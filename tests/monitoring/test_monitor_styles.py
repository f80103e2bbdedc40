"""Alert styles as pure functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.content.alert_styles import STYLES, is_due, next_due, parse_style

moments = st.integers(0, 30_000_000).map(lambda minutes: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes))
shortest = {0: None, **{n: timedelta(days=n) for n in range(1, 8)}, 8: timedelta(days=30), 9: timedelta(days=60),
            10: timedelta(days=90), 11: timedelta(days=365), 12: timedelta(days=5 * 365 + 1)}  # fmt: skip


def test_there_are_thirteen() -> None:
    assert [style.number for style in STYLES] == list(range(13))


@pytest.mark.parametrize("style", STYLES, ids=str)
def test_number_and_words_name_the_same_style(style: object) -> None:
    number = STYLES.index(style)  # type: ignore[arg-type]
    assert parse_style(number) == parse_style(str(number)) == parse_style(str(style).upper()) == style


@pytest.mark.parametrize(
    ("words", "number"),
    [("once per 1 day", 1), ("Once  per 3 days", 3), ("once_per_30_days", 8), ("once per 1 year", 11), ("once per 5 years", 12)],
)  # fmt: skip
def test_words(words: str, number: int) -> None:
    assert parse_style(words).number == number


@pytest.mark.parametrize(
    "wrong", ["", "13", "-1", "1.0", "²", "once per 8 days", "once per 0 days", "once", "once per 2 years", True]
)
def test_unknown_styles_are_refused_with_what_there_is(wrong: str) -> None:
    with pytest.raises(ValueError, match="once per 90 days"):
        parse_style(wrong)


@given(st.sampled_from(STYLES), moments, st.timedeltas(timedelta(0), timedelta(days=2500)))
def test_due_exactly_when_the_period_is_over(style: object, alerted: datetime, later: timedelta) -> None:
    assert isinstance(style, type(STYLES[0]))
    least = shortest[style.number]
    due = is_due(style, alerted_at=alerted, now=alerted + later)
    if least is None:
        assert not due and next_due(style, alerted) is None
        return
    end = next_due(style, alerted)
    assert end is not None and end - alerted >= least and end - alerted <= least + timedelta(days=1)
    assert due == (alerted + later >= end)


@given(st.sampled_from(STYLES), moments)
def test_never_given_means_due(style: object, now: datetime) -> None:
    assert isinstance(style, type(STYLES[0]))
    assert is_due(style, alerted_at=None, now=now)


def test_a_leap_day_becomes_the_first_of_march() -> None:
    assert next_due(STYLES[11], datetime(2028, 2, 29, 8, tzinfo=UTC)) == datetime(2029, 3, 1, 8, tzinfo=UTC)
