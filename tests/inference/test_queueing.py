"""The order of requests: who can go before whom, and for how long."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenworks.inference.queueing import (
    HIGHEST_PRIORITY,
    LEVEL_S,
    LOWEST_PRIORITY,
    PATIENCE,
    Entry,
    Turns,
    Waiting,
    due,
    turn,
)

priorities = st.integers(LOWEST_PRIORITY, HIGHEST_PRIORITY)
moments = st.floats(0, 1e6)
durations = st.floats(0, 1e3)


def key(arrived: float, priority: int, prompt_s: float, deadline: float | None = None) -> float:
    return turn(due(arrived, priority), prompt_s, deadline)


def test_higher_priority_goes_first_and_then_who_came_first() -> None:
    assert key(0, 1, 1) < key(0, 0, 1)
    assert key(0, 0, 1) < key(1, 0, 1)


def test_a_short_prompt_overtakes_a_long_one() -> None:
    assert key(5, 0, 0.1) < key(0, 0, 8)


def test_a_deadline_brings_a_long_prompt_forward() -> None:
    assert key(0, 0, 8, deadline=10) < key(5, 0, 0.1)
    assert key(0, 0, 0.1, deadline=1000) == key(0, 0, 0.1)


@settings(deadline=None)
@given(moments, priorities, durations, priorities, durations, st.floats(0, 100))
def test_nobody_is_overtaken_by_those_who_come_after_a_bounded_wait(
    arrived: float,
    priority: int,
    prompt_s: float,
    other: int,
    other_s: float,
    later: float,
) -> None:
    """Whatever the other's priority, length and deadline, if that can be met at all."""
    bound = LEVEL_S * (max(other, 0) - priority) + PATIENCE * prompt_s
    comes = arrived + max(0.0, bound) + later + 1e-6

    mine = key(arrived, priority, prompt_s)
    assert mine <= key(comes, other, other_s) + 1e-6
    assert mine <= key(comes, other, other_s, deadline=comes + other_s) + 1e-6


@settings(deadline=None)
@given(moments, priorities, durations, durations)
def test_who_has_less_to_compute_never_goes_later_for_it(
    arrived: float, priority: int, one: float, other: float
) -> None:
    less, more = sorted((one, other))

    assert key(arrived, priority, less) <= key(arrived, priority, more)


entries = st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1e3, 1e3)), max_size=30)


@settings(deadline=None)
@given(entries=entries, leave=st.lists(st.integers(0, 29), unique=True))
def test_those_who_wait_stand_in_order_of_turn_until_they_are_taken_out(
    entries: list[tuple[str, float]], leave: list[int]
) -> None:
    waiting: Waiting[int] = Waiting()
    for number, (tenant, when) in enumerate(entries):
        waiting.add(tenant, (when, number, number))
    left = dict(enumerate(entries))
    for number in leave:
        if number in left:
            tenant, when = left.pop(number)
            waiting.remove(tenant, when, number)

    assert sorted(waiting) == sorted(left)
    assert len(waiting) == len(left)
    assert set(waiting.tenants) == {tenant for tenant, _ in left.values()}
    for tenant in "abc":
        own = sorted((when, number) for number, (of, when) in left.items() if of == tenant)
        assert [(when, number) for when, number, _ in waiting.line(tenant)] == own


def entry(when: float, number: int, name: str) -> Entry[str]:
    return when, number, name


def test_the_tenant_that_was_given_least_is_next_and_what_it_gets_counts() -> None:
    turns: Turns[str] = Turns()
    turns.add("a", 100, [], [entry(0, 0, "a1"), entry(1, 1, "a2")])
    turns.add("b", 60, [], [entry(5, 2, "b1"), entry(6, 3, "b2"), entry(7, 4, "b3")])
    order = []
    while turns:
        order.append(turns.next)
        turns.give(30)

    assert order == ["b1", "b2", "a1", "b3", "a2"]


def test_who_has_begun_and_who_waits_take_turns_by_one_key() -> None:
    turns: Turns[str] = Turns()
    begun = [entry(9, 0, "long"), entry(2, 3, "short")]
    turns.add("a", 0, begun, [entry(1, 2, "first"), entry(4, 1, "second")])
    order = []
    while turns:
        order.append(turns.next)
        turns.give(1)

    assert order == ["first", "short", "second", "long"]
