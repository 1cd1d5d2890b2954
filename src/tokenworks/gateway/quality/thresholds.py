"""From gains of prompts that a fit has not seen to the threshold that keeps a promise. Pure.

The gain of a prompt is how much likelier the strong model answers it rightly than the weak one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

MARGIN: Final = 1.0
"""Standard errors by which the promise is kept on the prompts at hand: what is chosen as the least
that does looks better there than it is."""

QUALITIES: Final = tuple(round(0.8 + step / 100, 2) for step in range(21))
"""Those for which a router knows its threshold, from 0.80 to 1.00."""


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prompts with at least the gain `threshold` go to the strong model, which are `share` of all.

    `reached` is the quality that this has on prompts that no fit had seen. All but the threshold
    from 0 to 1, qualities as a part of the strong model's.
    """

    quality: float
    threshold: float
    share: float
    reached: float


@dataclass(frozen=True, slots=True)
class Judged:
    """Prompts, by row: gains of a fit that has not seen them, and what both models scored."""

    gains: Numbers
    weak: Numbers
    strong: Numbers


def threshold(judged: Judged, quality: float, margin: float = MARGIN) -> float:
    """The highest gain from which on the strong model must be asked to keep `quality` of its score.

    The promise is kept by `margin` standard errors of the paired difference, there and at every
    lower threshold; it lies in the middle between the two prompts that it parts. -inf: only the
    strong model alone keeps it; inf: the weak one alone does.
    """
    order = np.argsort(-judged.gains, kind="stable")
    gains, weak, strong = judged.gains[order], judged.weak[order], judged.strong[order]
    # Of each prompt what it adds to the promise, if the first k go to the strong model: k by k.
    asked, spared = strong * (1 - quality), weak - quality * strong
    count = len(gains)
    mean = _by_first(asked, spared) / count
    spread = np.maximum(_by_first(asked**2, spared**2) / count - mean**2, 0)
    kept = mean - margin * np.sqrt(spread / count) >= -1e-12
    # Prompts of one gain go together: only between different ones can be cut.
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(gains)) + 1, [count]])
    broken = np.flatnonzero(~kept[cuts])
    first = 0 if not len(broken) else int(broken[-1]) + 1
    if first >= len(cuts) - 1:
        return -np.inf
    if first == 0:
        return np.inf
    asked_least, spared_most = float(gains[cuts[first] - 1]), float(gains[cuts[first]])
    middle = (asked_least + spared_most) / 2
    return middle if middle > spared_most else asked_least


def curve(judged: Judged, qualities: Sequence[float] = QUALITIES) -> tuple[Point, ...]:
    """What each quality takes, the lowest first."""
    points = []
    for quality in sorted(set(qualities)):
        at = threshold(judged, quality)
        up = judged.gains >= at
        reached = np.where(up, judged.strong, judged.weak).sum() / max(judged.strong.sum(), 1e-9)
        points.append(Point(quality, at, float(up.mean()), float(reached)))
    return tuple(points)


def cost_vs_random(share: float, reached: float, weak: float, strong: float) -> float:
    """Strong calls ÷ those of a random mix of the same score; `weak`, `strong`: mean scores.

    `reached` is the mean score of the mix. inf where it is no better than the weak model's.
    """
    gained = (reached - weak) / (strong - weak) if strong > weak else 0.0
    return share / gained if gained > 0 else float("inf")


def _by_first(asked: Numbers, spared: Numbers) -> Numbers:
    """For k from 0 to all: the sum of the first k of `asked` and of the others of `spared`."""
    before = np.concatenate([[0.0], np.cumsum(asked)])
    after = np.concatenate([np.cumsum(spared[::-1])[::-1], [0.0]])
    return np.asarray(before + after)
