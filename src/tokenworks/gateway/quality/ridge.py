"""Ridge regression whose predictions of held-out folds are known without fitting again.

For a linear smoother H they follow from the residuals: those of a fold F by a fit without it are
(1 - H[F, F])^-1 times those of the whole fit (the leave-one-out formula of Hastie, Tibshirani,
Friedman, "The Elements of Statistical Learning", section 7.10, for more than one). Whole folds,
because of a fit that knows little, what is left out by one is the mean of the others: it tells the
score that it has not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

SMALLEST: Final = 1e-10
"""Of the largest square of a singular value: what is smaller is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """`left_out` (n,): each row's prediction by a fit without its fold. `dual` (n,): the weights
    are rows.T @ dual."""

    penalty: float
    mean: float
    left_out: Numbers
    dual: Numbers


def decomposed(rows: Numbers) -> tuple[Numbers, Numbers]:
    """Left singular vectors (n, r) of rows (n, d), and the squares of the singular values (r,)."""
    count, width = rows.shape
    if count <= width:
        squares, basis = np.linalg.eigh(rows @ rows.T)
        kept = squares > SMALLEST * max(squares[-1], SMALLEST)
        return basis[:, kept], squares[kept]
    squares, places = np.linalg.eigh(rows.T @ rows)
    kept = squares > SMALLEST * max(squares[-1], SMALLEST)
    return rows @ places[:, kept] / np.sqrt(squares[kept]), squares[kept]


def fit(
    basis: Numbers,
    squares: Numbers,
    scores: Numbers,
    folds: Sequence[NDArray[np.intp]],
    penalties: Sequence[float],
) -> Fit:
    """Ridge regression of (n,) scores on rows of that decomposition, whose columns have mean 0.

    `folds` are the numbers of their rows. Of the penalties the one whose predictions of folds that
    it has not seen are nearest. Raises ValueError for numbers that are not finite.
    """
    mean = float(scores.mean())
    turned = basis.T @ (scores - mean)
    best: Fit | None = None
    least = np.inf
    for penalty in penalties:
        kept = squares / (squares + penalty)
        errors = scores - mean - basis @ (kept * turned)
        for fold in folds:
            part = basis[fold]
            pull = (part * kept) @ part.T + 1 / len(scores)
            errors[fold] = np.linalg.solve(np.eye(len(fold)) - pull, errors[fold])
        loss = float((errors**2).mean())
        if loss < least:
            dual = basis @ (turned / (squares + penalty))
            least = loss
            best = Fit(penalty=penalty, mean=mean, left_out=scores - errors, dual=dual)
    if best is None:
        raise ValueError("rows or scores are not finite")
    return best
