import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks.gateway.quality.calibration import (
    calibrated,
    calibration_error,
    reliability,
    sigmoid,
)


def test_the_slope_and_offset_that_made_the_scores_are_found() -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(size=20_000)
    right = (draw.random(20_000) < sigmoid(2.0 * scores - 1.0)).astype(float)
    slope, offset = calibrated(scores, right)

    assert slope == pytest.approx(2.0, abs=0.1)
    assert offset == pytest.approx(-1.0, abs=0.1)
    assert calibration_error(reliability(sigmoid(slope * scores + offset), right)) < 0.02


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=50),
    st.floats(-5, 5),
)
def test_any_scores_give_a_chance_that_rises_or_stays_finite(
    pairs: list[tuple[float, bool]], asked: float
) -> None:
    scores, right = (np.array(column, float) for column in zip(*pairs, strict=True))
    slope, offset = calibrated(scores, right)

    assert 0 <= float(sigmoid(np.array(slope * asked + offset))) <= 1


def test_chances_that_are_all_wrong_have_the_whole_error() -> None:
    bins = reliability(np.zeros(40), np.ones(40))

    assert calibration_error(bins) == 1.0
    assert sum(one.prompts for one in bins) == 40
