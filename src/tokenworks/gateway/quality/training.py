"""Fitting a router on prompts whose answers of both models were judged. Pure.

Ridge regression on each model's scores, its penalty chosen by cross-validation. The same
predictions, each by a fit that has not seen its prompt, make the probabilities and the thresholds:
nothing else is looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokenworks.errors import RequestError
from tokenworks.gateway.quality.calibration import calibrated, reliability, sigmoid
from tokenworks.gateway.quality.features import MADE, SIZE, features
from tokenworks.gateway.quality.ridge import decomposed, fit
from tokenworks.gateway.quality.router import Model, QualityRouter
from tokenworks.gateway.quality.thresholds import QUALITIES, Judged, curve

Numbers = NDArray[np.float64]

PENALTIES: Final = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FOLDS: Final = 10
LEAST: Final = 50
"""Prompts below which a threshold would be a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """`prompts`, and of each what the models scored, from 0 to 1. `names` are weak and strong."""

    prompts: Sequence[str]
    weak: Numbers
    strong: Numbers
    names: tuple[str, str]


def train(pairs: Pairs, *, quality: float, date: str) -> QualityRouter:
    """A router for `quality` of the strong model's score, and for what else its curve has.

    Takes memory for (n, SIZE) numbers of 8 bytes three times over, n being how many prompts differ.
    Raises RequestError for too few prompts, scores out of range, or a quality that is none.
    """
    _check(pairs, quality)
    pairs = merged(pairs)
    if len(pairs.prompts) < LEAST:
        raise RequestError(
            f"{len(pairs.prompts)} different prompts are too few; {LEAST} are the least",
            hint="thresholds need some hundreds of judged prompts to hold",
        )
    rows = np.array([features(prompt) for prompt in pairs.prompts])
    weights, centre = _scale(rows)
    rows -= centre
    rows *= weights
    basis, squares = decomposed(rows)
    folds = folds_of(pairs.prompts)
    models, chances = [], []
    for name, score in zip(pairs.names, (pairs.weak, pairs.strong), strict=True):
        found = fit(basis, squares, score, folds, PENALTIES)
        slope, offset = calibrated(found.left_out, score)
        plain = rows.T @ found.dual * weights * slope
        chance = sigmoid(slope * found.left_out + offset)
        chances.append(chance)
        models.append(
            Model(
                name=name,
                score=float(score.mean()),
                penalty=found.penalty,
                bias=float(slope * found.mean + offset - plain @ centre),
                weights=plain.astype("<f4").tobytes(),
                reliability=reliability(chance, score),
            )
        )
    judged = Judged(chances[1] - chances[0], pairs.weak, pairs.strong)
    return QualityRouter(
        weak=models[0],
        strong=models[1],
        quality=quality,
        curve=curve(judged, (*QUALITIES, quality)),
        prompts=len(pairs.prompts),
        date=date,
        features=SIZE,
    )


def folds_of(prompts: Sequence[str]) -> list[NDArray[np.intp]]:
    """Rows of each fold, by a hash of the prompts: whatever order they come in says nothing."""
    marks = [blake2b(prompt.encode("utf-8", "replace")).digest() for prompt in prompts]
    order = np.array(sorted(range(len(prompts)), key=marks.__getitem__))
    return [order[number::FOLDS] for number in range(FOLDS)]


def merged(pairs: Pairs) -> Pairs:
    """Each prompt once, with the means of its scores: of one that is there twice, a fit without it
    would have seen it all the same."""
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(pairs.prompts):
        rows.setdefault(" ".join(prompt.casefold().split()), []).append(row)
    return Pairs(
        prompts=[pairs.prompts[same[0]] for same in rows.values()],
        weak=np.array([pairs.weak[same].mean() for same in rows.values()]),
        strong=np.array([pairs.strong[same].mean() for same in rows.values()]),
        names=pairs.names,
    )


def _check(pairs: Pairs, quality: float) -> None:
    count = len(pairs.prompts)
    if not 0 < quality <= 1:
        raise RequestError(f"A quality of {quality:g} cannot be kept; it is above 0, at most 1")
    for name, scores in zip(pairs.names, (pairs.weak, pairs.strong), strict=True):
        if scores.shape != (count,) or not bool(np.all((scores >= 0) & (scores <= 1))):
            raise RequestError(f"The scores of {name!r} must be one a prompt, from 0 to 1")
    if count and pairs.strong.mean() <= pairs.weak.mean():
        raise RequestError(
            f"{pairs.names[1]!r} is no stronger: it scores {pairs.strong.mean():.3f}, "
            f"{pairs.names[0]!r} {pairs.weak.mean():.3f}",
            hint="give the better model as the strong one",
        )


def _scale(rows: Numbers) -> tuple[Numbers, Numbers]:
    """What each column is multiplied by once its centre is taken off, and the centres; (SIZE,).

    Those made by hand to a deviation of one, pieces of text by how rare they are (inverse document
    frequency); then both parts to the same mean length.
    """
    centre, count = rows.mean(axis=0), len(rows)
    deviation = rows.std(axis=0)
    made, pieces = slice(0, MADE), slice(MADE, None)
    weights = np.empty(rows.shape[1])
    # A column that is constant says nothing, and would blow up whatever differs from it later.
    weights[made] = np.where(deviation[made] > 1e-6, 1 / np.maximum(deviation[made], 1e-6), 0.0)
    seen = (rows[:, pieces] > 0).sum(axis=0)
    weights[pieces] = np.where(seen > 0, np.log((1 + count) / (1 + seen)), 0.0)
    for part in (made, pieces):
        length = float(np.sqrt((deviation[part] ** 2 * weights[part] ** 2).sum()))
        weights[part] /= length or 1.0
    return weights, centre
