"""Chooses the next token from logits. Knows one row at a time: no batch, no sequence, no text.

Order of the steps, as in vLLM: temperature, min-p, top-k, top-p, draw. Each filter sees what the
one before it left, renormalised. Log-probabilities are those of the model itself, before
temperature and filters.
"""

import math
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import EngineError
from tokenworks.inference.messages import Alternative, Sampling

Logits = NDArray[np.float32]
Ids = NDArray[np.intp]

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: dividing by them would leave the range of float32."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """`logprob` and `alternatives` (most likely first) only if the request asks for them."""

    token: int
    logprob: float | None = None
    alternatives: tuple[Alternative, ...] = ()


def sample(logits: Logits, sampling: Sampling, index: int) -> Sampled:
    """Choose a token from logits [vocabulary].

    `index` counts the answer's tokens from 0. It and the seed alone decide the random number, so
    an answer that is resumed elsewhere goes on as it would have. Ties go to the lowest id.
    Raises EngineError if the logits have no finite maximum.
    """
    best = int(logits.argmax())  # a NaN counts as the maximum
    peak = float(logits[best])
    if not math.isfinite(peak):
        raise EngineError(
            f"the model computed {peak} for token {best}: no next token can be chosen"
        )
    if sampling.temperature < GREEDY_BELOW:
        token = best
    else:
        token = _draw(logits, peak, sampling, uniform(sampling.seed, index))
    if sampling.logprobs is None:
        return Sampled(token)
    return _with_logprobs(token, logits, peak, sampling.logprobs)


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that is a pure function of seed and index (53 bits of BLAKE2b)."""
    digest = blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def _draw(logits: Logits, peak: float, sampling: Sampling, position: float) -> int:
    with np.errstate(over="ignore", under="ignore"):
        scaled = (logits - np.float32(peak)) * np.float32(1.0 / sampling.temperature)
        ids = _likely(scaled, sampling)
        weights = np.exp(scaled if ids is None else scaled[ids])
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
    than what the nucleus leaves out. Only the rest is sorted.
    """
    total = float(weights.sum(dtype=np.float64))
    candidates = np.flatnonzero(weights >= (1.0 - top_p) * total / weights.size)
    by_weight = candidates[np.argsort(-weights[candidates], kind="stable")]
    mass = np.cumsum(weights[by_weight], dtype=np.float64)
    count = int(np.searchsorted(mass, top_p * total)) + 1
    return np.sort(by_weight[:count])


def _inverse_cdf(weights: Logits, position: float) -> int:
    """The index at which the running sum of the weights passes `position` of their total."""
    mass = np.cumsum(weights, dtype=np.float64)
    return int(np.searchsorted(mass, position * mass[-1], side="right"))


def _with_logprobs(token: int, logits: Logits, peak: float, count: int) -> Sampled:
    with np.errstate(under="ignore", over="ignore"):
        total = np.exp(logits - np.float32(peak)).sum(dtype=np.float64)
    normaliser = peak + math.log(total)
    alternatives = tuple(
        Alternative(int(id), float(logits[id]) - normaliser) for id in _top(logits, count)
    )
    return Sampled(token, float(logits[token]) - normaliser, alternatives)


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
