"""What `kernels/sampling.h` does, in plain numpy: for where the extension is missing."""

import math

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Ids = NDArray[np.intp]

_BLOCK = 256


def choose(
    logits: Logits, temperature: float, top_k: int, top_p: float, min_p: float, position: float
) -> tuple[int, int, float]:
    """The next token from logits [vocabulary], the likeliest one and its logit; nothing is drawn if
    that is not finite. `temperature` 0 is greedy; `position` in [0, 1) says where in the running
    sum of the weights the token is drawn."""
    likeliest = int(logits.argmax())  # a NaN counts as the maximum
    peak = float(logits[likeliest])
    if temperature == 0.0 or not math.isfinite(peak):
        return likeliest, likeliest, peak
    return _draw(logits, peak, temperature, top_k, top_p, min_p, position), likeliest, peak


def kth_largest(values: Logits, k: int) -> np.float32:
    """The k-th largest value, k from 1 to the size."""
    return np.float32(np.partition(values, values.size - k)[values.size - k])


def _draw(
    logits: Logits,
    peak: float,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    position: float,
) -> int:
    with np.errstate(over="ignore", under="ignore"):
        # In place from here on: fresh memory costs more than the arithmetic.
        weights = logits - np.float32(peak)
        weights *= np.float32(1.0 / temperature)
        ids = _likely(weights, top_k, min_p)
        if ids is not None:
            weights = weights[ids]
        np.exp(weights, out=weights)
    if top_p < 1.0:
        kept = _nucleus(weights, top_p)
        weights = weights[kept]
        ids = kept if ids is None else ids[kept]
    chosen = _inverse_cdf(weights, position)
    return chosen if ids is None else int(ids[chosen])


def _likely(scaled: Logits, top_k: int, min_p: float) -> Ids | None:
    """What min-p and top-k leave, ascending; None for everything.

    Top-k keeps all tokens that tie with the k-th, as vLLM does. `scaled` has its maximum at 0.
    """
    ids: Ids | None = None
    if min_p > 0.0:
        ids = np.flatnonzero(scaled >= np.float32(math.log(min_p)))
        scaled = scaled[ids]
    if 0 < top_k < scaled.size:
        kept = np.flatnonzero(scaled >= kth_largest(scaled, top_k))
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
