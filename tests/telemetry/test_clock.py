import pytest

from tokenworks.telemetry.clock import ManualClock, MonotonicClock


def test_a_manual_clock_moves_only_when_told_and_never_back() -> None:
    clock = ManualClock(5.0)
    clock.advance(1.5)

    assert clock.now() == 6.5
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)


def test_the_monotonic_clock_never_goes_back() -> None:
    clock = MonotonicClock()

    assert clock.now() <= clock.now()
