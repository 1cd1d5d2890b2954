"""The circuit breaker and the averages, on a manual clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tokenworks.gateway.upstream.health import WARM_UP_SHARE, BreakerSettings, Health
from tokenworks.telemetry.clock import ManualClock

SETTINGS = BreakerSettings()


def health_of(clock: ManualClock, most: int = 8) -> Health:
    return Health("there", "site", most, clock, SETTINGS)


def fail(health: Health, times: int = 1) -> None:
    for _ in range(times):
        health.end("failed", trial=health.begin(), reason="it broke")


def succeed(health: Health, times: int = 1) -> None:
    for _ in range(times):
        health.end("answered", trial=health.begin())


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not_let_it() -> None:
    clock = ManualClock()
    health = health_of(clock)

    fail(health, SETTINGS.consecutive - 1)
    succeed(health)
    assert health.phase == "closed"

    fail(health, SETTINGS.consecutive)
    state = health.state()

    assert (state.phase, state.available, state.reason) == ("open", False, "it broke")
    assert state.share == 0
    assert state.retry_after_s == pytest.approx(SETTINGS.open_s)


def test_a_high_rate_of_failures_opens_it_although_some_succeed() -> None:
    health = health_of(ManualClock())

    for number in range(40):
        if health.phase == "open":
            break
        if number % 3 == 2:
            succeed(health)
        else:
            fail(health)

    assert health.phase == "open"
    assert health.state().error_rate >= SETTINGS.error_rate


@given(st.lists(st.sampled_from("ffsss"), max_size=200))
def test_a_low_rate_never_opens_it(outcomes: list[str]) -> None:
    health = health_of(ManualClock())
    failed = 0
    for number, outcome in enumerate(outcomes, start=1):
        # At most one in three, and no run of failures.
        if outcome == "f" and failed < number // 3 and failed + 1 < number:
            fail(health)
            failed += 1
        succeed(health, 2)

        assert health.phase == "closed"


def test_old_failures_are_forgotten() -> None:
    clock = ManualClock()
    health = health_of(clock)
    for _ in range(4):
        fail(health, 2)
        succeed(health, 2)
    before = health.state().error_rate
    clock.advance(20 * SETTINGS.half_life_s)
    succeed(health)

    assert before == pytest.approx(0.5)
    assert health.state().error_rate < 0.01


def test_after_a_while_one_request_at_a_time_tries_it() -> None:
    clock = ManualClock()
    health = health_of(clock)
    fail(health, SETTINGS.consecutive)
    assert health.refusal()
    clock.advance(SETTINGS.open_s)

    assert health.phase == "half_open"
    assert health.refusal() == ""
    trial = health.begin()

    assert trial
    assert health.refusal() == "it is being tried with one request"
    health.end("neutral", trial=trial)  # its client left: the next one tries
    assert health.refusal() == ""

    succeed(health, SETTINGS.successes)
    assert health.phase == "closed"


def test_each_failed_trial_doubles_the_wait_up_to_a_limit() -> None:
    clock = ManualClock()
    health = health_of(clock)
    fail(health, SETTINGS.consecutive)
    waits = []
    for _ in range(10):
        wait = health.state().retry_after_s
        assert wait is not None
        waits.append(wait)
        clock.advance(wait)
        fail(health)

    assert waits[:4] == pytest.approx([1, 2, 4, 8])
    assert waits[-1] == pytest.approx(SETTINGS.most_open_s)

    clock.advance(SETTINGS.most_open_s)
    succeed(health, SETTINGS.successes)
    fail(health, SETTINGS.consecutive)
    assert health.state().retry_after_s == pytest.approx(SETTINGS.open_s)  # all is forgiven


def test_a_backend_that_recovered_gets_little_at_first() -> None:
    clock = ManualClock()
    health = health_of(clock)
    fail(health, SETTINGS.consecutive)
    clock.advance(SETTINGS.open_s)
    succeed(health, SETTINGS.successes)
    shares = []
    for _ in range(5):
        shares.append(health.state().share)
        clock.advance(SETTINGS.warm_up_s / 4)

    assert shares[0] == pytest.approx(WARM_UP_SHARE)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_probe_that_is_answered_brings_a_trial_forward_and_one_that_is_not_puts_it_off() -> None:
    clock = ManualClock()
    health = health_of(clock)
    assert health.probe_in_s() is None
    fail(health, SETTINGS.consecutive)

    assert health.probe_in_s() == pytest.approx(SETTINGS.open_s / 2)
    clock.advance(SETTINGS.open_s / 2)
    health.probed(False, "no route")
    assert health.state().retry_after_s == pytest.approx(2 * SETTINGS.open_s)
    assert health.state().reason == "no route"

    health.probed(True)
    assert health.phase == "half_open"
    assert health.probe_in_s() is None


def test_a_refused_key_is_not_mended_by_a_probe() -> None:
    clock = ManualClock()
    health = health_of(clock)
    health.trip("its key is refused")
    health.probed(True)

    assert health.phase == "open"
    assert health.probe_in_s() is None
    assert health.state().retry_after_s == pytest.approx(SETTINGS.most_open_s)


def test_a_backend_that_asked_for_a_rest_gets_it_and_is_not_ill() -> None:
    clock = ManualClock()
    health = health_of(clock)
    health.rest(7)
    health.rest(3)
    state = health.state()

    assert (state.phase, state.available) == ("closed", False)
    assert state.retry_after_s == pytest.approx(7)
    clock.advance(7)
    assert health.state().available


def test_a_drained_backend_takes_nothing_new() -> None:
    health = health_of(ManualClock())
    trial = health.begin()
    health.draining = True

    assert health.refusal() == "it is being drained"
    assert not health.state().available
    health.end("answered", trial=trial)
    health.draining = False
    assert health.state().available


def test_a_full_backend_is_not_available_and_not_ill() -> None:
    health = health_of(ManualClock(), most=2)
    trials = [health.begin(), health.begin()]
    state = health.state()

    assert (state.available, state.phase, state.in_flight) == (False, "closed", 2)
    health.end("answered", trial=trials[0])
    assert health.state().available


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=50))
def test_averages_stay_within_what_was_measured(times: list[float]) -> None:
    clock = ManualClock()
    health = health_of(clock)
    for seconds in times:
        health.measured(seconds, seconds / 10)
    clock.advance(3)
    state = health.state()

    assert state.first_token_s is not None
    assert state.inter_token_s is not None
    assert min(times) * 0.999 <= state.first_token_s <= max(times) * 1.001
    assert state.inter_token_s == pytest.approx(state.first_token_s / 10)
    assert state.age_s == pytest.approx(3)


def test_an_average_follows_a_change() -> None:
    health = health_of(ManualClock())
    for seconds in [0.1] * 20 + [1.0] * 20:
        health.measured(seconds, None)
    state = health.state()

    assert state.first_token_s == pytest.approx(1.0, rel=0.02)
    assert state.inter_token_s is None


class Breaking(RuleBasedStateMachine):
    """Whatever happens, the counts are right and nobody is sent where nobody may go."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.health = health_of(self.clock)
        self.running: list[bool] = []

    @rule(seconds=st.floats(0, 200))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: not self.health.refusal() and not self.health.full)
    @rule()
    def begins(self) -> None:
        self.running.append(self.health.begin())

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["answered", "failed", "neutral"]))
    def ends(self, data: st.DataObject, outcome: str) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        self.health.end(outcome, trial=self.running.pop(index))  # type: ignore[arg-type]

    @rule(answers=st.booleans())
    def is_probed(self, answers: bool) -> None:
        self.health.probed(answers, "a probe failed")

    @rule(seconds=st.floats(0, 100))
    def asks_for_rest(self, seconds: float) -> None:
        self.health.rest(seconds)

    @rule()
    def refuses_our_key(self) -> None:
        self.health.trip("its key is refused")

    @invariant()
    def counts_are_right(self) -> None:
        assert self.health.in_flight == len(self.running)
        assert sum(self.running) <= 1  # trials

    @invariant()
    def the_state_is_consistent(self) -> None:
        state = self.health.state()
        assert 0 <= state.error_rate <= 1
        assert 0 <= state.share <= 1
        assert state.available == (not self.health.refusal() and not self.health.full)
        assert state.available == (state.reason == "")
        assert (state.retry_after_s is not None) == bool(self.health.refusal())
        assert state.retry_after_s is None or state.retry_after_s > 0

    @invariant()
    def it_is_never_closed_for_ever(self) -> None:
        wait = self.health.state().retry_after_s
        if self.health.phase == "open":
            assert wait is not None
            assert wait <= SETTINGS.most_open_s or self.health.refusal()


TestBreaking = Breaking.TestCase
