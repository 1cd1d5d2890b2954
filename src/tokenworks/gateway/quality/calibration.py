"""Scores to probabilities, and how far those hold. Pure."""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
STEPS: Final = 50
BINS: Final = 10
LEAST_SPREAD: Final = 1e-6
"""Of scores: what is less is rounding, and says nothing."""


class Bin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prompts of about one predicted chance: how many, the mean chance, how many were right."""

    prompts: int
    chance: float
    right: float


def sigmoid(values: Numbers) -> Numbers:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))


def calibrated(scores: Numbers, right: Numbers) -> tuple[float, float]:
    """Slope and offset such that sigmoid(slope * score + offset) is the chance of being right.

    Logistic regression on the one number (Platt, "Probabilistic outputs for support vector
    machines", 1999) by Newton's method, with a slope that is held small where little is known, and
    never below 0: scores that rise where fewer are right have found nothing.
    """
    center, scale = float(scores.mean()), max(float(scores.std()), LEAST_SPREAD)
    rows = np.column_stack([(scores - center) / scale, np.ones(len(scores))])
    ridge = np.array([1.0, 1e-6])
    weights = np.zeros(2)
    for _ in range(STEPS):
        chance = sigmoid(rows @ weights)
        slope = rows.T @ (chance - right) + ridge * weights
        curve = (rows.T * np.maximum(chance * (1 - chance), 1e-9)) @ rows + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        weights -= np.clip(step, -1, 1)  # far out the curve is flat, and a whole step too long
        if float(np.abs(step).max()) < 1e-9:
            break
    if weights[0] <= 0:
        share = float(np.clip(right.mean(), 1e-6, 1 - 1e-6))
        return 0.0, float(np.log(share / (1 - share)))
    return float(weights[0] / scale), float(weights[1] - weights[0] * center / scale)


def reliability(chances: Numbers, right: Numbers, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of about as many prompts each, by predicted chance, the lowest first."""
    parts = np.array_split(np.argsort(chances, kind="stable"), min(bins, len(chances)))
    return tuple(
        Bin(len(part), float(chances[part].mean()), float(right[part].mean())) for part in parts
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """The mean distance of chance and share that was right, over prompts (expected calibration
    error, with bins of equal size: Naeini et al., AAAI 2015)."""
    total = sum(one.prompts for one in bins)
    return sum(one.prompts * abs(one.chance - one.right) for one in bins) / max(total, 1)
