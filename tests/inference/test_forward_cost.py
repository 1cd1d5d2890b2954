"""The cost model of a forward: what it learns, and what must hold whatever it was told."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenworks.inference.forward_cost import KNOTS, ForwardCost

Forward = tuple[int, int, float]  # rows, context, seconds

forwards = st.lists(
    st.tuples(
        st.integers(1, 700),
        st.integers(0, 2_000_000),
        st.floats(0, 100, allow_subnormal=False),
    ),
    max_size=80,
)


def told(recorded: list[Forward]) -> ForwardCost:
    cost = ForwardCost()
    for rows, context, seconds in recorded:
        cost.record(rows, context, seconds)
    return cost


def truth(rows: int, context: int) -> float:
    """A slower machine than the prior's, and a model whose context costs more."""
    return 0.01 + 0.002 * rows + 2e-6 * context


@settings(deadline=None)
@given(recorded=forwards, rows=st.integers(0, 800), context=st.integers(0, 3_000_000))
def test_seconds_are_never_negative_and_never_fall(
    recorded: list[Forward], rows: int, context: int
) -> None:
    cost = told(recorded)

    assert cost.seconds(rows, context) >= 0
    assert cost.seconds(rows, context) <= cost.seconds(rows + 1, context)
    assert cost.seconds(rows, context) <= cost.seconds(rows, context + 1000)


@settings(deadline=None)
@given(recorded=forwards, rows=st.integers(1, 800), context=st.integers(0, 100_000))
def test_the_same_forwards_teach_the_same(recorded: list[Forward], rows: int, context: int) -> None:
    assert told(recorded).seconds(rows, context) == told(recorded).seconds(rows, context)


def test_forwards_that_take_no_time_are_taken_as_they_are() -> None:
    cost = told([(4, 100, 0.0)] * 3)

    assert cost.seconds(4) == 0


def test_before_any_forward_there_is_a_guess_that_grows_with_the_rows() -> None:
    cost = ForwardCost()
    guesses = [cost.seconds(rows) for rows in (0, *KNOTS, 1024)]

    assert guesses[0] == 0
    assert guesses == sorted(set(guesses))
    assert guesses[-1] == pytest.approx(2 * cost.seconds(512), rel=0.01)


def test_one_measured_forward_scales_the_guess_of_all() -> None:
    before, after = ForwardCost(), ForwardCost()
    after.record(16, 0, 10 * before.seconds(16))

    for rows in (1, 16, 100, 600):
        assert after.seconds(rows) == pytest.approx(10 * before.seconds(rows))


def mixed_forwards(seed: int, count: int = 600) -> list[tuple[int, int]]:
    """Rows and context as answers beside prompts have them."""
    drawn = random.Random(seed)
    rows = [drawn.choice((1, 2, 4, 7, 16, 30, 64, 256)) for _ in range(count)]
    return [(each, each * drawn.randrange(4000)) for each in rows]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000))
@example(seed=62)  # hard ones: what was learnt first is wrong
@example(seed=140)
@example(seed=813)
@example(seed=845)
def test_rows_and_context_are_told_apart_beside_noise_and_pauses(seed: int) -> None:
    drawn = random.Random(seed)
    cost = ForwardCost()
    for rows, context in mixed_forwards(seed):
        noise = drawn.uniform(0.95, 1.1)
        pause = 3.0 if drawn.random() < 0.1 else 0.0
        cost.record(rows, context, truth(rows, context) * noise + pause)

    for rows, context in [(1, 0), (4, 8000), (16, 16_000), (64, 100_000), (256, 500_000)]:
        assert cost.seconds(rows, context) == pytest.approx(truth(rows, context), rel=0.25)


def test_what_was_seen_before_the_context_was_known_is_judged_anew() -> None:
    cost = told([(4, 8000, truth(4, 8000))] * 5)
    for _ in range(5):
        for context in (0, 500_000):
            cost.record(256, context, truth(256, context))

    assert cost.seconds(4) == pytest.approx(truth(4, 0), rel=0.05)


def test_a_single_pause_changes_nothing() -> None:
    cost = told([(4, 400, 0.004)] * 20)
    expected = cost.seconds(4, 400)

    cost.record(4, 400, 5.0)

    assert cost.seconds(4, 400) == pytest.approx(expected)


def test_a_pause_in_the_only_forward_of_a_size_is_known_by_larger_ones() -> None:
    cost = told([(16, 0, 0.01)] * 20)

    cost.record(4, 0, 5.0)

    assert cost.seconds(4) <= cost.seconds(16) == pytest.approx(0.01)


def test_a_machine_that_becomes_slower_is_followed() -> None:
    cost = told([(8, 0, 0.01)] * 100)

    for _ in range(8):
        cost.record(8, 0, 0.05)

    assert cost.seconds(8) == pytest.approx(0.05)


def test_rows_between_two_knots_lie_between_them() -> None:
    cost = told([(64, 0, 0.06), (96, 0, 0.1)])

    assert cost.seconds(80) == pytest.approx(0.08)
