"""The sampler against its definition, written out slowly."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tokenworks.errors import EngineError
from tokenworks.inference import _kernels, drawing
from tokenworks.inference.messages import Sampling
from tokenworks.inference.sampler import Choose, sample, uniform

Array = NDArray[np.float32]
WAYS = [
    *(pytest.param(partial(_kernels.choose, path), id=path) for path in _kernels.supported_paths()),
    pytest.param(drawing.choose, id="numpy"),
]

logits_of = arrays(
    np.float32, st.integers(1, 400), elements=st.floats(-12, 12, width=16).map(float)
)
samplings = st.builds(
    Sampling,
    max_tokens=st.just(1),
    temperature=st.floats(0.1, 3.0),
    top_k=st.integers(0, 20),
    top_p=st.floats(0.05, 1.0),
    min_p=st.sampled_from([0.0, 0.01, 0.2, 1.0]),
    seed=st.integers(0, 2**63 - 1),
)


def distribution(logits: Array, sampling: Sampling) -> NDArray[np.float64]:
    """What is left of each token's probability: temperature, min-p, top-k, top-p."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / sampling.temperature)
    weights[weights < sampling.min_p * (1 - 1e-6)] = 0
    if 0 < sampling.top_k < len(weights):
        # Logits that float32 cannot tell apart after the peak is taken off are ties, and all stay.
        weights[weights < np.sort(weights)[-sampling.top_k] * (1 - 1e-6)] = 0
    if sampling.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= sampling.top_p * weights.sum() * (1 + 1e-6)]] = 0
    return weights / weights.sum()


def greedy(logits: list[float], **sampling: int) -> int:
    wanted = Sampling(max_tokens=1, temperature=0, **sampling)
    return sample(np.array(logits, np.float32), wanted, 0).token


def test_temperature_zero_takes_the_most_likely() -> None:
    assert greedy([0.5, 3.0, -1.0]) == 1


def test_greedy_ties_go_to_the_lowest_id() -> None:
    assert greedy([0.0, 2.0, 2.0, 2.0]) == 1


@example(
    logits=np.array([0, 0, *[1] * 9, 2, 2**-24], np.float32),
    sampling=Sampling(max_tokens=1, temperature=3.0, top_k=11, seed=5),
    index=0,
)
@settings(max_examples=80, deadline=None)
@given(logits=logits_of, sampling=samplings, index=st.integers(0, 10_000))
def test_a_drawn_token_is_one_that_the_filters_leave(
    logits: Array, sampling: Sampling, index: int
) -> None:
    token = sample(logits, sampling, index).token

    assert distribution(logits, sampling)[token] > 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from([1, 15, 16, 255, 257, 1000, 5003]),
    sampling=samplings,
    spread=st.sampled_from([0.5, 3.0, 20.0]),
    position=st.floats(0, 1, exclude_max=True),
)
@pytest.mark.parametrize("choose", WAYS)
def test_every_way_draws_where_the_running_sum_passes_the_position(
    choose: Choose, seed: int, size: int, sampling: Sampling, spread: float, position: float
) -> None:
    logits = (np.random.default_rng(seed).standard_normal(size) * spread).astype(np.float32)
    token, likeliest, peak = choose(
        logits,
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.min_p,
        position,
    )
    expected = distribution(logits, sampling)
    running = np.cumsum(expected)
    assert (likeliest, peak) == (int(logits.argmax()), logits.max())
    assert expected[token] > 0
    assert running[token] > position - 1e-5
    assert running[token] - expected[token] < position + 1e-5


@pytest.mark.parametrize("choose", WAYS)
def test_every_way_notices_what_is_no_number_wherever_it_is(choose: Choose) -> None:
    for place in (0, 14, 255, 256, 300):
        for bad in (math.nan, math.inf):
            logits = np.zeros(301, np.float32)
            logits[place] = bad
            assert choose(logits, 0.7, 0, 1.0, 0.0, 0.5)[1] == place
        logits[place] = -math.inf
        token, _, peak = choose(logits, 0.7, 0, 1.0, 0.0, 0.5)
        assert peak == 0.0
        assert token != place


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.7, "top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 1.3, "top_k": 30, "top_p": 0.9, "min_p": 0.02},
    ],
)
def test_tokens_come_as_often_as_their_probability_says(filters: dict[str, float]) -> None:
    logits = (np.random.default_rng(1).standard_normal(1000) * 2.5).astype(np.float32)
    sampling = Sampling(max_tokens=1, seed=5, **filters)  # type: ignore[arg-type]
    draws = 4000

    counts = np.bincount(
        [sample(logits, sampling, index).token for index in range(draws)], minlength=1000
    )

    expected = distribution(logits, sampling)
    assert counts[expected == 0].sum() == 0
    deviation = np.abs(counts - draws * expected) / np.sqrt(draws * expected + 1)
    assert deviation.max() < 5


