"""Rounds a matrix so that its products change least, not its weights: GPTQ, asymmetric.

Frantar, Ashkboos, Hoefler, Alistarh: "GPTQ", 2022, algorithm 1. Columns are rounded one after the
other; each one's error is made up for, as far as possible, by those that are still to come. What
is possible follows from how the inputs vary together. Here columns go group by group, those groups
first whose inputs are largest (within a group too), and a group's scale is fitted when its turn
comes, to what its weights have become by then.

Its inputs come from layers that were rounded before, so they are not what they were. Li, Yin, Lee,
Xiao, Panda: "GPTAQ", 2025, has the products of the rounded matrix with these inputs approach those
of the source's matrix with the source's; here the matrix that does so best, by least squares, is
what GPTQ starts from.

Rows do not depend on each other, so they are taken a few hundred at a time, with columns as runs of
memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenworks.inference.compression.codes import GROUP, Code, Factors, Floats, fit

_ROWS = 512
_COLUMNS = 128
"""Columns whose errors reach those far behind them in one product."""
_DAMPING = 1.0
"""Of the mean squared input, added to each one: what was seen is not all that will come."""


@dataclass(frozen=True, slots=True)
class Solved:
    """Rows in numbers: quants float32 [columns, rows] (whole numbers), a group's factors for each
    32 columns."""

    quants: Floats
    groups: list[Factors]


Moments = NDArray[np.float64]
"""A sum of outer products: [columns, columns]."""


@dataclass(frozen=True, slots=True)
class Curvature:
    """How a matrix's inputs vary together, prepared once for all of its rows.

    `order`: the columns as they are rounded, in whole groups; `upper` [columns, columns] in that
    order: with H the inputs' moments, inverse(H) = upper.T @ upper. `shift` [columns, columns] in
    that order, if any: weights @ shift makes up for inputs that are not the source's.
    """

    order: NDArray[np.int64]
    upper: Floats
    shift: Floats | None

    @classmethod
    def of(cls, moments: Moments, strayed: Moments | None = None) -> "Curvature":
        """From the moments of the inputs that were seen, and those of (what the source's are more)
        by (the inputs), if they differ."""
        inputs = np.diag(moments).reshape(-1, GROUP)
        groups = np.argsort(-inputs.sum(1), kind="stable")
        within = np.argsort(-inputs, axis=1, kind="stable")
        order = (groups[:, None] * GROUP + within[groups]).reshape(-1)
        upper = _upper(moments[np.ix_(order, order)])
        if strayed is None:
            return cls(order, upper, None)
        return cls(order, upper, strayed[np.ix_(order, order)].astype(np.float32) @ upper.T @ upper)

    def target(self, weights: Floats) -> Floats:
        """What to round, in order: rows [rows, columns] that do with these inputs what `weights` do
        with the source's."""
        ordered = weights[:, self.order]
        return ordered if self.shift is None else ordered + ordered @ self.shift


def nearest(code: Code, weights: Floats, importance: NDArray[np.floating]) -> Iterator[Solved]:
    """Every weight rounded by itself, with the best scales: rows [rows, columns] a few at a time.

    importance [columns] is what an error in each column costs.
    """
    costs = importance.astype(np.float32)
    for start in range(0, len(weights), _ROWS):
        columns = np.ascontiguousarray(weights[start : start + _ROWS].T)
        groups = [
            fit(code, columns[at : at + GROUP], costs[at : at + GROUP])
            for at in range(0, len(columns), GROUP)
        ]
        for number, factors in enumerate(groups):
            here = columns[number * GROUP : (number + 1) * GROUP]
            here[:] = factors.quants(code, here)
        yield Solved(columns, groups)


def solve(code: Code, weights: Floats, curvature: Curvature) -> Iterator[Solved]:
    """The rows [rows, columns] a few at a time, whatever their number."""
    for start in range(0, len(weights), _ROWS):
        columns = np.ascontiguousarray(curvature.target(weights[start : start + _ROWS]).T)
        quants, fitted = _solve(code, columns, curvature.upper)
        restored = np.empty_like(quants)
        restored[curvature.order] = quants
        first = curvature.order[::GROUP] // GROUP
        groups = [factors for _, factors in sorted(zip(first, fitted, strict=True), key=_number)]
        yield Solved(restored, groups)


def _number(group: tuple[np.int64, Factors]) -> int:
    return int(group[0])


def _solve(code: Code, columns: Floats, upper: Floats) -> tuple[Floats, list[Factors]]:
    """Algorithm 1 on columns [columns, rows], which are overwritten by their quants."""
    count = len(columns)
    diagonal = np.diag(upper)
    groups = []
    for start in range(0, count, _COLUMNS):
        end = min(start + _COLUMNS, count)
        errors = np.empty((end - start, columns.shape[1]), np.float32)
        for group in range(start, end, GROUP):
            after = group + GROUP
            factors = fit(code, columns[group:after], diagonal[group:after] ** -2)
            for at in range(group, after):
                quants = factors.quants(code, columns[at])
                error = (columns[at] - factors.values(quants)) / diagonal[at]
                columns[at] = quants
                columns[at + 1 : after] -= upper[at, at + 1 : after, None] * error
                errors[at - start] = error
            behind = errors[group - start : after - start]
            columns[after:end] -= upper[group:after, after:end].T @ behind
            groups.append(factors)
        columns[end:] -= upper[start:end, end:].T @ errors
    return columns, groups


def _upper(moments: Moments) -> Floats:
    """The upper triangular U with inverse(moments + damping) = U.T @ U.

    With every row and column in reverse order, the lower Cholesky factor is the upper one of
    moments = R @ R.T, and U is its inverse.
    """
    count = len(moments)
    mean = float(np.trace(moments)) / count or 1.0  # of the squared inputs
    reverse = moments[::-1, ::-1].copy()
    damping = _DAMPING * mean
    while True:
        reverse[np.diag_indices(count)] += damping
        try:
            lower = np.linalg.cholesky(reverse)
        except np.linalg.LinAlgError:  # inputs that hardly vary: rounding made it indefinite
            damping *= 10
            continue
        return _inverse(np.asarray(lower[::-1, ::-1], np.float64)).astype(np.float32)


def _inverse(upper: Moments) -> Moments:
    """That of an upper triangular matrix, by halves: four times faster than one that knows no
    triangles."""
    half = len(upper) // 2
    if half < 64:
        return np.asarray(np.linalg.inv(upper), np.float64)
    left, right = _inverse(upper[:half, :half]), _inverse(upper[half:, half:])
    inverse = np.zeros_like(upper)
    inverse[:half, :half], inverse[half:, half:] = left, right
    inverse[:half, half:] = -left @ upper[:half, half:] @ right
    return inverse
