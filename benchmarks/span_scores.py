"""How well findings match what is known to be there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Span = tuple[str, int, int]
"""Type, start, end."""

ENOUGH_IN_COMMON = 0.5
"""Of the span that two cover together, the share that both must cover to count as the same."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Spans that were found rightly, found wrongly, and missed."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.right + other.right, self.wrong + other.wrong, self.missed + other.missed
        )

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.right + self.missed)

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)

    def record(self) -> dict[str, float]:
        return {
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "right": self.right,
            "wrong": self.wrong,
            "missed": self.missed,
        }


def scores(
    there: Sequence[Sequence[Span]],
    found: Sequence[Sequence[Span]],
    kinds: Sequence[str],
    enough: float = ENOUGH_IN_COMMON,
) -> dict[str, Counts]:
    """By kind, over all texts. Each span counts once."""
    return {
        kind: sum(
            (
                _matched(_of(kind, a), _of(kind, b), enough)
                for a, b in zip(there, found, strict=True)
            ),
            Counts(),
        )
        for kind in kinds
    }


def together(counts: Mapping[str, Counts]) -> Counts:
    """All kinds pooled: each span weighs the same (micro average)."""
    return sum(counts.values(), Counts())


def _of(kind: str, spans: Sequence[Span]) -> list[Span]:
    return [span for span in spans if span[0] == kind]


def _matched(there: list[Span], found: list[Span], enough: float) -> Counts:
    left = list(found)
    for span in there:
        best = max(left, key=lambda other: _common(span, other), default=None)
        if best is not None and _common(span, best) >= enough:
            left.remove(best)
    right = len(found) - len(left)
    return Counts(right, len(left), len(there) - right)


def _common(one: Span, other: Span) -> float:
    """Characters that both cover, by those that either covers."""
    common = min(one[2], other[2]) - max(one[1], other[1])
    return max(0, common) / (max(one[2], other[2]) - min(one[1], other[1]))
