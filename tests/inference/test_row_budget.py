"""Rows of a forward: within its time as far as that is known, and never none."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.inference.forward_cost import ForwardCost
from tokenworks.inference.row_budget import (
    FEWEST_ROWS,
    FEWEST_UNWATCHED,
    SLOWED,
    UNWATCHED,
    RowBudget,
    attended,
)

MOST = 256


def budget(*, stall_s: float, row_s: float = 0.001, context_s: float = 0.0) -> RowBudget:
    """On a machine on which each row and each token attended to takes so long."""
    cost = ForwardCost()
    for rows in (1, 16, 64, 256):
        for context in (0, 100_000, 2_000_000):
            for _ in range(8):
                cost.record(rows, context, row_s * rows + context_s * context)
    return RowBudget(cost, MOST, stall_s)


def test_what_rows_attend_to_is_the_sum_of_their_places() -> None:
    assert attended(10, 3) == 11 + 12 + 13


@settings(deadline=None)
@given(
    decoding=st.integers(1, 32),
    position=st.integers(0, 8000),
    start=st.integers(0, 8000),
    wanted=st.integers(1, 4000),
    stall_s=st.floats(0, 1),
)
def test_beside_answers_a_forward_is_in_time_or_has_few_prompt_rows(
    decoding: int, position: int, start: int, wanted: int, stall_s: float
) -> None:
    rows = budget(stall_s=stall_s, context_s=5e-7)
    rows.decode(decoding, decoding * (position + 1))
    limit_s = max(stall_s, SLOWED * rows.cost.seconds(rows.rows, rows.context))

    taken = rows.take(start, wanted)

    fewest = min(FEWEST_ROWS, wanted)
    assert fewest <= taken <= min(wanted, MOST - decoding)
    in_time = rows.cost.seconds(rows.rows, rows.context) <= limit_s
    assert in_time or taken == fewest
    # And not fewer than there is time for.
    longer = rows.context - attended(start, taken) + attended(start, taken + 1)
    full = taken in (wanted, MOST - decoding)
    assert full or taken == fewest or rows.cost.seconds(rows.rows + 1, longer) > limit_s


def test_as_many_rows_as_there_is_time_for() -> None:
    rows = budget(stall_s=0.1)
    rows.decode(20, 20)

    assert 78 <= rows.take(0, 1000) <= 82
    assert not rows.open
    assert rows.take(0, 1000) == 0


def test_who_cannot_finish_may_leave_half() -> None:
    rows = budget(stall_s=math.inf)

    assert rows.take(0, 100, leave_half=True) == 100
    assert rows.take(0, 1000, leave_half=True) == (MOST - 100) // 2
    assert rows.open


def test_while_nobody_reads_a_forward_may_take_longer() -> None:
    rows = budget(stall_s=0.05)

    assert rows.take(0, 1000) == round(UNWATCHED * 50)


def test_answers_that_take_long_by_themselves_leave_prompts_half_as_long_again() -> None:
    rows = budget(stall_s=0.05)
    rows.decode(100, 100)

    assert rows.take(0, 1000) == round((SLOWED - 1) * 100)


def test_the_fewest_rows_are_those_of_all_prompts_together() -> None:
    rows = budget(stall_s=0.0)
    rows.decode(1, 1)

    assert [rows.take(0, 10) for _ in range(3)] == [10, FEWEST_ROWS - 10, 0]


def test_a_slow_machine_still_reads_prompts() -> None:
    assert budget(stall_s=0.05, row_s=1.0).take(0, 1000) == FEWEST_UNWATCHED


def test_without_a_target_only_the_number_of_rows_limits() -> None:
    rows = budget(stall_s=math.inf, row_s=1.0)
    rows.decode(1, 1)

    assert rows.take(0, 1000) == MOST - 1
    assert not rows.open
