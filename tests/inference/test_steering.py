"""Penalties, biases and the least length against their definitions, one token at a time."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenworks.inference.messages import Sampling
from tokenworks.inference.sampler import choice_seed, sample
from tokenworks.inference.steering import Steering, steering_of

VOCABULARY = 400
few_tokens = st.lists(st.integers(0, 12), max_size=60)
# More distinct ones than the arrays have room for at first, repeatedly.
many_tokens = st.builds(
    lambda start, count: [n % VOCABULARY for n in range(start, start + count)],
    st.integers(0, VOCABULARY),
    st.integers(60, 390),
)
tokens_of = few_tokens | many_tokens
samplings = st.builds(
    Sampling,
    max_tokens=st.just(200),
    temperature=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 99),
    stop_tokens=st.sampled_from([(), (3,), (3, 7)]),
    presence_penalty=st.sampled_from([0.0, 1.5, -2.0]),
    frequency_penalty=st.sampled_from([0.0, 0.25, -0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.5]),
    logit_bias=st.dictionaries(
        st.integers(0, VOCABULARY - 1), st.sampled_from([-100.0, -1.5, 2.0, 100.0]), max_size=4
    )
    .flatmap(lambda few: st.sampled_from([few, dict.fromkeys(range(100), -2.0)]))
    .map(lambda biases: tuple(biases.items())),
    min_tokens=st.sampled_from([0, 1, 40]),
    logprobs=st.sampled_from([None, 2]),
)


def row(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(VOCABULARY).astype(np.float32) * 3


def defined(
    logits: NDArray[np.float32], sampling: Sampling, prompt: list[int], generated: list[int]
) -> NDArray[np.float32]:
    """OpenAI's formula for presence and frequency, the CTRL paper's (4.1) for repetition."""
    changed = [float(value) for value in logits]
    for token, bias in sampling.logit_bias:
        changed[token] += bias
    if len(generated) < sampling.min_tokens:
        for token in sampling.stop_tokens:
            changed[token] = -math.inf
    for token in {*prompt, *generated}:
        factor = sampling.repetition_penalty
        changed[token] = changed[token] / factor if changed[token] > 0 else changed[token] * factor
    for token, count in Counter(generated).items():
        changed[token] -= sampling.frequency_penalty * count + sampling.presence_penalty
    return np.array(changed, np.float32)


@settings(max_examples=150, deadline=None)
@given(sampling=samplings, prompt=tokens_of, generated=tokens_of, seed=st.integers(0, 999))
def test_logits_are_changed_as_defined_and_put_back(
    sampling: Sampling, prompt: list[int], generated: list[int], seed: int
) -> None:
    logits, index = row(seed), len(generated)
    steering = Steering(sampling, prompt, generated)

    with steering.applied(logits, index):
        inside = logits.copy()

    np.testing.assert_allclose(
        inside, defined(row(seed), sampling, prompt, generated), rtol=1e-5, atol=1e-4
    )
    assert (logits == row(seed)).all()


@settings(max_examples=80, deadline=None)
@given(sampling=samplings, prompt=tokens_of, seed=st.integers(0, 999), cut=st.integers(0, 60))
def test_an_answer_that_is_resumed_goes_on_with_the_same_tokens(
    sampling: Sampling, prompt: list[int], seed: int, cut: int
) -> None:
    generated: list[int] = []
    steering = steering_of(sampling, prompt, [])
    for index in range(60):
        if index == cut:
            resumed = steering_of(sampling, prompt, generated)
        logits = row(seed + index)
        token = sample(logits, sampling, index, steering).token
        if index >= cut:
            assert sample(logits, sampling, index, resumed).token == token
            if resumed is not None:
                resumed.add(token)
        if steering is not None:
            steering.add(token)
        generated.append(token)
    least = [] if sampling.min_tokens == 0 else generated[: sampling.min_tokens]

    assert not set(least) & set(sampling.stop_tokens)


def test_reported_probabilities_are_the_models_own() -> None:
    plain = Sampling(max_tokens=9, temperature=0, logprobs=3)
    steered = Sampling(max_tokens=9, temperature=0, logprobs=3, logit_bias=((5, 100.0),))

    free = sample(row(1), plain, 0)
    forced = sample(row(1), steered, 0, steering_of(steered, [], []))

    assert forced.token == 5 != free.token
    assert forced.alternatives == free.alternatives
    assert forced.logprob is not None
    assert forced.logprob < -0.1


def test_only_tokens_that_occurred_or_are_named_are_touched() -> None:
    logits = row(3)
    logits[30:] = np.nan  # arithmetic on them would be seen as a changed bit, or warn
    sampling = Sampling(
        max_tokens=9, presence_penalty=1, repetition_penalty=1.5, logit_bias=((7, 1.0),)
    )
    steering = Steering(sampling, [1, 2], [3])

    with steering.applied(logits, 1):
        changed = np.flatnonzero(logits[:30] != row(3)[:30])

    assert changed.tolist() == [1, 2, 3, 7]


def test_a_request_that_changes_nothing_has_no_steering() -> None:
    assert steering_of(Sampling(max_tokens=5, stop_tokens=(1,), seed=4), [1], [2]) is None


def test_every_choice_has_a_seed_of_its_own_and_the_first_keeps_the_requests() -> None:
    seeds = {choice_seed(seed, choice) for seed in range(50) for choice in range(16)}

    assert choice_seed(7, 0) == 7
    assert choice_seed(7, 3) == choice_seed(7, 3)
    assert len(seeds) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("repetition", [0.01, 100.0])
def test_extreme_values_are_harmless(repetition: float) -> None:
    sampling = Sampling(max_tokens=5, repetition_penalty=repetition, frequency_penalty=2)
    logits = np.array([-3e38, 0.0, 3e36], np.float32)

    assert sample(logits, sampling, 1, steering_of(sampling, [0, 1], [0])).token in range(3)
