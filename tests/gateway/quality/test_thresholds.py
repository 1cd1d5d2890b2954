import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.gateway.quality.thresholds import Judged, cost_vs_random, curve, threshold

ROWS = st.lists(
    st.tuples(st.sampled_from([-0.5, -0.1, 0.0, 0.1, 0.3, 0.9]), st.floats(0, 1), st.floats(0, 1)),
    min_size=1,
    max_size=60,
)


def judged_of(rows: list[tuple[float, float, float]]) -> Judged:
    gains, weak, strong = (np.array(column) for column in zip(*rows, strict=True))
    return Judged(gains, weak, strong)


def reached(judged: Judged, at: float) -> float:
    return float(np.where(judged.gains >= at, judged.strong, judged.weak).sum())


@given(ROWS, st.floats(0.5, 1), st.sampled_from([0.0, 1.0, 2.0]))
def test_the_quality_is_kept_on_the_prompts_that_it_was_chosen_on(
    rows: list[tuple[float, float, float]], quality: float, margin: float
) -> None:
    judged = judged_of(rows)
    at = threshold(judged, quality, margin)

    assert reached(judged, at) >= quality * judged.strong.sum() - 1e-6


@given(ROWS, st.floats(0.5, 1))
def test_without_a_margin_no_fewer_prompts_would_do_it(
    rows: list[tuple[float, float, float]], quality: float
) -> None:
    judged = judged_of(rows)
    at = threshold(judged, quality, 0.0)
    sent = judged.gains[judged.gains >= at]
    if len(sent):  # then it breaks the promise to spare those of them that gain least
        fewer = np.nextafter(sent.min(), np.inf)
        assert reached(judged, fewer) < quality * judged.strong.sum() + 1e-6


@given(ROWS)
def test_more_quality_never_takes_fewer_strong_calls(
    rows: list[tuple[float, float, float]],
) -> None:
    shares = [point.share for point in curve(judged_of(rows))]

    assert shares == sorted(shares)


def test_a_margin_sends_more_prompts_to_the_strong_model() -> None:
    draw = np.random.default_rng(0)
    judged = Judged(draw.random(400), draw.random(400) < 0.6, draw.random(400) < 0.9)
    judged = Judged(judged.gains, judged.weak.astype(float), judged.strong.astype(float))

    assert threshold(judged, 0.95, 2.0) < threshold(judged, 0.95, 0.0)


@pytest.mark.parametrize(("weak", "at"), [(1.0, np.inf), (0.0, -np.inf)])
def test_one_model_alone_where_the_other_gives_nothing(weak: float, at: float) -> None:
    judged = Judged(np.linspace(0, 1, 50), np.full(50, weak), np.ones(50))

    assert threshold(judged, 1.0) == at


def test_a_random_mix_costs_as_much_as_a_random_mix() -> None:
    # Half of the calls, half of the way from the weak score to the strong one.
    assert cost_vs_random(0.5, 0.75, 0.6, 0.9) == pytest.approx(1.0)
    assert cost_vs_random(0.25, 0.75, 0.6, 0.9) == pytest.approx(0.5)
    assert cost_vs_random(0.5, 0.6, 0.6, 0.9) == np.inf
