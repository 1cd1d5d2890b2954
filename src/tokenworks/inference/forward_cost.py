"""How long a forward takes: T(rows, context), learnt from the forwards of this engine.

Pure: what it says depends on what was recorded, and on nothing else. Rows cost least side by side
(weights are read once for all of them), so seconds are kept for numbers of rows, the knots, and
lie on straight lines between them; what the rows attend to comes on top, in proportion.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

import numpy as np

KNOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
"""Numbers of rows between which seconds are interpolated."""

_MEMORY = 15
"""Forwards that a knot remembers. Their median counts: a machine pauses now and then."""

_PRIOR_S = tuple(
    1e-3 * ms for ms in (2.4, 2.9, 3.4, 3.9, 4.7, 5.6, 7.3, 9, 12, 15, 22, 29, 43, 57, 84, 112, 224)
)
_PRIOR_CONTEXT_S = 5e-7
"""Of a model with 135 million weights of 4 bits on two cores. What lasts of it is the shape: a knot
that was never measured is to these seconds what its measured neighbours are."""

_PAIRS, _FEWEST_PAIRS = 63, 5
"""The seconds of a context come from so many pairs of forwards, by their weighted median."""

_TOLD_APART = 0.1
"""A pair counts if its contexts should differ by this share of a forward's time, or by more."""

_LEAST_SHARE = 0.1
"""What the rows themselves take of a forward at least, however much they attend to."""


class ForwardCost:
    """What forwards took, and what another one should take."""

    def __init__(self) -> None:
        self._factors: list[deque[float]] = [deque(maxlen=_MEMORY) for _ in KNOTS]  # × the prior
        self._latest: list[tuple[int, int, float] | None] = [None] * len(KNOTS)
        self._slopes: deque[tuple[float, int]] = deque(maxlen=_PAIRS)
        self._context_s = _PRIOR_CONTEXT_S
        self._curve: Sequence[float] | None = _PRIOR_S  # None: to be drawn anew

    def record(self, rows: int, context: int, seconds: float) -> None:
        """A forward of `rows` (at least one) took `seconds`. `context` is the sum over its rows of
        the tokens that each attends to."""
        knot = _nearest(rows)
        self._learn_context(knot, rows, context, seconds)
        alone = max(seconds - self._context_s * context, _LEAST_SHARE * seconds)
        self._factors[knot].append(alone / _height(_PRIOR_S, rows))
        self._curve = None

    def seconds(self, rows: int, context: int = 0) -> float:
        """What such a forward should take: never less with more rows or more context."""
        if self._curve is None:
            self._curve = _drawn(self._factors)
        return _height(self._curve, rows) + self._context_s * context

    def _learn_context(self, knot: int, rows: int, context: int, seconds: float) -> None:
        """From two forwards of about as many rows, one of which attended to far more."""
        if (before := self._latest[knot]) is not None:
            apart = context - before[1]
            by_rows = self.seconds(rows) - self.seconds(before[0])
            told = abs(apart) * max(self._context_s, _PRIOR_CONTEXT_S)
            if apart == 0 or told < _TOLD_APART * seconds:
                return
            slope = max(0.0, (seconds - before[2] - by_rows) / apart)
            self._slopes.append((slope, abs(apart)))
            if len(self._slopes) >= _FEWEST_PAIRS:
                self._context_s = _weighted_median(self._slopes)
        self._latest[knot] = (rows, context, seconds)


def _nearest(rows: int) -> int:
    """The index of the knot nearest to this number of rows."""
    after = min(bisect_left(KNOTS, rows), len(KNOTS) - 1)
    before = max(0, after - 1)
    return before if rows - KNOTS[before] < KNOTS[after] - rows else after


def _height(curve: Sequence[float], rows: int) -> float:
    """Seconds on the lines through the knots; the last line goes on."""
    if rows <= KNOTS[0]:
        return curve[0] if rows > 0 else 0.0
    after = min(bisect_left(KNOTS, rows), len(KNOTS) - 1)
    low, high = KNOTS[after - 1], KNOTS[after]
    return curve[after - 1] + (curve[after] - curve[after - 1]) * (rows - low) / (high - low)


def _drawn(factors: Sequence[deque[float]]) -> list[float]:
    """Seconds at every knot. More rows never take less: what seems to take longer than more rows
    do was measured beside a pause."""
    measured = [index for index, seen in enumerate(factors) if seen]
    medians = [sorted(factors[index])[len(factors[index]) // 2] for index in measured]
    filled = np.interp(np.arange(len(KNOTS)), measured, medians) * _PRIOR_S
    drawn: list[float] = np.minimum.accumulate(filled[::-1])[::-1].tolist()
    return drawn


def _weighted_median(pairs: Sequence[tuple[float, int]]) -> float:
    half = sum(weight for _, weight in pairs) / 2
    for value, weight in sorted(pairs):
        half -= weight
        if half <= 0:
            return value
    raise ValueError("no values")
