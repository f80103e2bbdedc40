"""Lengths of time are told in the words in which they are given."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.content.durations import in_words, parse_duration


@given(st.integers(0, 10_000_000).map(lambda seconds: timedelta(seconds=seconds)))
def test_the_words_are_read_back_as_the_same_length(length: timedelta) -> None:
    assert parse_duration(in_words(length)) == length


def test_a_unit_that_is_not_needed_is_left_out() -> None:
    told = [in_words(timedelta(seconds=s)) for s in (0, 1, 300, 5400, 86400)]
    assert told == ["0 seconds", "1 second", "5 minutes", "1 hour 30 minutes", "1 day"]