def test_ties_at_the_edge_of_the_nucleus_go_to_the_lowest_ids() -> None:
    logits = np.zeros(10, np.float32)
    sampling = Sampling(max_tokens=1, top_p=0.35)

    drawn = {sample(logits, sampling, index).token for index in range(300)}

    assert drawn == {0, 1, 2, 3}


@settings(max_examples=25, deadline=None)
@given(logits=logits_of, seed=st.integers(-(2**63), 2**63 - 1), index=st.integers(0, 1000))
def test_filters_that_leave_everything_change_no_draw(logits: Array, seed: int, index: int) -> None:
    plain = Sampling(max_tokens=1, seed=seed)
    idle = Sampling(max_tokens=1, seed=seed, top_k=len(logits), min_p=1e-30)

    assert sample(logits, plain, index) == sample(logits, idle, index)


def test_a_row_of_a_batch_is_sampled_as_if_it_were_alone() -> None:
    batch = np.random.default_rng(2).standard_normal((7, 1001)).astype(np.float32) * 3
    for sampling in (
        Sampling(max_tokens=1, seed=3, logprobs=4),
        Sampling(max_tokens=1, seed=3, top_p=0.7, logprobs=4),
    ):
        for index, row in enumerate(batch):
            assert sample(row, sampling, index) == sample(row.copy(), sampling, index)


def test_random_numbers_are_even_and_depend_on_seed_and_index_only() -> None:
    numbers = np.array([uniform(seed, index) for seed in range(20) for index in range(200)])

    assert uniform(3, 4) == uniform(3, 4)
    assert len(set(numbers.tolist())) == len(numbers)
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    assert np.histogram(numbers, bins=10, range=(0, 1))[0].min() > 320


@settings(max_examples=40, deadline=None)
@given(logits=logits_of, count=st.integers(0, 6), temperature=st.sampled_from([0.0, 0.5]))
def test_logprobs_are_those_of_the_raw_distribution(
    logits: Array, count: int, temperature: float
) -> None:
    sampling = Sampling(max_tokens=1, temperature=temperature, top_k=3, logprobs=count)

    sampled = sample(logits, sampling, 0)

    exact = logits.astype(np.float64) - logits.max()
    exact -= math.log(np.exp(exact).sum())
    assert sampled.logprob == pytest.approx(exact[sampled.token], abs=1e-5)
    order = np.argsort(-logits, kind="stable")[:count]
    assert [alternative.token for alternative in sampled.alternatives] == order.tolist()
    assert [alternative.logprob for alternative in sampled.alternatives] == pytest.approx(
        exact[order].tolist(), abs=1e-5
    )


def test_nothing_is_reported_unless_asked_for() -> None:
    sampled = sample(np.zeros(4, np.float32), Sampling(max_tokens=1), 0)

    assert sampled.logprob is None
    assert sampled.alternatives == ()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error(bad: float, temperature: float) -> None:
    logits = np.array([1.0, bad, 2.0], np.float32)

    with pytest.raises(EngineError, match="no next token can be chosen"):
        sample(logits, Sampling(max_tokens=1, temperature=temperature), 0)


def test_tokens_that_are_ruled_out_are_never_drawn() -> None:
    logits = np.array([-np.inf, 1.0, -np.inf, 1.0], np.float32)
    sampling = Sampling(max_tokens=1, temperature=50.0)

    assert {sample(logits, sampling, index).token for index in range(100)} == {1, 3}


@pytest.mark.parametrize("temperature", [1e-300, 1.1e-5, 1e30])
def test_extreme_temperatures_are_harmless(temperature: float) -> None:
    logits = np.array([-3e38, 0.0, 3e38], np.float32)
    sampling = Sampling(max_tokens=1, temperature=temperature, top_p=0.9, logprobs=2)

    assert sample(logits, sampling, 0).token in range(3)
