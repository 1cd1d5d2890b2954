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


_Forward = tuple[int, int, float]  # rows, context, seconds


class ForwardCost:
    """What forwards took, and what another one should take."""

    def __init__(self) -> None:
        self._seen: list[deque[_Forward]] = [deque(maxlen=_MEMORY) for _ in KNOTS]
        self._factors: list[float | None] = [None] * len(KNOTS)  # of the prior, where measured
        self._anchors: list[_Forward | None] = [None] * len(KNOTS)
        self._slopes: deque[tuple[float, float]] = deque(maxlen=_PAIRS)  # slope, weight
        self._context_s = _PRIOR_CONTEXT_S
        self._curve: Sequence[float] | None = _PRIOR_S  # None: to be drawn anew

    def record(self, rows: int, context: int, seconds: float) -> None:
        """A forward of `rows` (at least one) took `seconds`. `context` is the sum over its rows of
        the tokens that each attends to."""
        knot, forward = _nearest(rows), (rows, context, seconds)
        changed: Sequence[int] = (knot,)
        if self._learn_context(knot, forward):
            changed = range(len(KNOTS))
        self._seen[knot].append(forward)
        for each in changed:
            if seen := self._seen[each]:
                factors = sorted(self._factor(forward) for forward in seen)
                self._factors[each] = factors[len(factors) // 2]
        self._curve = None

    def seconds(self, rows: int, context: int = 0) -> float:
        """What such a forward should take: never less with more rows or more context."""
        if self._curve is None:
            self._curve = _drawn(self._factors)
        return _height(self._curve, rows) + self._context_s * context

    def _factor(self, forward: _Forward) -> float:
        """What the rows themselves took, in terms of the prior."""
        rows, context, seconds = forward
        alone = max(seconds - self._context_s * context, _LEAST_SHARE * seconds)
        return alone / _height(_PRIOR_S, rows)

    def _learn_context(self, knot: int, forward: _Forward) -> bool:
        """From two forwards of about as many rows, one of which attended to far more. Whether the
        seconds of a context are others now."""
        rows, context, seconds = forward
        if (anchor := self._anchors[knot]) is None:
            self._anchors[knot] = forward
            return False
        rows_before, context_before, seconds_before = anchor
        apart = context - context_before
        told = abs(apart) * max(self._context_s, _PRIOR_CONTEXT_S)
        if apart == 0 or told < _TOLD_APART * seconds:
            return False
        by_rows = self.seconds(rows) - self.seconds(rows_before)
        slope = max(0.0, (seconds - seconds_before - by_rows) / apart)
        # What a pair tells is the more exact the larger a part of the time it is.
        self._slopes.append((slope, min(1.0, told / seconds) if seconds > 0 else 1.0))
        self._anchors[knot] = forward
        if len(self._slopes) >= _FEWEST_PAIRS:
            self._context_s = _weighted_median(self._slopes)
        return True


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


def _drawn(factors: Sequence[float | None]) -> list[float]:
    """Seconds at every knot. More rows never take less: what seems to take longer than more rows
    do was measured beside a pause."""
    measured = [index for index, factor in enumerate(factors) if factor is not None]
    known = [factor for factor in factors if factor is not None]
    filled = np.interp(np.arange(len(KNOTS)), measured, known) * _PRIOR_S
    drawn: list[float] = np.minimum.accumulate(filled[::-1])[::-1].tolist()
    return drawn


def _weighted_median(pairs: Sequence[tuple[float, float]]) -> float:
    half = sum(weight for _, weight in pairs) / 2
    for value, weight in sorted(pairs):
        half -= weight
        if half <= 0:
            return value
    return max(pairs)[0]
