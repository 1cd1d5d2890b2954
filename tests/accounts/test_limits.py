"""Rate limits on a manual clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.accounts.limits import Allowance, Limits
from tokenworks.errors import RateError
from tokenworks.telemetry.clock import ManualClock

KEY, TENANT = "key:k", "tenant:t"


def allowance(requests: int | None = None, tokens: int | None = None) -> Allowance:
    return Allowance(requests_per_minute=requests, tokens_per_minute=tokens)


def test_a_minutes_worth_may_come_at_once_and_the_next_says_when_to_come_back() -> None:
    clock = ManualClock()
    limits = Limits(clock)
    for _ in range(6):
        limits.admit([(KEY, allowance(requests=6))], 0)

    with pytest.raises(RateError, match="may use 6 requests a minute") as refusal:
        limits.admit([(KEY, allowance(requests=6))], 0)
    assert refusal.value.retry_after_s == pytest.approx(10)

    clock.advance(9.9)
    with pytest.raises(RateError):
        limits.admit([(KEY, allowance(requests=6))], 0)
    clock.advance(0.11)
    limits.admit([(KEY, allowance(requests=6))], 0)


def test_of_several_limits_the_one_that_lasts_longest_says_when_to_come_back() -> None:
    limits = Limits(ManualClock())
    both = [(KEY, allowance(requests=60)), (TENANT, allowance(requests=1, tokens=6000))]
    limits.admit(both, 6000)

    with pytest.raises(RateError, match="The tenant 't' may use 1 requests") as refusal:
        limits.admit(both, 300)

    assert refusal.value.retry_after_s == pytest.approx(60)


def test_a_refusal_takes_nothing_from_anybody() -> None:
    limits = Limits(ManualClock())
    own, shared = (KEY, allowance(requests=2)), (TENANT, allowance(tokens=10))
    limits.admit([own, shared], 10)
    for _ in range(5):
        with pytest.raises(RateError):
            limits.admit([own, shared], 10)

    limits.admit([own], 0)


def test_tokens_that_were_not_used_come_back_and_those_beyond_are_owed() -> None:
    clock = ManualClock()
    limits = Limits(clock)
    own = [(KEY, allowance(tokens=600))]
    limits.admit(own, 600)
    limits.correct(own, taken=600, used=100)
    limits.admit(own, 500)
    limits.correct(own, taken=500, used=800)

    with pytest.raises(RateError) as refusal:
        limits.admit(own, 1)

    assert refusal.value.retry_after_s == pytest.approx(30.1)


def test_a_request_larger_than_a_minutes_worth_waits_for_a_full_bucket_and_owes_the_rest() -> None:
    clock = ManualClock()
    limits = Limits(clock)
    own = [(KEY, allowance(tokens=60))]
    limits.admit(own, 180)

    with pytest.raises(RateError) as refusal:
        limits.admit(own, 180)
    assert refusal.value.retry_after_s == pytest.approx(180)

    clock.advance(180)
    limits.admit(own, 180)


def test_who_may_use_nothing_is_refused() -> None:
    with pytest.raises(RateError) as refusal:
        Limits(ManualClock()).admit([(KEY, allowance(requests=0))], 0)

    assert refusal.value.retry_after_s > 0


def test_a_limit_that_is_changed_holds_at_once() -> None:
    limits = Limits(ManualClock())
    limits.admit([(KEY, allowance(requests=1))], 0)
    for _ in range(4):
        limits.admit([(KEY, allowance(requests=5))], 0)

    with pytest.raises(RateError):
        limits.admit([(KEY, allowance(requests=5))], 0)


def test_memory_does_not_grow_with_the_keys_that_were_ever_used() -> None:
    clock = ManualClock()
    limits = Limits(clock)
    for number in range(20_000):
        limits.admit([(f"key:{number}", allowance(requests=60))], 0)
        clock.advance(0.1)

    assert len(limits._buckets) < 2500


waits = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 300)), max_size=60)


@given(st.integers(1, 100), st.integers(1, 200), waits)
def test_no_more_is_admitted_than_a_minutes_worth_and_what_time_brought(
    requests: int, tokens: int, arrivals: list[tuple[float, int]]
) -> None:
    clock = ManualClock()
    limits = Limits(clock)
    admitted, taken, largest = 0, 0, 0
    for wait, amount in arrivals:
        clock.advance(wait)
        try:
            limits.admit([(KEY, allowance(requests, tokens))], amount)
        except RateError as refusal:
            # Whoever comes back when told is admitted, and a moment earlier is not.
            clock.advance(refusal.retry_after_s * 0.99)
            if refusal.retry_after_s > 0.001:
                with pytest.raises(RateError):
                    limits.admit([(KEY, allowance(requests, tokens))], amount)
            clock.advance(refusal.retry_after_s * 0.01)
            limits.admit([(KEY, allowance(requests, tokens))], amount)
        admitted, taken, largest = admitted + 1, taken + amount, max(largest, amount)

    minutes = clock.now() / 60
    assert admitted <= requests * (1 + minutes) + 1e-3
    assert taken <= tokens * (1 + minutes) + largest + 1e-3
