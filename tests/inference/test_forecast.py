"""When a first token would come, from what an engine holds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.inference.forecast import AnswerLengths, Backlog, first_token_s, place_s
from tokenworks.inference.forward_cost import KNOTS, ForwardCost
from tokenworks.inference.row_budget import RowBudget

ROW_S = 0.001


def budget(stall_s: float = math.inf) -> RowBudget:
    cost = ForwardCost()
    for rows in KNOTS:
        cost.record(rows, 0, ROW_S * rows)
    return RowBudget(cost, 256, stall_s)


def test_an_idle_engine_only_reads_the_prompt() -> None:
    assert first_token_s(Backlog(places=4), 1000, budget(), 50.0) == pytest.approx(1.0, rel=0.1)


def test_prompts_before_it_are_read_first() -> None:
    backlog = Backlog(places=4, prompt_rows=3000)

    assert first_token_s(backlog, 1000, budget(), 50.0) == pytest.approx(4.0, rel=0.1)


def test_beside_answers_reading_takes_longer() -> None:
    backlog = Backlog(places=40, running=25, decoding=25)

    # Of the 50 rows that there is time for, 25 are those of answers.
    assert first_token_s(backlog, 1000, budget(stall_s=0.05), None) == pytest.approx(2.0, rel=0.1)


def test_who_needs_a_place_waits_for_answers_to_end() -> None:
    backlog = Backlog(places=4, running=4, decoding=4, ahead=7)

    wait_s = first_token_s(backlog, 1, budget(stall_s=0.02), 100.0)

    # An answer ends in each fourth of 100 forwards of 4 ms; the eighth end is its turn.
    assert wait_s == pytest.approx(8 * 100 / 4 * 0.004, rel=0.1)
    assert place_s(backlog, budget(stall_s=0.02), 100.0) == pytest.approx(0.1, rel=0.1)


def test_prompts_that_are_read_meanwhile_hold_the_ends_of_answers_up() -> None:
    backlog = Backlog(places=4, running=4, decoding=4, ahead=3, prompt_rows=300)

    wait_s = first_token_s(backlog, 100, budget(stall_s=0.02), 100.0)

    assert wait_s == pytest.approx(4 * 100 / 4 * 0.004 + 400 * ROW_S, rel=0.1)


def test_while_nobody_knows_how_long_answers_become_places_count_as_free() -> None:
    backlog = Backlog(places=1, running=1, decoding=1, ahead=100)

    assert first_token_s(backlog, 10, budget(), None) < 0.05
    assert place_s(backlog, budget(), None) == 0


counts = st.integers(0, 300)


@settings(deadline=None)
@given(counts, counts, counts, counts, st.integers(1, 4000), st.floats(0, 1), st.floats(1, 1000))
def test_more_before_it_never_makes_the_wait_shorter(
    running: int,
    ahead: int,
    prompt_rows: int,
    more: int,
    rows: int,
    stall_s: float,
    answer: float,
) -> None:
    held = min(running, 32)
    less = Backlog(places=32, running=held, decoding=held, ahead=ahead, prompt_rows=prompt_rows)
    later = Backlog(
        places=32,
        running=held,
        decoding=held,
        ahead=ahead + more,
        prompt_rows=prompt_rows + more,
    )

    wait_s = first_token_s(less, rows, budget(stall_s), answer)
    assert 0 < wait_s <= first_token_s(later, rows, budget(stall_s), answer)


def test_the_mean_length_of_answers_follows_those_that_end() -> None:
    lengths = AnswerLengths()
    assert lengths.mean is None
    lengths.record(10)
    lengths.record(20)
    assert lengths.mean == 15
    for _ in range(200):
        lengths.record(100)

    assert lengths.mean == pytest.approx(100, rel=0.01)
