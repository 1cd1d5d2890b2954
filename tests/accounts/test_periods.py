"""Days and months of UTC."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.accounts.periods import PERIODS, day_of, end_of, period_of, start_of
from tokenworks.errors import RequestError

moments = st.floats(0, 4_000_000_000)


def at(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def test_periods_begin_and_end_where_the_calendar_says() -> None:
    moment = at(2026, 12, 31, 23, 59, 59)

    assert start_of("day", moment) == at(2026, 12, 31)
    assert end_of("day", moment) == at(2027, 1, 1)
    assert start_of("month", moment) == at(2026, 12, 1)
    assert end_of("month", moment) == at(2027, 1, 1)
    assert end_of("month", at(2028, 2, 29)) == at(2028, 3, 1)
    assert (start_of("total", moment), end_of("total", moment)) == (0, None)
    assert day_of(moment) == "2026-12-31"


@given(moments, st.sampled_from(["day", "month"]))
def test_every_moment_is_in_its_period_and_the_next_begins_where_it_ends(
    moment: float, period: str
) -> None:
    start, end = start_of(period, moment), end_of(period, moment)

    assert end is not None
    assert start <= moment < end
    assert start_of(period, start) == start_of(period, end - 1) == start
    assert start_of(period, end) == end


def test_a_word_that_is_no_period_is_refused_with_those_there_are() -> None:
    with pytest.raises(RequestError, match="day, month, total"):
        period_of("week")

    assert [period_of(word) for word in PERIODS] == list(PERIODS)
