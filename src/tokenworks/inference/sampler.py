"""Chooses the next token from logits. Knows one row at a time: no batch, no sequence, no text.

Order of the steps, as in vLLM: biases and penalties (see `steering`), temperature, min-p, top-k,
top-p, draw. Each filter sees what the one before it left, renormalised. Log-probabilities are those
of the model itself, before all of these.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

import numpy as np

from tokenworks.errors import EngineError
from tokenworks.inference import drawing
from tokenworks.inference.drawing import Ids, Logits
from tokenworks.inference.messages import Alternative, Sampling, Score
from tokenworks.inference.steering import Steering

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: dividing by them would leave the range of float32."""


Choose = Callable[[Logits, float, int, float, float, float], tuple[int, int, float]]


def _fastest() -> Choose:
    try:
        from tokenworks.inference import _kernels
    except ImportError:  # the extension may be missing: see `executors.choose`
        return drawing.choose
    return partial(_kernels.choose, _kernels.supported_paths()[0])


_choose_token = _fastest()


@dataclass(frozen=True, slots=True)
class Sampled:
    """`likeliest`: what a greedy choice would have been. `logprob` and `alternatives` (most likely
    first) only if the request asks for them."""

    token: int
    likeliest: int
    logprob: float | None = None
    alternatives: tuple[Alternative, ...] = ()


def sample(
    logits: Logits, sampling: Sampling, index: int, steering: Steering | None = None
) -> Sampled:
    """Choose a token from logits [vocabulary].

    `index` counts the answer's tokens from 0. It and the seed alone decide the random number, so
    an answer that is resumed elsewhere goes on as it would have. Ties go to the lowest id.
    `steering` changes the logits while the token is chosen; afterwards they are as they were.
    Raises EngineError if the logits have no finite maximum.
    """
    if steering is None:
        token, likeliest = choose(logits, sampling, index)
    else:
        with steering.applied(logits, index):
            token, likeliest = choose(logits, sampling, index)
    if sampling.logprobs is None:
        return Sampled(token, likeliest)
    scored = score(logits, token, sampling.logprobs)
    return Sampled(token, likeliest, scored.logprob, scored.alternatives)


def score(logits: Logits, token: int, alternatives: int) -> Score:
    """The log-probability of `token` after logits [vocabulary], and of so many likeliest ones.

    Raises EngineError if the logits have no finite maximum.
    """
    best = int(logits.argmax())  # a NaN counts as the maximum
    peak = float(logits[best])
    _check(best, peak)
    with np.errstate(under="ignore", over="ignore"):
        weights = logits - np.float32(peak)
        np.exp(weights, out=weights)
    normaliser = peak + math.log(weights.sum(dtype=np.float64))
    return Score(
        float(logits[token]) - normaliser,
        tuple(
            Alternative(int(id), float(logits[id]) - normaliser)
            for id in _top(logits, alternatives)
        ),
    )


def choice_seed(seed: int, choice: int) -> int:
    """The seed of answer number `choice` of a request with this seed; the first keeps it as is.

    63 bits of BLAKE2b: the answers of a request are as independent as those of different seeds.
    """
    if choice == 0:
        return seed
    digest = blake2b(f"{seed}/{choice}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that is a pure function of seed and index (53 bits of BLAKE2b)."""
    digest = blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def choose(logits: Logits, sampling: Sampling, index: int) -> tuple[int, int]:
    """The token that `sample` would choose without steering, and the likeliest one.

    Raises EngineError if the logits have no finite maximum.
    """
    greedy = sampling.temperature < GREEDY_BELOW
    token, likeliest, peak = _choose_token(
        logits,
        0.0 if greedy else sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.min_p,
        0.0 if greedy else uniform(sampling.seed, index),
    )
    _check(likeliest, peak)
    return token, likeliest


def _check(likeliest: int, peak: float) -> None:
    if not math.isfinite(peak):
        raise EngineError(
            f"the model computed {peak} for token {likeliest}: no next token can be chosen"
        )


def _top(logits: Logits, count: int) -> Ids:
    """The ids of the `count` largest, largest first, ties by id."""
    if count <= 0:
        return np.empty(0, np.intp)
    if count < logits.size:
        ids = np.flatnonzero(logits >= drawing.kth_largest(logits, count))
    else:
        ids = np.arange(logits.size)
    return ids[np.argsort(-logits[ids], kind="stable")][:count]
