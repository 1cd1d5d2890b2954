"""Chooses the next token from logits. Knows one row at a time: no batch, no sequence, no text.

Order of the steps, as in vLLM: biases and penalties (see `steering`), temperature, min-p, top-k,
top-p, draw. Each filter sees what the one before it left, renormalised. Log-probabilities are those
of the model itself, before all of these.
"""

import math
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import EngineError
from tokenworks.inference.messages import Alternative, Sampling, Score
from tokenworks.inference.steering import Steering

Logits = NDArray[np.float32]
Ids = NDArray[np.intp]

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: dividing by them would leave the range of float32."""

_BLOCK = 256


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
        token, likeliest = _choose(logits, sampling, index)
    else:
        with steering.applied(logits, index):
            token, likeliest = _choose(logits, sampling, index)
    if sampling.logprobs is None:
        return Sampled(token, likeliest)
    scored = score(logits, token, sampling.logprobs)
    return Sampled(token, likeliest, scored.logprob, scored.alternatives)


def score(logits: Logits, token: int, alternatives: int) -> Score:
    """The log-probability of `token` after logits [vocabulary], and of so many likeliest ones.

    Raises EngineError if the logits have no finite maximum.
    """
    peak = _peak(logits)[1]
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


def _choose(logits: Logits, sampling: Sampling, index: int) -> tuple[int, int]:
    """The token, and the likeliest one."""
    best, peak = _peak(logits)
    if sampling.temperature < GREEDY_BELOW:
        return best, best
    return _draw(logits, peak, sampling, uniform(sampling.seed, index)), best


def _peak(logits: Logits) -> tuple[int, float]:
    """The likeliest token and its logit."""
    best = int(logits.argmax())  # a NaN counts as the maximum
    peak = float(logits[best])
    if not math.isfinite(peak):
        raise EngineError(
            f"the model computed {peak} for token {best}: no next token can be chosen"
        )
    return best, peak


def _draw(logits: Logits, peak: float, sampling: Sampling, position: float) -> int:
    with np.errstate(over="ignore", under="ignore"):
        # In place from here on: fresh memory costs more than the arithmetic.
        weights = logits - np.float32(peak)
        weights *= np.float32(1.0 / sampling.temperature)
        ids = _likely(weights, sampling)
        if ids is not None:
            weights = weights[ids]
        np.exp(weights, out=weights)
    if sampling.top_p < 1.0:
        kept = _nucleus(weights, sampling.top_p)
        weights = weights[kept]
        ids = kept if ids is None else ids[kept]
    chosen = _inverse_cdf(weights, position)
    return chosen if ids is None else int(ids[chosen])


def _likely(scaled: Logits, sampling: Sampling) -> Ids | None:
    """What min-p and top-k leave, ascending; None for everything.

    Top-k keeps all tokens that tie with the k-th, as vLLM does. `scaled` has its maximum at 0.
    """
    ids: Ids | None = None
    if sampling.min_p > 0.0:
        ids = np.flatnonzero(scaled >= np.float32(math.log(sampling.min_p)))
        scaled = scaled[ids]
    if 0 < sampling.top_k < scaled.size:
        kept = np.flatnonzero(scaled >= _kth_largest(scaled, sampling.top_k))
        ids = kept if ids is None else ids[kept]
    return ids


def _nucleus(weights: Logits, top_p: float) -> Ids:
    """The fewest most likely tokens with at least `top_p` of the weight; ids ascending.

    Tokens lighter than (1 - top_p) * total / count cannot matter: all of them together weigh less
    than what the nucleus leaves out. Of the rest only the weights are sorted, not the ids.
    """
    total = float(weights.sum(dtype=np.float64))
    candidates = np.flatnonzero(weights >= np.float32((1.0 - top_p) * total / weights.size))
    heaviest_first = np.sort(weights[candidates])[::-1]
    mass = np.cumsum(heaviest_first.astype(np.float64))
    count = min(int(np.searchsorted(mass, top_p * total)) + 1, candidates.size)
    lightest = heaviest_first[count - 1]
    kept: Ids = candidates[weights[candidates] >= lightest]
    surplus = kept.size - count
    if surplus:  # ties at the edge: the lowest ids stay
        tied = np.flatnonzero(weights[kept] == lightest)
        kept = np.delete(kept, tied[-surplus:])
    return kept


def _inverse_cdf(weights: Logits, position: float) -> int:
    """The index at which the running sum of the weights passes `position` of their total.

    In two levels, blocks and then one block's tokens, because a long running sum is slow.
    """
    starts = np.arange(0, weights.size, _BLOCK)
    mass = np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))
    target = position * mass[-1]
    block = int(np.searchsorted(mass, target, side="right"))
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
    running = np.cumsum(inside, dtype=np.float64) + (mass[block - 1] if block else 0.0)
    offset = int(np.searchsorted(running, target, side="right"))
    # A block's sum and its running sum may differ in the last bit.
    return block * _BLOCK + min(offset, int(np.flatnonzero(inside)[-1]))


def _top(logits: Logits, count: int) -> Ids:
    """The ids of the `count` largest, largest first, ties by id."""
    if count <= 0:
        return np.empty(0, np.intp)
    if count < logits.size:
        ids = np.flatnonzero(logits >= _kth_largest(logits, count))
    else:
        ids = np.arange(logits.size)
    return ids[np.argsort(-logits[ids], kind="stable")][:count]


def _kth_largest(values: Logits, k: int) -> np.float32:
    """The k-th largest value, k from 1 to the size."""
    return np.float32(np.partition(values, values.size - k)[values.size - k])
